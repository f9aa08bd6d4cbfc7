"""PandaLM's test set: testset-v1.json with three annotators, and files of judges' verdicts on it by `idx` (2306.05087)."""

from __future__ import annotations

from collections.abc import Sequence

from reports.foreign.rows import Row
from reports.judgments.judgment import Format, Judgment, Read, digest, style_of

_LABELS = {"1": 1.0, "2": 0.0, "0": 0.5, "Tie": 0.5, "garbage": None}
_RESULT = "_result"


def _read(rows: Sequence[Row]) -> Read:
    items: dict[str, tuple[str, str, str, str]] = {}
    for row in (r for r in rows if "annotator1" in r.values):
        models = row.text("cmp_key").split("_")
        if len(models) != 2:
            raise row.error(
                f"cmp_key is {row.text('cmp_key')!r}; it must be the names of two models with one _ between"
            )
        index = row.text("idx")
        answers = [style_of(str(row.need(f"response{i}"))) for i in (1, 2)]
        group = digest(str(row.need("instruction")), str(row.need("input")))
        items[index] = (index, *models, group)  # type: ignore[assignment]
        for key in (key for key in row.values if key.startswith("annotator")):
            yield row, Judgment(
                key, index, *models, row.choice(key, _LABELS), human=True, group=group,
                style_first=answers[0], style_second=answers[1],
            )  # fmt: skip
    for row in (r for r in rows if "annotator1" not in r.values):
        key = next((key for key in row.values if key.endswith(_RESULT)), None)
        if key is None:
            raise row.error(f"no key that ends in {_RESULT}; is it a file of verdicts on PandaLM's test set?")
        if row.text("idx") not in items:
            raise row.error(f"idx {row.text('idx')} is not in the test set; give testset-v1.json with the verdicts")
        index, first, second, group = items[row.text("idx")]
        yield row, Judgment(row.path.stem, index, first, second, row.choice(key, _LABELS), group=group)


FORMAT = Format("PandaLM", (frozenset(("idx", "cmp_key", "annotator1")), frozenset(("idx", "gpt_result")),
                            frozenset(("idx", "pandalm_result"))), _read)  # fmt: skip

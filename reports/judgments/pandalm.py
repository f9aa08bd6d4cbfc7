"""PandaLM's test set: testset-v1.json with three annotators, and files of judges' verdicts on it by `idx` (2306.05087)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from reports.foreign.rows import Row
from reports.judgments.judgment import Format, Judgment, Read, digest, style_of

_LABELS = {"1": 1.0, "2": 0.0, "0": 0.5, "Tie": 0.5, "garbage": None}
_RESULT = "_result"


def _read(rows: Sequence[Row]) -> Read:
    items: dict[str, Judgment] = {}
    for row in (r for r in rows if "annotator1" in r.values):
        models = row.text("cmp_key").split("_")
        if len(models) != 2:
            raise row.error(
                f"cmp_key is {row.text('cmp_key')!r}; it must be the names of two models with one _ between"
            )
        index, asked = row.text("idx"), digest(str(row.need("instruction")), str(row.need("input")))
        mine, theirs = (style_of(str(row.need(f"response{i}"))) for i in (1, 2))
        items[index] = Judgment(
            "", index, models[0], models[1], None, human=True, group=asked, style_first=mine, style_second=theirs
        )
        for name in (name for name in row.values if name.startswith("annotator")):
            yield row, replace(items[index], judge=name, preference=row.choice(name, _LABELS))
    for row in (r for r in rows if "annotator1" not in r.values):
        key = next((key for key in row.values if key.endswith(_RESULT)), None)
        if key is None:
            raise row.error(f"no key that ends in {_RESULT}; is it a file of verdicts on PandaLM's test set?")
        if row.text("idx") not in items:
            raise row.error(f"idx {row.text('idx')} is not in the test set; give testset-v1.json with the verdicts")
        judge, said = row.path.stem, row.choice(key, _LABELS)
        yield row, replace(items[row.text("idx")], judge=judge, preference=said, human=False)


FORMAT = Format("PandaLM", (frozenset(("idx", "cmp_key", "annotator1")), frozenset(("idx", "gpt_result")),
                            frozenset(("idx", "pandalm_result"))), _read)  # fmt: skip

"""AlpacaEval: annotations.json, or its columns model, row, preference, len_output_1, len_output_2 as a table.

`preference` is 1 for output_1 (the baseline's), 2 for output_2 (the model's) and anything between where the judge's
probabilities weigh the verdict; 0 or 1.5 is a draw, null is no verdict (github.com/tatsu-lab/alpaca_eval).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from reports.foreign.rows import Row
from reports.judgments.judgment import Format, Judgment, Read, Style, digest, style_of


def _read(rows: Sequence[Row]) -> Read:
    seen: Counter[tuple[str, ...]] = Counter()
    for row in rows:
        said = row.number("preference", 0, 2)
        if said is not None and 0 < said < 1:
            raise row.error(f"preference is {said}; AlpacaEval's is 0 (a draw) or in 1..2 (2: output_2 is better)")
        preference = None if said is None else 0.5 if said == 0 else said - 1
        if "generator_1" in row.values:
            model, baseline, prompt = row.text("generator_2"), row.text("generator_1"), digest(row.text("instruction"))
            styles = [style_of(str(row.values.get(f"output_{i}") or "")) for i in (2, 1)]
            judge = row.text("annotator", row.path.stem)
            # The set asks a few instructions twice.
            seen[judge, model, prompt] += 1
            sample = str(seen[judge, model, prompt] - 1)
            prompt = prompt if sample == "0" else f"{prompt}#{sample}"
        else:
            model, baseline, prompt, judge = row.text("model"), "baseline", row.text("row"), "annotator"
            lengths = [row.number(f"len_output_{i}", 0) for i in (2, 1)]
            styles = [Style(length) for length in lengths if length is not None]
        mine, theirs = styles if len(styles) == 2 else (None, None)
        yield row, Judgment(judge, prompt, model, baseline, preference, style_first=mine, style_second=theirs)


FORMAT = Format(
    "AlpacaEval", (frozenset(("instruction", "generator_1", "generator_2", "preference")),
                   frozenset(("model", "row", "preference"))), _read,
)  # fmt: skip

"""LLMBar: evaluators/<judge>/<prompting>/result.json, each pair shown in both orders (2310.07641).

`winner` names the output, whichever stood first. The label that the authors agreed on stands beside it as the judge `gold`.
"""

from __future__ import annotations

from collections.abc import Sequence

from reports.foreign.rows import Row
from reports.judgments.judgment import Format, Judgment, Read, digest, style_of

GOLD = "gold"
_WINNERS = {"1": 1.0, "2": 0.0}
_ORDERS = ("swap = False", "swap = True")


def _read(rows: Sequence[Row]) -> Read:
    labelled: set[str] = set()
    for row in rows:
        texts = [str(row.need(key)) for key in ("input", "output_1", "output_2")]
        prompt = f"{row.place}-{digest(*texts)}"
        styles = [style_of(text) for text in texts[1:]]
        if prompt not in labelled:
            labelled.add(prompt)
            yield row, Judgment(GOLD, prompt, "output_1", "output_2", row.choice("label", _WINNERS), human=True)
        parents = row.path.resolve().parts[-3:-1]
        judge = "/".join(parents) if row.path.stem == "result" else row.path.stem
        results = row.need("results")
        if not isinstance(results, list) or not all(isinstance(r, dict) and {*_ORDERS} <= r.keys() for r in results):
            raise row.error(f"results must list objects with {_ORDERS[0]!r} and {_ORDERS[1]!r}; evaluate it again")
        for sample, result in enumerate(results):
            orders = [_WINNERS.get(str((result[key] or {}).get("winner"))) for key in _ORDERS]
            forward, backward = orders
            both = None if forward is None or backward is None else (forward + backward) / 2
            yield row, Judgment(
                judge, prompt, "output_1", "output_2", both, forward, backward, sample=str(sample),
                style_first=styles[0], style_second=styles[1],
            )  # fmt: skip


FORMAT = Format("LLMBar", (frozenset(("input", "output_1", "output_2", "label", "results")),), _read)

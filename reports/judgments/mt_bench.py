"""MT-Bench: <judge>_pair.jsonl of FastChat, and the released judgments of people and of GPT-4 (2306.05685).

As FastChat counts them, a pair is won where both orders say so, and a tie where they differ.
"""

from __future__ import annotations

from collections.abc import Sequence

from reports.foreign.rows import Row
from reports.judgments.judgment import Format, Judgment, Read, Style, agreed, style_of

_GAMES = {"model_1": 1.0, "model_2": 0.0, "tie": 0.5, "error": None}
_WINNERS = {"model_a": 1.0, "model_b": 0.0, "tie": 0.5, "tie (inconsistent)": 0.5}
#: How the released files call their judges who are people.
_PEOPLE = ("author", "expert")


def _said(row: Row, key: str) -> Style | None:
    """The style of the answers in a conversation up to the turn that was judged."""
    turns = row.values.get(key)
    if not isinstance(turns, list):
        return None
    answers = [str(turn.get("content")) for turn in turns if isinstance(turn, dict) and turn.get("role") == "assistant"]
    return style_of("\n".join(answers[: int(row.number("turn", 1) or 1)]))


def _read(rows: Sequence[Row]) -> Read:
    for row in rows:
        question = row.text("question_id")
        prompt = f"{question}/turn {row.text('turn', '1')}"
        named = row.values.get("judge") or row.path.stem
        judge = " ".join(map(str, named)) if isinstance(named, list) else str(named)
        if "g1_winner" in row.values:
            forward, backward = (row.choice(key, _GAMES) for key in ("g1_winner", "g2_winner"))
            models, preference = (row.text("model_1"), row.text("model_2")), agreed(forward, backward)
            yield row, Judgment(judge, prompt, *models, preference, forward, backward, group=question)
        else:
            models = row.text("model_a"), row.text("model_b")
            styles = [_said(row, f"conversation_{side}") for side in "ab"]
            yield row, Judgment(
                judge, prompt, *models, row.choice("winner", _WINNERS), human=judge.startswith(_PEOPLE), group=question,
                style_first=styles[0], style_second=styles[1],
            )  # fmt: skip


FORMAT = Format(
    "MT-Bench", (frozenset(("question_id", "model_1", "model_2", "g1_winner", "g2_winner")),
                 frozenset(("question_id", "model_a", "model_b", "winner"))), _read,
)  # fmt: skip

"""Arena-Hard: model_judgment/<judge>/<model>.jsonl of versions 0.1 and 2.0 (github.com/lmarena/arena-hard-auto).

A row holds two games: the baseline is A in the first, the model in the second. A strong verdict (`A>>B`) counts as three,
as in its show_result.py; a row of which a game has no score is left out whole, as there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from reports.foreign.rows import Row
from reports.judgments.judgment import Format, Judgment, Read

STRONG = 3
#: Baselines of files that do not name theirs (version 0.1).
BASELINE = "gpt-4-0314"
#: Preference for A, and how often it counts.
SCORES = {
    "A>B": (1.0, 1), "A>>B": (1.0, STRONG), "A=B": (0.5, 1), "A<B": (0.0, 1), "A<<B": (0.0, STRONG),
    "B>A": (0.0, 1), "B>>A": (0.0, STRONG), "B=A": (0.5, 1), "B<A": (1.0, 1), "B<<A": (1.0, STRONG),
}  # fmt: skip


def _game(row: Row, game: object) -> tuple[float, int] | None:
    score = game.get("score") if isinstance(game, Mapping) else None
    return None if score is None else row.choice("score", SCORES, score)


def _read(rows: Sequence[Row]) -> Read:
    for row in rows:
        games = row.need("games")
        if not isinstance(games, list) or len(games) != 2:
            raise row.error("games must hold two games, one for each order of the answers; judge the pair again")
        prompt = row.text("question_id") if "question_id" in row.values else row.text("uid")
        model, baseline = row.text("model"), row.text("baseline", BASELINE)
        judge = row.text("judge", row.path.parent.name or "judge")
        one, two = (_game(row, game) for game in games)
        if one is None or two is None:
            yield row, Judgment(judge, prompt, model, baseline, None)
            continue
        counted = [two[0]] * two[1] + [1 - one[0]] * one[1]
        for sample, preference in enumerate(counted):
            forward, backward = (two[0], 1 - one[0]) if sample == 0 else (None, None)  # the orders are compared once
            yield row, Judgment(judge, prompt, model, baseline, preference, forward, backward, sample=str(sample))


FORMAT = Format("Arena-Hard", (frozenset(("games", "model")),), _read)

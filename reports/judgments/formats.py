"""The formats of judgments of others, one function each: what a file of it looks like, and the verdicts that it holds.

A new one is a function of rows and a Format, named in FORMATS.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from reports.foreign.rows import Row, keys_of, read_rows
from reports.judgments.judgment import Format, Judgment, Read, Style, agreed, digest, style_of
from reports.runs.records import ReportError

# AlpacaEval: annotations.json, or its columns model, row, preference, len_output_1, len_output_2 as a table.
#
# `preference` is 1 for output_1 (the baseline's), 2 for output_2 (the model's) and anything between where the judge's
# probabilities weigh the verdict; 0 or 1.5 is a draw, null is no verdict (github.com/tatsu-lab/alpaca_eval).


def _alpaca_eval(rows: Sequence[Row]) -> Read:
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


ALPACA_EVAL = Format(
    "AlpacaEval", (frozenset(("instruction", "generator_1", "generator_2", "preference")),
                   frozenset(("model", "row", "preference"))), _alpaca_eval,
)  # fmt: skip


# Arena-Hard: model_judgment/<judge>/<model>.jsonl of versions 0.1 and 2.0 (github.com/lmarena/arena-hard-auto).
#
# A row holds two games: the baseline is A in the first, the model in the second. A strong verdict (`A>>B`) counts as
# three, as in its show_result.py; a row of which a game has no score is left out whole, as there.


STRONG = 3
#: Baselines of files that do not name theirs (version 0.1).
BASELINE = "gpt-4-0314"
#: Preference for A, and how often it counts.
SCORES = {
    "A>B": (1.0, 1), "A>>B": (1.0, STRONG), "A=B": (0.5, 1), "A<B": (0.0, 1), "A<<B": (0.0, STRONG),
    "B>A": (0.0, 1), "B>>A": (0.0, STRONG), "B=A": (0.5, 1), "B<A": (1.0, 1), "B<<A": (1.0, STRONG),
}  # fmt: skip


def _arena_hard(rows: Sequence[Row]) -> Read:
    for row in rows:
        games = row.need("games")
        if not isinstance(games, list) or len(games) != 2:
            raise row.error("games must hold two games, one for each order of the answers; judge the pair again")
        prompt = row.text("question_id") if "question_id" in row.values else row.text("uid")
        model, baseline = row.text("model"), row.text("baseline", BASELINE)
        judge = row.text("judge", row.path.parent.name or "judge")
        scores = [game.get("score") if isinstance(game, Mapping) else None for game in games]
        one, two = (None if score is None else row.choice("score", SCORES, score) for score in scores)
        if one is None or two is None:
            yield row, Judgment(judge, prompt, model, baseline, None)
            continue
        counted = [two[0]] * two[1] + [1 - one[0]] * one[1]
        for sample, preference in enumerate(counted):
            forward, backward = (two[0], 1 - one[0]) if sample == 0 else (None, None)  # the orders are compared once
            yield row, Judgment(judge, prompt, model, baseline, preference, forward, backward, sample=str(sample))


ARENA_HARD = Format("Arena-Hard", (frozenset(("games", "model")),), _arena_hard)


# MT-Bench: <judge>_pair.jsonl of FastChat, and the released judgments of people and of GPT-4 (2306.05685).
#
# As FastChat counts them, a pair is won where both orders say so, and a tie where they differ.


_GAMES = {"model_1": 1.0, "model_2": 0.0, "tie": 0.5, "error": None}
_WINNERS_OF_MT_BENCH = {"model_a": 1.0, "model_b": 0.0, "tie": 0.5, "tie (inconsistent)": 0.5}
#: How the released files call their judges who are people.
_PEOPLE = ("author", "expert")


def _said(row: Row, key: str) -> Style | None:
    """The style of the answers in a conversation up to the turn that was judged."""
    turns = row.values.get(key)
    if not isinstance(turns, list):
        return None
    answers = [str(turn.get("content")) for turn in turns if isinstance(turn, dict) and turn.get("role") == "assistant"]
    return style_of("\n".join(answers[: int(row.number("turn", 1) or 1)]))


def _mt_bench(rows: Sequence[Row]) -> Read:
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
                judge, prompt, *models, row.choice("winner", _WINNERS_OF_MT_BENCH), human=judge.startswith(_PEOPLE),
                group=question, style_first=styles[0], style_second=styles[1],
            )  # fmt: skip


MT_BENCH = Format(
    "MT-Bench", (frozenset(("question_id", "model_1", "model_2", "g1_winner", "g2_winner")),
                 frozenset(("question_id", "model_a", "model_b", "winner"))), _mt_bench,
)  # fmt: skip


# LLMBar: evaluators/<judge>/<prompting>/result.json, each pair shown in both orders (2310.07641).
#
# `winner` names the output, whichever stood first. The label that the authors agreed on stands beside it as the judge
# `gold`.


GOLD = "gold"
_WINNERS_OF_LLMBAR = {"1": 1.0, "2": 0.0}
_ORDERS = ("swap = False", "swap = True")


def _llmbar(rows: Sequence[Row]) -> Read:
    labelled: set[str] = set()
    for row in rows:
        texts = [str(row.need(key)) for key in ("input", "output_1", "output_2")]
        prompt = f"{row.place}-{digest(*texts)}"
        styles = [style_of(text) for text in texts[1:]]
        if prompt not in labelled:
            labelled.add(prompt)
            yield (
                row,
                Judgment(GOLD, prompt, "output_1", "output_2", row.choice("label", _WINNERS_OF_LLMBAR), human=True),
            )
        parents = row.path.resolve().parts[-3:-1]
        judge = "/".join(parents) if row.path.stem == "result" else row.path.stem
        results = row.need("results")
        if not isinstance(results, list) or not all(
            isinstance(r, dict) and not r.keys().isdisjoint(_ORDERS) for r in results
        ):
            raise row.error(f"results must list objects with {_ORDERS[0]!r} and {_ORDERS[1]!r}; evaluate it again")
        for sample, result in enumerate(results):
            forward, backward = (_WINNERS_OF_LLMBAR.get(str((result.get(key) or {}).get("winner"))) for key in _ORDERS)
            both = None if forward is None or backward is None else (forward + backward) / 2
            yield row, Judgment(
                judge, prompt, "output_1", "output_2", both, forward, backward, sample=str(sample),
                style_first=styles[0], style_second=styles[1],
            )  # fmt: skip


LLMBAR = Format("LLMBar", (frozenset(("input", "output_1", "output_2", "label", "results")),), _llmbar)


# PandaLM's test set: testset-v1.json with three annotators, and files of judges' verdicts on it by `idx`
# (2306.05087).


_LABELS = {"1": 1.0, "2": 0.0, "0": 0.5, "Tie": 0.5, "garbage": None}
_RESULT = "_result"


def _pandalm(rows: Sequence[Row]) -> Read:
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
            yield row, items[index]._replace(judge=name, preference=row.choice(name, _LABELS))
    for row in (r for r in rows if "annotator1" not in r.values):
        key = next((key for key in row.values if key.endswith(_RESULT)), None)
        if key is None:
            raise row.error(f"no key that ends in {_RESULT}; is it a file of verdicts on PandaLM's test set?")
        if row.text("idx") not in items:
            raise row.error(f"idx {row.text('idx')} is not in the test set; give testset-v1.json with the verdicts")
        judge, said = row.path.stem, row.choice(key, _LABELS)
        yield row, items[row.text("idx")]._replace(judge=judge, preference=said, human=False)


PANDALM = Format("PandaLM", (frozenset(("idx", "cmp_key", "annotator1")), frozenset(("idx", "gpt_result")),
                            frozenset(("idx", "pandalm_result"))), _pandalm)  # fmt: skip


# A table of one's own: a row a verdict, with the columns prompt_id, first, second, preference.
#
# `preference` is that for `first`: a number in 0..1, or one of the words first, second, tie; empty without a verdict.
# Columns that may be there: judge, human (1 or 0), sample, group, forward and backward (the preference of each order
# of the answers), length_first and length_second (characters).


_WORDS = {"first": 1.0, "second": 0.0, "tie": 0.5}
_BOOLEANS = {"0": False, "1": True, "False": False, "True": True, "": False}


def _preference(row: Row, key: str) -> float | None:
    word = str(row.values.get(key) or "").strip()
    return _WORDS[word] if word in _WORDS else row.number(key, 0, 1)


def _table(rows: Sequence[Row]) -> Read:
    for row in rows:
        said, forward, backward = (_preference(row, key) for key in ("preference", "forward", "backward"))
        lengths = [row.number(f"length_{side}", 0) for side in ("first", "second")]
        styles = [None if length is None else Style(length) for length in lengths]
        yield row, Judgment(
            row.text("judge", row.path.stem), row.text("prompt_id"), row.text("first"), row.text("second"), said,
            forward, backward, human=row.choice("human", _BOOLEANS, row.values.get("human") or ""),
            sample=row.text("sample", "0"), group=row.text("group", row.text("prompt_id")),
            style_first=styles[0], style_second=styles[1],
        )  # fmt: skip


TABLE = Format("table", (frozenset(("prompt_id", "first", "second", "preference")),), _table)


# The formats of judgments that are read; a new one is a function with a Format, and its name here.


FORMATS: tuple[Format, ...] = (ALPACA_EVAL, ARENA_HARD, MT_BENCH, LLMBAR, PANDALM, TABLE)


def _format_of(path: Path, keys: frozenset[str]) -> Format:
    found = next((f for f in FORMATS if any(wanted <= keys for wanted in f.keys)), None)
    if found is None:
        if {"question_id", "model", "score"} <= keys:
            raise ReportError(
                f"{path}: scores of single answers; compare them: compare-scores {path} --id question_id,turn"
            )
        known = "; ".join(f"{f.name}: {', '.join(sorted(f.keys[0]))}" for f in FORMATS)
        raise ReportError(f"{path}:1: of no known format; the keys are {', '.join(sorted(keys))}. Known: {known}")
    return found


def read_judgments(paths: Sequence[Path]) -> tuple[str, list[Judgment]]:
    """The format of the files, and their verdicts.

    Raises:
        ReportError: a file of no known format, files of two formats, a bad value, a verdict given twice, a model against
            itself. The message names file, row, key and fix.
    """
    tables = [read_rows(path) for path in paths]
    formats = [_format_of(path, frozenset(keys_of(rows))) for path, rows in zip(paths, tables, strict=True)]
    other = next((i for i, one in enumerate(formats) if one is not formats[0]), None)
    if other is not None:
        raise ReportError(
            f"{paths[0]} is of {formats[0].name} and {paths[other]} of {formats[other].name}; give the files of one at a time"
        )
    found: dict[tuple[str, ...], Judgment] = {}
    for row, one in formats[0].read([row for rows in tables for row in rows]):
        if one.first == one.second:
            raise row.error(f"{one.first!r} is compared with itself; give two models")
        key = (one.judge, one.prompt_id, one.sample, *sorted((one.first, one.second)))
        if key in found:
            raise row.error(
                f"{one.judge} judges {one.first} and {one.second} twice on prompt {one.prompt_id[:60]!r}; keep one row"
            )
        found[key] = one
    return formats[0].name, list(found.values())

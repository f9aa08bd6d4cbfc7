"""The page that inspect-data prints: 80 columns, also where characters are two columns wide."""

import re
import textwrap
from typing import NamedTuple

from rich.console import Console
from rich.text import Text

from harness.commands.data.learnability import Learnability
from reports.page.text import plain_table, shorten, visible
from trainers.common import Json

_WIDTH = 80
#: Characters of a turn shown in a sample.
_SHOWN = 400
#: Lines of trouble that are read at once; more of them begin with a summary, and the most lines of that.
_FEW, _SUMMARY = 4, 6
_KINDS = {
    "identical": "with identical answers",
    "empty": "with an empty or missing text",
    "tied": "with tied scores",
    "one_answer": "with one answer only",
}
_TURNS = {
    "several_questions": "with several questions",
    "with_system": "with a system text",
    "answers_of_several_turns": "with answers of several turns",
}
#: What trainers.formats.scripts.encoding_trouble finds.
_TROUBLE = {
    "markup": "chat markup (a chat template is put around these texts once more)",
    "replacement": "characters lost (U+FFFD)",
    "mojibake": "UTF-8 read as another encoding",
    "control": "control characters",
    "invisible": "invisible characters",
    "entity": "HTML entities",
}


class Line(NamedTuple):
    """A text that may fill several lines of the page."""

    text: str = ""
    indent: int = 2
    style: str = ""


def print_page(result: Json) -> None:
    """Print the figures of every source, then the overlaps between them."""
    console = Console(width=_WIDTH, highlight=False, markup=False, emoji=False)
    lines = [line for report in result["sources"] for line in _source(report)]
    for one in result["overlaps"]:
        shares = f" ({_percent(one['share_of_a'])} and {_percent(one['share_of_b'])} of them)" if one["prompts"] else ""
        loosely = f"{one['prompts_loosely']} but for case and space; {one['pairs']} pairs in both"
        lines += [Line(f"{one['a']} and {one['b']}:", 0), Line(f"{one['prompts']} prompts in both{shares}, {loosely}")]
    for line in lines:
        for part in Text(visible(line.text)).wrap(console, _WIDTH - line.indent, overflow="fold") or [Text()]:
            console.print((" " * line.indent + part.plain).rstrip(), style=line.style, soft_wrap=True)


def _source(report: Json) -> list[Line]:
    groups, turns = report["groups"], report["turns"]
    told = [f"{turns[key]:,} {what}" for key, what in _TURNS.items() if turns[key]]
    lines = [
        Line(report["source"], 0, "bold"),
        Line(f"format: {report['format']['title']} ({report['format']['name']})"),
        Line(
            f"{'the first ' if report['first_rows_only'] else ''}{report['rows']:,} rows, {report['pairs']:,} pairs, "
            f"{report['prompts']:,} prompts; a split keeps "
            f"{groups['kept_together']:,} groups whole, the largest of {groups['largest']:,} pairs"
        ),
        *_trouble(report),
        *([Line("conversations: " + ", ".join(told))] if told else []),
        *(Line(message, 4) for message in report["problems"]["first"]),
    ]
    return [*lines, *(_figures(report) if report["pairs"] else [Line()])]


def _figures(report: Json) -> list[Line]:
    groups, doubles = report["groups"], report["duplicates"]
    lengths = [
        [f"{side}, {unit}", *(f"{values[key]:,.0f}" for key in ("mean", "median", "p5", "p95", "max"))]
        for unit, sides in report["lengths"].items()
        for side, values in sides.items()
    ]
    bias = [
        [unit, *(_percent(one[f"{side}_longer"]) for side in ("chosen", "rejected"))]
        + [f"{one[f'{middle}_difference']:+,.1f}" for middle in ("mean", "median")]
        for unit, one in report["length_bias"].items()
    ]
    header = ["length bias", "chosen longer", "rejected longer", "mean diff.", "median diff."]
    shares = report["scripts"]
    scripts = [f"{script} {_percent(share)}" for script, share in list(shares.items())[:8]] or ["no letters"]
    scripts += [f"{len(shares) - 8} more"] if len(shares) > 8 else []
    return [
        Line(),
        *map(Line, plain_table(["length", "mean", "median", "5 %", "95 %", "max"], lengths).splitlines()),
        Line(),
        *map(Line, plain_table(header, bias).splitlines()),
        Line(),
        Line(
            f"doubles: {doubles['repeated_pairs']:,} repeated pairs ({doubles['repeated_pairs_loosely']:,} but for case and "
            f"space), {doubles['contradictions']:,} pairs also the other way round, "
            f"{doubles['answers_equal_but_for_space_or_case']:,} with answers equal but for case and space"
        ),
        Line(
            f"prompts: {doubles['prompts_with_several_pairs']:,} with several pairs (at most "
            f"{doubles['most_pairs_of_a_prompt']:,}), {groups['prompts_in_several']:,} in several of the data's groups"
        ),
        Line("scripts: " + ", ".join(scripts)),
        Line(_perplexity(report["prompt_perplexity"])),
        *_learnability(report["learnability"]),
        Line(),
        *(line for n, sample in enumerate(report["samples"], start=1) for line in _sample(n, sample)),
    ]


def _trouble(report: Json) -> list[Line]:
    """What a user needs to see first: rows that are no pairs, and what is wrong with those that are."""
    problems, told = report["problems"], [*report["notes"], *report["tokens"]]
    if problems["rows"]:
        kinds = [f"{problems[kind]:,} {what}" for kind, what in _KINDS.items() if problems[kind]]
        none = f"; {problems['without_preference']:,} have no preference (without_preference: drop leaves these out): "
        told.insert(
            0, f"{problems['rows']:,} rows cannot be used (listed below){none + ', '.join(kinds) if kinds else ''}"
        )
    found = {kind: one for kind, one in report["encoding"].items() if one["pairs"]}
    told += [f"{_TROUBLE[kind]} in {one['pairs']:,}, first in {one['first']}" for kind, one in found.items()]
    fine = [Line("trouble in the texts: none")] if not found and report["pairs"] else []
    if sum(1 + len(text) // _WIDTH for text in told) > _FEW:
        told.insert(0, _summary([text.removeprefix(f"{report['source']}: ") for text in told]))
    return [*(Line(text, 2, "yellow") for text in told), *fine]


def _summary(told: list[str]) -> str:
    """All that was told, without places and reasons, in the first lines of the page."""
    longest = (_SUMMARY - 1) * (_WIDTH - 2) // len(told) - 2
    short = (re.sub(r" \([^)]*\)", "", text).partition(", first in ")[0] for text in told)
    return "in short: " + "; ".join(textwrap.shorten(text, longest, placeholder=" ...") for text in short)


def _perplexity(found: Json) -> str:
    values = found["values"]
    if values is None:
        return f"prompt perplexity: not measured ({found['reason']})"
    return (
        f"prompt perplexity of {found['prompts']} of {found['of']:,} prompts: median {values['median']:.3g}, 5 % "
        f"{values['p5']:.3g}, 95 % {values['p95']:.3g}, largest {values['max']:.3g}"
    )


def _learnability(found: Learnability | None) -> list[Line]:
    if found is None:
        return []
    run = f"{found.steps} DPO steps on {found.n_train} pairs, {found.model}, {found.measured[:10]}"
    warning = [] if found.warning is None else [Line(found.warning, 2, "yellow")]
    return [Line(f"learnability: {found.text}; {run}"), *warning]


def _sample(number: int, sample: Json) -> list[Line]:
    sides = (("prompt", ""), ("chosen", "green"), ("rejected", "red"))
    turns = [
        line
        for side, style in sides
        for turn in sample[side]
        for line in (Line(f"{side} / {turn['role']}:", 4, style), Line(shorten(turn["content"], _SHOWN), 6))
    ]
    return [Line(f"sample {number}: {sample['id']} ({sample['where']})", 2, "bold"), *turns, Line()]


def _percent(share: float | None) -> str:
    """A share in percent; one that is not quite 0 or 100 does not look so."""
    if share is None:
        return "-"
    if 0 < share < 0.001:
        return "< 0.1 %"
    return "> 99.9 %" if 0.999 < share < 1 else f"{share:.1%}".replace("%", " %")

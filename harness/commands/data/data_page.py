"""The page that inspect-data prints: 80 columns, also where characters are two columns wide."""

from __future__ import annotations

from rich.console import Console
from rich.text import Text

from harness.commands.data.learnability import Learnability
from reports.page.text import plain_table, shorten, visible
from trainers.common import Json

_WIDTH = 80
#: Characters of a turn shown in a sample.
_SHOWN = 400
_KINDS = {
    "identical": "with identical answers",
    "empty": "with an empty or missing text",
    "tied": "with tied scores",
    "one_answer": "with one answer only",
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


def print_page(result: Json) -> None:
    """Print the figures of every source, then the overlaps between them."""
    console = Console(width=_WIDTH, highlight=False, markup=False, emoji=False)
    for report in result["sources"]:
        _source(console, report)
    for one in result["overlaps"]:
        _say(console, f"{one['a']} and {one['b']}:")
        line = f"{one['prompts']} prompts in both"
        if one["prompts"]:
            line += f" ({_percent(one['share_of_a'])} and {_percent(one['share_of_b'])} of them)"
        _say(console, f"{line}, {one['prompts_loosely']} but for case and space; {one['pairs']} pairs in both", 2)


def _say(console: Console, text: str, indent: int = 0, style: str = "") -> None:
    for line in Text(visible(text)).wrap(console, _WIDTH - indent, overflow="fold"):
        console.print(" " * indent + line.plain.rstrip(), style=style, soft_wrap=True)


def _source(console: Console, report: Json) -> None:
    groups, turns, doubles = report["groups"], report["turns"], report["duplicates"]
    _say(console, report["source"], style="bold")
    _say(console, f"format: {report['format']['title']} ({report['format']['name']})", 2)
    _say(
        console,
        f"{'the first ' if report['first_rows_only'] else ''}{report['rows']:,} rows, {report['pairs']:,} pairs, "
        f"{report['prompts']:,} prompts; a split keeps "
        f"{groups['kept_together']:,} groups whole, the largest of {groups['largest']:,} pairs",
        2,
    )
    _trouble(console, report)
    parts = [("several_questions", "with several questions"), ("with_system", "with a system text")]
    parts += [("answers_of_several_turns", "with answers of several turns")]
    told = [f"{turns[key]:,} {what}" for key, what in parts if turns[key]]
    if told:
        _say(console, "conversations: " + ", ".join(told), 2)
    for message in report["problems"]["first"]:
        _say(console, message, 4)
    if not report["pairs"]:
        console.print()
        return
    rows = [
        [f"{side}, {unit}", *(f"{values[key]:,.0f}" for key in ("mean", "median", "p5", "p95", "max"))]
        for unit, sides in report["lengths"].items()
        for side, values in sides.items()
    ]
    console.print()
    console.print(_indented(plain_table(["length", "mean", "median", "5 %", "95 %", "max"], rows)))
    console.print()
    bias = [
        [unit, *(_percent(one[f"{side}_longer"]) for side in ("chosen", "rejected"))]
        + [f"{one[f'{middle}_difference']:+,.1f}" for middle in ("mean", "median")]
        for unit, one in report["length_bias"].items()
    ]
    header = ["length bias", "chosen longer", "rejected longer", "mean diff.", "median diff."]
    console.print(_indented(plain_table(header, bias)))
    console.print()
    _say(
        console,
        f"doubles: {doubles['repeated_pairs']:,} repeated pairs ({doubles['repeated_pairs_loosely']:,} but for case and "
        f"space), {doubles['contradictions']:,} pairs also the other way round, "
        f"{doubles['answers_equal_but_for_space_or_case']:,} with answers equal but for case and space",
        2,
    )
    _say(
        console,
        f"prompts: {doubles['prompts_with_several_pairs']:,} with several pairs (at most "
        f"{doubles['most_pairs_of_a_prompt']:,}), {groups['prompts_in_several']:,} in several of the data's groups",
        2,
    )
    _say(console, "scripts: " + ", ".join(_scripts(report["scripts"])), 2)
    _perplexity(console, report["prompt_perplexity"])
    _learnability(console, report["learnability"])
    console.print()
    for number, sample in enumerate(report["samples"], start=1):
        _sample(console, number, sample)


def _trouble(console: Console, report: Json) -> None:
    """What a user needs to see first: rows that are no pairs, and what is wrong with those that are."""
    problems = report["problems"]
    if problems["rows"]:
        kinds = [f"{problems[kind]:,} {what}" for kind, what in _KINDS.items() if problems[kind]]
        none = f"; {problems['without_preference']:,} have no preference (without_preference: drop leaves these out): "
        told = f"{problems['rows']:,} rows cannot be used (listed below){none + ', '.join(kinds) if kinds else ''}"
        _say(console, told, 2, "yellow")
    for note in [*report["notes"], *report["tokens"]]:
        _say(console, note, 2, "yellow")
    trouble = [(kind, one) for kind, one in report["encoding"].items() if one["pairs"]]
    for kind, one in trouble:
        _say(console, f"{_TROUBLE[kind]} in {one['pairs']:,}, first in {one['first']}", 2, "yellow")
    if not trouble and report["pairs"]:
        _say(console, "trouble in the texts: none", 2)


def _scripts(shares: dict[str, float]) -> list[str]:
    shown = [f"{script} {_percent(share)}" for script, share in list(shares.items())[:8]]
    return [*shown, f"{len(shares) - 8} more"] if len(shares) > 8 else shown or ["no letters"]


def _perplexity(console: Console, found: Json) -> None:
    values = found["values"]
    if values is None:
        _say(console, f"prompt perplexity: not measured ({found['reason']})", 2)
        return
    _say(
        console,
        f"prompt perplexity of {found['prompts']} of {found['of']:,} prompts: median {values['median']:.3g}, 5 % "
        f"{values['p5']:.3g}, 95 % {values['p95']:.3g}, largest {values['max']:.3g}",
        2,
    )


def _learnability(console: Console, found: Learnability | None) -> None:
    if found is not None:
        run = f"{found.steps} DPO steps on {found.n_train} pairs, {found.model}, {found.measured[:10]}"
        _say(console, f"learnability: {found.text}; {run}", 2)
    if found is not None and found.warning is not None:
        _say(console, found.warning, 2, "yellow")


def _sample(console: Console, number: int, sample: Json) -> None:
    _say(console, f"sample {number}: {sample['id']} ({sample['where']})", 2, "bold")
    for side, style in (("prompt", ""), ("chosen", "green"), ("rejected", "red")):
        for turn in sample[side]:
            _say(console, f"{side} / {turn['role']}:", 4, style)
            _say(console, shorten(turn["content"], _SHOWN), 6)
    console.print()


def _indented(table: str) -> str:
    return "\n".join(f"  {line}" for line in table.splitlines())


def _percent(share: float | None) -> str:
    """A share in percent; one that is not quite 0 or 100 does not look so."""
    if share is None:
        return "-"
    if 0 < share < 0.001:
        return "< 0.1 %"
    if 0.999 < share < 1:
        return "> 99.9 %"
    return f"{share:.1%}".replace("%", " %")

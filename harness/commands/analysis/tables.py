"""Verbs that print what tables of others say: compare-scores and judgments. Neither needs torch."""

import argparse

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from harness.commands.options import print_json
from reports.foreign.compare_scores import score_tables
from reports.judgments.analysis import judgments_summary
from reports.runs.records import ReportError
from reports.schema.base import Estimate
from reports.schema.judges import JudgeTable, ModelPair, ScoreComparison
from trainers.common.words import nearest


def compare_scores(options: argparse.Namespace) -> int:
    """Read, compare and print."""
    found = score_tables(options.files, options.id, options.score, options.cluster, options.baseline)
    if options.json:
        print_json(found.plain())
        return 0
    out = Console(highlight=False, soft_wrap=True)
    for one in found.comparisons:
        for line in _lines(one):
            out.print(escape(line))
    return 0


def _lines(one: ScoreComparison) -> list[str]:
    means = ["-" if v is None else f"{v:.4g}" for v in (one.first_mean, one.second_mean)]
    lines = [f"{one.metric}: {one.first} {means[0]}, {one.second} {means[1]}"]
    d = one.difference
    if d.value is not None:
        interval = (
            f" (95 % {d.low:+.4g} to {d.high:+.4g})" if d.low is not None and d.high is not None else f" ({d.note})"
        )
        clusters = "" if one.clusters is None else f" in {one.clusters} clusters"
        lines.append(f"  difference {d.value:+.4g}{interval}; {d.method}, n={d.n}{clusters}")
    p = one.test.p_value
    lines.append(f"  not tested: {one.test.reason or d.reason}" if p is None else f"  p {p:.3g}: {one.test.method}")
    if p is not None:
        lines.append(f"  {one.first} higher on {one.wins} items, lower on {one.losses}, equal on {one.ties}")
    if p is not None and (one.only_first or one.only_second):
        lines.append(
            f"  left out, in one table only: {one.only_first} of {one.first}, {one.only_second} of {one.second}"
        )
    return lines


#: Up to this many models every pair is printed unasked.
FEW = 4


def judgments(options: argparse.Namespace) -> int:
    """Read, sum up and print."""
    found = judgments_summary(options.files, options.baseline)
    if options.pair is not None:
        for judge in found.judges:
            _pair(judge, options.pair)
    if options.json:
        print_json(found.plain())
        return 0
    out = Console(highlight=False, soft_wrap=True)
    out.print(
        f"{found.format}: {sum(judge.comparisons for judge in found.judges)} judgments, {len(found.judges)} judges"
    )
    for judge in found.judges:
        _print_judge(out, judge, options.pair)
    for two in found.agreement:
        said = two.reason or f"same verdict {_share(two.same_verdict)}, Cohen's kappa {_number(two.kappa)}, n={two.n}"
        out.print(escape(f"{two.judges[0]} and {two.judges[1]}: {said}"))
    for who, alpha in (("all judges", found.alpha), ("the people", found.alpha_people)):
        if alpha.value is not None:
            out.print(f"Krippendorff's alpha of {who}: {_number(alpha)}, n={alpha.n}")
    return 0


def _number(found: Estimate | None, scale: float = 1.0, digits: int = 3) -> str:
    if found is None or found.value is None:
        return "-"
    ends = (
        ""
        if found.low is None or found.high is None
        else f" ({scale * found.low:.{digits}f} to {scale * found.high:.{digits}f})"
    )
    return f"{scale * found.value:.{digits}f}{ends}"


def _share(found: Estimate | None) -> str:
    return _number(found, 100, 2)


def _cell(value: float | None, scale: float = 1.0) -> str:
    return "-" if value is None else f"{scale * value:.2f}"


def _pair(judge: JudgeTable, names: tuple[str, str]) -> ModelPair | None:
    """The pair asked for. ReportError for a model that the judge did not see."""
    models = [one.model for one in judge.models]
    for name in names:
        if name not in models:
            raise ReportError(
                f"--pair: {judge.judge} judged no {name!r}; {nearest(name, models, ', '.join(models[:12]))}"
            )
    return next((pair for pair in judge.pairs if {pair.first, pair.second} == set(names)), None)


def _print_judge(out: Console, judge: JudgeTable, asked: tuple[str, str] | None) -> None:
    against = f" against {judge.baseline}" if judge.baseline else ""
    out.print(escape(f"\n{judge.judge}: win rates{against} in %; BT: strengths, log odds"))
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0))
    columns = ("model", "wins", "95 %", "SE", "won/lost/drawn", "LC", "BT", "equal style")
    for place, name in enumerate(columns):
        table.add_column(name, justify="right" if place else "left", no_wrap=True, max_width=None if place else 24)
    plain, styled = judge.strengths.plain_strengths, judge.strengths.style_controlled
    for one in judge.models:
        rate, controlled = one.win_rate, one.length_controlled
        ends = "-" if rate.low is None or rate.high is None else f"{100 * rate.low:.2f} to {100 * rate.high:.2f}"
        table.add_row(
            escape(one.model), _cell(rate.value, 100), ends, _cell(rate.stderr, 100),
            f"{rate.wins}/{rate.losses}/{rate.draws}", _cell(controlled.value if controlled else None, 100),
            *(_cell(side[one.model].value if one.model in side else None) for side in (plain, styled)),
        )  # fmt: skip
    out.print(table)
    if judge.strengths.reason:
        out.print(f"- Bradley-Terry: {escape(judge.strengths.reason)}")
    style = ", ".join(f"{name} {_number(one, digits=2)}" for name, one in judge.strengths.style.items())
    if style:
        out.print(f"- weight of style, log odds per standard deviation: {style}")
    apart = judge.separability
    if apart.value is not None and apart.pairs > 1:
        out.print(
            f"- separability: {100 * apart.value:.1f} % ({apart.separated} of {apart.pairs} pairs of intervals do not overlap)"
        )
    if judge.position:
        first = _share(judge.position.first_preference)
        out.print(
            f"- same verdict in both orders: {_share(judge.position.consistency)} %; preference for the first shown {first} %"
        )
    if judge.against_people:
        found = judge.against_people
        orders = "" if found.each_order is None else f", single orders {found.each_order:.4f}"
        out.print(
            f"- against people (n={found.n}, {found.no_verdict} without a verdict): accuracy {found.accuracy:.4f}{orders}, "
            f"precision {found.precision:.4f}, recall {found.recall:.4f}, F1 {found.f1:.4f}, kappa {_number(found.kappa)}"
        )
    pair = None if asked is None else _pair(judge, asked)
    for two in [pair] if pair else judge.pairs if len(judge.models) <= FEW else []:
        p = "-" if two.p_value is None else f"{two.p_value:.2g}"
        out.print(
            escape(
                f"- {two.first} - {two.second}: {_share(two.difference)} points, p {p}, n={two.difference.n} ({two.how})"
            )
        )

"""What a reader meets first, as short texts that page, Markdown and terminal share: head, instrument, beta, checklist."""

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from reports.page.tables import result_rows
from reports.page.text import plain_table, visible
from reports.runs.records import ReportError
from reports.schema import Cell, Inference, Summary, read_summary
from reports.statistics.design import LEAST_SEEDS
from reports.writing import Row

#: Methods named in one sentence on beta.
MOST_NAMED = 4


@dataclass(frozen=True, slots=True)
class Fact:
    """One figure of the instrument's line: what it is, its value in words, and how it was computed."""

    name: str
    value: str
    how: str


def head(summary: Summary) -> list[str]:
    """Matrix, model, data, runs, date and the hash of what was declared."""
    fields, created = summary.provenance.fields, [c for c in summary.provenance.created.values() if c]
    counts, seeds = summary.counts, {r.seed for r in summary.runs if r.seed is not None}
    model, data, lora = (
        next((v for v in fields.get(name, []) if isinstance(v, Mapping)), {}) for name in ("model", "data", "lora")
    )
    pairs = f"{data['n_pairs']:,} pairs" if data.get("n_pairs") else ""
    rank = f", LoRA r{lora['r']}" if lora.get("r") else ""
    parts = [
        summary.name,
        f"{model['name']}{rank}" if model.get("name") else "",
        ", ".join(str(v) for v in (data.get("train"), pairs) if v),
        f"{counts.done} of {counts.planned} runs finished"
        + (f", {len(seeds)} seed{'s' * (len(seeds) > 1)}" if seeds else ""),
        max(created, default="")[:10],
        f"plan {summary.claims.sha256[:12]}" if summary.claims.sha256 else "",
    ]
    return [p for p in parts if p]


def instrument(summary: Summary) -> list[Fact]:
    """Positive control, negative control, smallest effect found in 80 %, noise floor."""
    tested = [r for r in summary.inference.rows if not r.control]
    effects = [r.detectable for r in tested if r.detectable is not None]
    few = bool(tested) and all(len(r.seed_differences) < LEAST_SEEDS for r in tested)
    smallest = f"{max(effects):.3f}" if effects else f"none: fewer than {LEAST_SEEDS} seeds" if few else "not known"
    rows = [r for r in summary.noise_floor.rows if f"{r.benchmark}/{r.metric}" == summary.primary.value]
    floors = [abs(r.difference) for r in rows if r.difference is not None]
    return [
        *(_control(summary, kind) for kind in ("positive", "negative")),
        Fact(
            "smallest effect found in 80 %",
            smallest,
            "The true difference to the baseline that this design finds in four of five repetitions at two-sided p = .05, not "
            "adjusted over methods, of the method with the widest interval.",
        ),
        Fact(
            "noise floor",
            f"{max(floors):.3f}" if floors else "not measured",
            "Largest difference of the primary metric between two evaluations of one policy.",
        ),
    ]


def _control(summary: Summary, kind: str) -> Fact:
    name, found = f"{kind} control", getattr(summary.sensitivity, kind, None)
    what = "whose effect is known" if kind == "positive" else "without an effect"
    if found is None:
        return Fact(name, "not run", f"A method {what}, trained and judged like any other.")
    span = "" if found.ci_low is None else f" ({found.ci_low:+.3f} to {found.ci_high:+.3f})"
    difference = "" if found.difference is None else f" {found.difference:+.3f}{span}"
    value = f"{'' if found.detected else 'not '}detected{difference}"
    return Fact(name, value, f"A method {what}: its difference to the baseline with its 95 % interval.")


def checklist(summary: Summary) -> str:
    """The reviewer's checklist in a line."""
    lacking = [c.name[0].lower() + c.name[1:] for c in summary.checklist if c.state != "pass"]
    met = f"{len(summary.checklist) - len(lacking)} of {len(summary.checklist)} met"
    return f"{met}. Not met: {', '.join(lacking)}." if lacking else f"{met}."


def heading(found: Inference) -> str:
    """What the table's numbers are differences of."""
    where = " at equal KL" if found.at == "matched_kl" else ""
    against = found.rows[0].against if found.rows else "the baseline"
    return f"Difference to {against}{where} on {found.metric}; above zero is better."


def beta_sentences(summary: Summary) -> dict[str, str]:
    """A sentence for each of the three panels on beta, by the panel's name; nothing where no beta varies."""
    groups = {g.label: g for g in summary.beta.matrix.groups[1:] if g.dynamic_runs}
    profiles = [p for p in summary.beta.matrix.profiles if p.label in groups]
    if not profiles:
        return {}
    loss = [(g.label, row.linked or row.within) for g in groups.values() for row in g.examples if row.against == "loss"]
    return {
        "beta_fan": f"Mean beta: {_each([(p.label, p.mean_beta) for p in profiles], False)}. Its spread (standard deviation of "
        f"log beta): {_each([(p.label, p.spread) for p in profiles], False)}.",
        "beta_perplexity": "Rank correlation of beta with the perplexity of the prompt: "
        f"{_each([(p.label, p.with_log_perplexity) for p in profiles])}.",
        "beta_loss": f"Rank correlation of the loss with beta inside runs, beyond what the runs share: {_each(loss)}. The loss "
        "contains beta, so part of any pattern is algebra.",
    }


def _each(cells: Sequence[tuple[str, Cell]], signed: bool = True) -> str:
    """Methods with their numbers, with the interval where there is one."""
    form = "+.2f" if signed else ".3f"
    texts = [
        f"{label} {c.value:{form}}"
        + (f" (95 % {c.low:{form}} to {c.high:{form}})" if c.low is not None and signed else "")
        for label, c in cells
        if c.value is not None
    ]
    more = [f"and {len(texts) - MOST_NAMED} more in the table"] if len(texts) > MOST_NAMED else []
    return ", ".join([*texts[:MOST_NAMED], *more]) or "not known"


def rows_of_text(found: Inference) -> list[list[str]]:
    """The table in short texts: method, difference, interval, adjusted p, verdict, score, KL, length, seeds x prompts."""

    def shown(row: Row, key: str, form: str) -> str:
        absent = "–" if "seeds" in row or key in ("score", "kl", "length") else ""
        return absent if row.get(key) is None else f"{row[key]:{form}}"

    return [
        [
            row["method"],
            shown(row, "difference", "+.3f"),
            " to ".join(dict.fromkeys(shown(row, end, "+.3f") for end in ("low", "high"))),
            "<.001" if (row.get("adjusted_p") or 1) < 0.001 else shown(row, "adjusted_p", ".3f"),
            row.get("verdict", ""),
            *(shown(row, key, form) for key, form in (("score", ".3f"), ("kl", ".1f"), ("length", ".0f"))),
            f"{row['seeds']} x {row['prompts']}" if "seeds" in row else "",
        ]
        for row in result_rows(found)
    ]


# The end of a matrix run on a terminal: the first screen of the report in at most 25 lines of 80 columns.


LINES, WIDTH = 25, 80
#: Lines that a sentence may take before it is cut: the report has all of it.
MOST = 3
HEADER = ("method", "diff", "95 % interval", "adj. p", "verdict", "score", "KL", "len")


def _wrapped(text: str, most: int = MOST) -> list[str]:
    return textwrap.wrap(visible(text), WIDTH, max_lines=most, placeholder=" ...", break_on_hyphens=False)


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[: most - 3]}..."


def _table(summary: Summary, room: int) -> list[str]:
    """As many rows as there is room for; names are cut so that no line is too long."""
    texts = rows_of_text(summary.inference)
    rows = [[t[0], t[1], t[2].replace(" to ", ".."), t[3], t[4].replace("more than", ">"), *t[5:8]] for t in texts]
    if not rows:
        return []
    shown = rows if len(rows) <= room else rows[: room - 1]
    others = len(plain_table(HEADER, [["", *row[1:]] for row in shown]).splitlines()[0]) - len("method")
    most = max(8, WIDTH - others)
    for row in shown:
        row[0] = _cut(visible(row[0]), most)
    more = [f"and {len(rows) - len(shown)} more in the report"] if len(rows) > len(shown) else []
    return ["", *plain_table(HEADER, shown).splitlines(), *more, ""]


def summary_lines(summary: Summary, page: Path) -> list[str]:
    """Head, answer, table, instrument, failed runs, checklist, and where the page is: at most LINES lines."""
    verdict = summary.verdict
    planted = [summary.sensitivity.positive.sentence] if summary.sensitivity else []
    sentences = [*planted, *verdict.answer]
    facts = "; ".join(f"{fact.name}: {fact.value}" for fact in instrument(summary))
    end = _wrapped(f"Instrument: {facts}.", 3) if summary.kind == "matrix" else []
    lost = [f"{r.state} {r.run_id}{f': {r.error}' if r.error else ''}" for r in summary.runs if r.state == "failed"]
    lost += [
        f"{n} runs {state}" for state in ("running", "pending", "missing") if (n := getattr(summary.counts, state))
    ]
    end += [line for text in lost[:3] for line in _wrapped(text, 1)]
    end += [f"and {len(lost) - 3} more failed runs"] * (len(lost) > 3)
    end += _wrapped(f"Checklist: {checklist(summary)}", 2) if summary.checklist else []
    end += _wrapped(f"Report: {page}", 2)
    for most in (MOST, 2, 1):  # sentences are cut before the table is left with fewer than four rows
        top = _wrapped(" | ".join([*head(summary), verdict.kind]), most)
        top += [line for sentence in sentences for line in _wrapped(sentence, most)]
        room = LINES - len(top) - len(end) - 3
        if room >= min(4, len(summary.inference.rows) + 1):
            break
    return [*top, *_table(summary, max(room, 2)), *end]


def print_summary(output_dir: Path | str, console: Console | None = None) -> None:
    """Print `summary_lines` of a directory's summary.json. Raises ReportError when there is none."""
    path = Path(output_dir) / "summary.json"
    if not path.exists():
        raise ReportError(f"{path}: no summary yet; run the matrix's report stage first")
    out, summary = console or Console(), read_summary(path)
    answer = {line for sentence in summary.verdict.answer for line in _wrapped(sentence)}
    for line in summary_lines(summary, path.with_name("report.html")):
        out.print(line, style="bold" if line in answer else None, markup=False, highlight=False, soft_wrap=True)

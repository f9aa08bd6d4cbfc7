"""A judged claim in words and as a record: one sentence with its intervals, the n it rests on, and what would settle it."""

from dataclasses import asdict
from math import isnan

from reports.runs.records import finite
from reports.schema.verdict import ClaimComparison, ClaimP, JudgedClaim, Ladder, Needed
from reports.statistics.best_settings import BestMean
from reports.statistics.crossed import CrossedMean
from reports.statistics.design import ALPHA, LEAST_SEEDS, components, needed
from reports.statistics.family import HELPS
from reports.verdict.claims import ASSERTIONS
from reports.verdict.evidence import Contrast
from reports.verdict.judged import Judged, alone


def to_settle(contrast: Contrast, min_effect: float) -> Needed | None:
    """Seeds (at these prompts) and prompts (at these seeds) that find min_effect with chance .80, from this spread.

    With min_effect 0 the observed difference is taken instead. None where the spread is unknown. With several settings of
    the method each is asked for at its share of alpha.
    """
    mean = contrast.mean
    alpha = ALPHA / (mean.settings[0] if isinstance(mean, BestMean) else 1)
    effect = min_effect or abs(mean.value)
    if mean.squares is None or isnan(mean.stderr) or effect == 0:
        return None
    _, cautious = components([mean.squares])
    if not cautious.varies:
        return None
    seeds = needed(cautious, effect, prompts=mean.prompts, alpha=alpha, least=LEAST_SEEDS, limit=10_000)
    prompts = needed(cautious, effect, seeds=max(mean.seeds, LEAST_SEEDS), alpha=alpha, limit=1_000_000)
    return Needed(against=contrast.second, seeds=seeds, prompts=prompts)


def _weakest(judged: Judged) -> Contrast | None:
    """The needed comparison that stands in the way: the one with the largest p, which is 1 where it could not be tested."""
    return max(judged.needed, key=lambda c: float(alone(c, 0.0).p["better"]), default=None)


def _counted(number: int | None, what: str) -> str:
    return f"no number of {what}s" if number is None else f"{number} {what}{'' if number == 1 else 's'}"


def interval_text(mean: CrossedMean) -> str:
    """The difference with its 95 % interval, or why it has none."""
    interval = mean.interval()
    if interval.value is None or interval.low is None or interval.high is None:
        return f"no interval: {interval.note}"
    return f"{interval.value:+.3f} (95 % interval {interval.low:+.3f} to {interval.high:+.3f})"


def borrowed_text(contrast: Contrast) -> str | None:
    """How much of the spread over seeds other arms lent to a comparison, and the answer without; None where nothing was."""
    mean = contrast.mean
    if mean.alone is None:
        return None
    return (
        f"{contrast.first} against {contrast.second}: the other arms lent {mean.borrowed:.1f} degrees of freedom to the "
        f"{mean.alone.seeds - 1} of its own spread over seeds; without them {interval_text(mean.alone)}"
    )


def _shown(contrast: Contrast) -> str:
    mean, interval = contrast.mean, contrast.mean.interval()
    if interval.value is None:
        return f"no difference from {contrast.second} ({contrast.reason})"
    span = f"no interval: {interval.note or contrast.reason}"
    if interval.low is not None and interval.high is not None:
        span = f"95 % interval {interval.low:+.3f} to {interval.high:+.3f}"
    design = f"{_counted(mean.seeds, 'seed')} x {_counted(mean.prompts, 'prompt')}"
    if contrast.role == "baseline" and isinstance(mean, BestMean):
        design += ", best of {} against best of {} settings".format(*mean.settings)
    return f"{interval.value:+.3f} against {contrast.second} ({span}) over {design}"


def attribution_text(judged: Judged) -> str:
    """What the controls say the gain is due to, as far as they were run."""
    evidence, held, link = judged.evidence, judged.attribution, judged.evidence.link
    absent = [r for r in ASSERTIONS["perplexity"] if r not in evidence.contrasts]
    if absent and held in ("gain", "variation"):
        return f"without {' and '.join(absent)} the gain cannot be put down to {link}"
    words = {role: alone(c, judged.claim.min_effect).word for role, c in evidence.contrasts.items()}
    same = [role for role, word in words.items() if word == "equivalent" and judged.nulls_count]
    turned = ", but it is not shown to beat the scaling turned round (inverse)"
    average = "the gain is not distinguishable from that of a fixed beta of the same average (matched_mean)"
    if "matched_mean" in same:
        average = "the average beta explains the gain: a fixed beta of the same average does as well"
    said = {
        None: "no gain over the baseline is shown, so there is none to explain",
        "gain": average,
        "variation": f"beta variation helps, {link} "
        + ("does not" if "permuted" in same else "is not shown to (its shuffled betas may do as well)"),
        "perplexity": f"{link} helps: it beats a fixed beta of the same average and its own betas shuffled over the prompts"
        + (turned if words.get("inverse", "better") not in HELPS else ""),
    }
    return said[held]


def sentence(judged: Judged) -> str:
    """The claim in one sentence: verdict, differences with intervals and n, p, and what the controls say."""
    claim, evidence = judged.claim, judged.evidence
    kind = "" if judged.declared else "exploratory, "
    shown = [_shown(c) for c in judged.needed]
    lacking = [r for r in ASSERTIONS[claim.asserts] if r not in evidence.contrasts]
    if lacking:
        shown.append(f"no control {' or '.join(lacking)} of {evidence.label}")
    word = judged.verdict.replace("more than m", f"more than {claim.min_effect:g}")
    text = f"{claim.name} ({kind}{claim.asserts}): {word}: {evidence.label} on {claim.place} {', '.join(shown)}"
    p = judged.p["better" if judged.verdict == "undecided" else judged.verdict]
    if p is not None:
        text += f"; {judged.correction} p = {p:.2g} over {_counted(judged.family, 'claim')}"
    if judged.verdict in ("equivalent", "worse"):  # the comparison on which it fell is the one with the smallest p
        least = min(judged.needed, key=lambda c: float(alone(c, claim.min_effect).p[judged.verdict])).second
        within = f"within {claim.min_effect:g} of {least} either way"
        text += f", {within if judged.verdict == 'equivalent' else f'it is worse than {least}'}"
    elif judged.verdict == "undecided":
        text += _open(judged)
    worst = [f"{interval_text(c.bounds[0])} against {c.second}" for c in judged.needed if c.bounds is not None]
    held, order = judged.attribution, list(ASSERTIONS)
    # What the gain is put down to is said where that does not go beyond the verdict.
    told = held is None or judged.verdict in HELPS or order.index(held) < order.index(claim.asserts)
    parts = [
        text,
        "" if judged.nulls_count else "the matrix failed its own controls, so its null results say nothing",
        *evidence.failures,
        f"with failed runs at the worst score {', '.join(worst)}; the weaker verdict stands" if worst else "",
        attribution_text(judged) if told else "",
    ]
    return "; ".join(filter(None, parts)) + "."


def _open(judged: Judged) -> str:
    weakest = _weakest(judged)
    if weakest is None or isnan(weakest.mean.value):
        return ""
    seeds, claim = weakest.mean.seeds, judged.claim
    text = f"; S={seeds} cannot reach it, at least {LEAST_SEEDS} seeds are needed" if seeds < LEAST_SEEDS else ""
    settle = to_settle(weakest, claim.min_effect)
    if settle is None:
        return text
    size = f"{claim.min_effect:g}" if claim.min_effect else "the observed size"
    return (
        f"{text}; a difference of {size} from {weakest.second} would need about {_counted(settle.seeds, 'seed')} at "
        f"{weakest.mean.prompts} prompts, or {_counted(settle.prompts, 'prompt')} at {max(seeds, LEAST_SEEDS)} seeds"
    )


def judged_claim(judged: Judged) -> JudgedClaim:
    """The record of the claim: its verdict and sentence, every comparison, and a `reason` for what is null."""
    claim, contrasts, weakest = judged.claim, judged.evidence.contrasts, _weakest(judged)
    short = [c.second for c in contrasts.values() if 0 < c.mean.seeds < LEAST_SEEDS]
    lacking = [r for r in ASSERTIONS["perplexity"] if r not in contrasts]
    reasons = [
        *(f"{c.second}: {c.reason}" for c in contrasts.values() if c.reason),
        f"fewer than {LEAST_SEEDS} paired seeds with {', '.join(short)}" if short else "",
        f"not run: {', '.join(lacking)}" if lacking else "",
        "" if claim.min_effect else "min_effect is 0, so nothing can be better by more than it, or lie within it",
    ]
    settle = None if weakest is None else to_settle(weakest, claim.min_effect)
    return JudgedClaim(
        name=claim.name,
        claim=asdict(claim),
        declared=judged.declared,
        exploratory_because=judged.why_exploratory,
        verdict=judged.verdict,
        attribution=judged.attribution,
        attribution_text=attribution_text(judged),
        sentence=sentence(judged),
        adjusted_p=ClaimP(
            better_by_more=judged.p["better by more than m"],
            **{word: judged.p[word] for word in ("better", "equivalent", "worse")},
            method=judged.correction,
            family_size=judged.family,
            reason="; ".join(filter(None, reasons)) or None,
        ),
        ladder=Ladder(**judged.ladder),
        comparisons=[
            ClaimComparison(
                role=c.role,
                label=c.first,
                against=c.second,
                difference=c.mean.interval(),
                degrees_of_freedom=finite(c.mean.degrees),
                borrowed=c.mean.borrowed,
                alone=None if c.mean.alone is None else c.mean.alone.interval(),
                failed_at_worst=None if c.bounds is None else c.bounds[0].interval(),
            )
            for c in contrasts.values()
        ],
        needed=settle or Needed(against=weakest.second if weakest else None, seeds=None, prompts=None),
        notes=[*judged.evidence.notes, *(text for c in judged.needed if (text := borrowed_text(c)) is not None)],
        failures=list(judged.evidence.failures),
    )

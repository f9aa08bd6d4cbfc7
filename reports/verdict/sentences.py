"""A judged claim in words and as JSON: one sentence with its intervals, the n it rests on, and what would settle it."""

from __future__ import annotations

import math
from typing import Any

from reports.statistics.best_settings import BestMean
from reports.statistics.design import ALPHA, LEAST_SEEDS, components, needed
from reports.verdict.claims import ASSERTIONS
from reports.verdict.evidence import Contrast
from reports.verdict.judged import Judged, holds, p_values, required


def to_settle(contrast: Contrast, min_effect: float) -> dict[str, int | None] | None:
    """Seeds (at these prompts) and prompts (at these seeds) that find min_effect with chance .80, from this spread.

    With min_effect 0 the observed difference is taken instead. None where the spread is unknown. With several settings of
    the method each is asked for at its share of alpha.
    """
    mean = contrast.mean
    alpha = ALPHA / (len(mean.pairs) if isinstance(mean, BestMean) else 1)
    effect = min_effect or abs(mean.estimate or 0.0)
    if mean.squares is None or mean.stderr is None or effect == 0:
        return None
    _, cautious = components([mean.squares])
    return {
        "seeds": needed(cautious, effect, prompts=mean.prompts, alpha=alpha, least=LEAST_SEEDS, limit=10_000),
        "prompts": needed(cautious, effect, seeds=max(mean.seeds, LEAST_SEEDS), alpha=alpha, limit=1_000_000),
    }


def _weakest(judged: Judged) -> Contrast | None:
    """The needed comparison that stands in the way: an absent one first, then the one with the largest p."""
    claim, evidence = judged.claim, judged.evidence
    present = [c for c in required(claim.asserts, evidence) if c is not None]
    return max(present, key=lambda c: math.inf if (p := c.mean.p_above()) is None else p, default=None)


def _shown(contrast: Contrast) -> str:
    interval = contrast.mean.interval()
    if interval.estimate is None:
        return f"no difference from {contrast.second} ({contrast.reason})"
    span = (
        f" (95 % interval {interval.low:+.3f} to {interval.high:+.3f})"
        if interval.low is not None and interval.high is not None
        else f" (no interval: {interval.note or contrast.reason})"
    )
    seeds, prompts = contrast.mean.seeds, contrast.mean.prompts
    design = f"{seeds} seed{'' if seeds == 1 else 's'} x {prompts} prompt{'' if prompts == 1 else 's'}"
    if contrast.role == "baseline" and isinstance(contrast.mean, BestMean):
        design += f", best of {len(contrast.mean.pairs)} against best of {len(contrast.mean.pairs[0])} settings"
    return f"{interval.estimate:+.3f} against {contrast.second}{span} over {design}"


def attribution_text(judged: Judged) -> str:
    """What the controls say the gain is due to, as far as they were run."""
    claim, evidence, held = judged.claim, judged.evidence, judged.attribution
    link = evidence.link
    absent = [r for r in ("matched_mean", "permuted") if r not in evidence.contrasts]

    def same(role: str) -> bool:
        p = p_values(evidence.contrasts[role], claim.min_effect)["equivalent"]
        return holds(p)

    if held is None:
        return "no gain over the baseline is shown, so there is none to explain"
    if held == "perplexity":
        text = f"{link} helps: it beats a fixed beta of the same average and its own betas shuffled over the prompts"
        inverse = evidence.contrasts.get("inverse")
        if inverse is not None and not holds(p_values(inverse, claim.min_effect)["supported"]):
            text += ", but it is not shown to beat the scaling turned round (inverse)"
        return text
    if absent:
        return f"without {' and '.join(absent)} the gain cannot be put down to {link}"
    if held == "variation":
        ends = "does not" if same("permuted") else "is not shown to (its shuffled betas may do as well)"
        return f"beta variation helps, {link} {ends}"
    if same("matched_mean"):
        return "the average beta explains the gain: a fixed beta of the same average does as well"
    return "the gain is not distinguishable from that of a fixed beta of the same average (matched_mean)"


def sentence(judged: Judged) -> str:
    """The claim in one sentence: verdict, differences with intervals and n, p, and what the controls say."""
    claim, evidence = judged.claim, judged.evidence
    kind = "" if judged.declared else "exploratory, "
    shown = [_shown(c) for c in required(claim.asserts, evidence) if c is not None]
    lacking = [r for r in ASSERTIONS[claim.asserts] if r not in evidence.contrasts]
    if lacking:
        shown.append(f"no control {' or '.join(lacking)} of {evidence.label}")
    where = f"{claim.metric} at matched KL" if claim.at == "matched_kl" else claim.metric
    text = f"{claim.name} ({kind}{claim.asserts}): {judged.verdict}: {evidence.label} on {where} {', '.join(shown)}"
    method = "Holm" if judged.declared else "Benjamini-Hochberg"
    p = judged.p["supported" if judged.verdict == "inconclusive" else judged.verdict]
    if p is not None:
        text += f"; {method} p = {p:.2g} over {judged.family} claim{'' if judged.family == 1 else 's'}"
    if judged.verdict == "equivalent":
        text += f", within {claim.min_effect:g} of {_decisive(judged)} either way"
    elif judged.verdict == "refuted":
        size = f"an improvement of {claim.min_effect:g} or more over" if claim.min_effect else "any improvement over"
        text += f", {size} {_decisive(judged)} is excluded"
    elif judged.verdict == "inconclusive":
        text += _open(judged)
    return f"{text}; {attribution_text(judged)}."


def _decisive(judged: Judged) -> str:
    """What the method was compared with where the verdict against the claim fell."""
    claim, evidence = judged.claim, judged.evidence
    tested = [c for c in required(claim.asserts, evidence) if c is not None]

    def p(contrast: Contrast) -> float:
        value = p_values(contrast, claim.min_effect)[judged.verdict]
        return math.inf if value is None else value

    return min(tested, key=p).second


def _open(judged: Judged) -> str:
    weakest = _weakest(judged)
    if weakest is None or weakest.mean.estimate is None:
        return ""
    seeds, claim = weakest.mean.seeds, judged.claim
    text = f"; S={seeds} cannot reach it, at least {LEAST_SEEDS} seeds are needed" if seeds < LEAST_SEEDS else ""
    settle = to_settle(weakest, claim.min_effect)
    if settle is None:
        return text
    size = f"{claim.min_effect:g}" if claim.min_effect else "the observed size"
    seeds_ask = "no number of seeds" if settle["seeds"] is None else f"{settle['seeds']} seeds"
    prompts_ask = "no number of prompts" if settle["prompts"] is None else f"{settle['prompts']} prompts"
    return (
        f"{text}; a difference of {size} from {weakest.second} would need about {seeds_ask} at {weakest.mean.prompts} "
        f"prompts, or {prompts_ask} at {max(seeds, LEAST_SEEDS)} seeds"
    )


def as_dict(judged: Judged) -> dict[str, Any]:
    """JSON-ready: the claim, its verdict and sentence, every comparison, and a `reason` for what is null."""
    claim, evidence = judged.claim, judged.evidence
    weakest = _weakest(judged)
    reasons = [f"{c.second}: {c.reason}" for c in evidence.contrasts.values() if c.reason]
    short = [c.second for c in evidence.contrasts.values() if 0 < c.mean.seeds < LEAST_SEEDS]
    if short:
        reasons.append(f"fewer than {LEAST_SEEDS} paired seeds with {', '.join(short)}")
    lacking = [r for r in ASSERTIONS["perplexity"] if r not in evidence.contrasts]
    if lacking:
        reasons.append(f"not run: {', '.join(lacking)}")
    if claim.min_effect == 0:
        reasons.append("equivalence needs min_effect above 0")
    return {
        "name": claim.name,
        "claim": {f: getattr(claim, f) for f in claim.__slots__},
        "declared": judged.declared,
        "exploratory_because": judged.why_exploratory,
        "verdict": judged.verdict,
        "attribution": judged.attribution,
        "attribution_text": attribution_text(judged),
        "sentence": sentence(judged),
        "adjusted_p": {
            **judged.p,
            "method": "Holm" if judged.declared else "Benjamini-Hochberg",
            "family_size": judged.family,
            "reason": "; ".join(reasons) or None,
        },
        "ladder": judged.ladder,
        "comparisons": [
            {
                "role": c.role,
                "label": c.first,
                "against": c.second,
                "difference": c.mean.interval().as_dict(),
                "degrees_of_freedom": c.mean.degrees,
            }
            for c in evidence.contrasts.values()
        ],
        "needed": {
            "against": None if weakest is None else weakest.second,
            **((None if weakest is None else to_settle(weakest, claim.min_effect)) or {"seeds": None, "prompts": None}),
        },
        "notes": list(evidence.notes),
    }

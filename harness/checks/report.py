"""Checks of the report's, the claims' and the controls' settings against the benchmarks."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from harness.config import MatrixConfig, MethodConfig, SensitivityConfig, Source, refuse
from reports.statistics.multiplicity import LEAST_SEEDS
from reports.verdict.claims import measures_kl
from trainers.common import UserError, nearest

#: Names of benchmarks (and of `benchmark@judge`) with their metrics; None where any metric may come (lm-eval).
Measured = Mapping[str, tuple[str, ...] | None]


#: What a claim asserts -> rules of the controls it needs beside its method.
_NEEDED_CONTROLS = {"gain": (), "variation": ("matched_mean",), "perplexity": ("matched_mean", "permuted")}


def check_report(config: MatrixConfig, source: Source, measured: Measured) -> None:
    """Refuse a baseline or primary metric that is not in the matrix, claims that nothing in it could settle, and controls that
    are not in it, or whose mean beta differs from that of what they are compared with.

    Raises:
        UserError: the first of them.
    """
    names, baseline = [method.name for method in config.methods], config.report.baseline
    if baseline is not None and baseline not in names:
        raise UserError(f"{source.at('report', 'baseline')} is {baseline!r}; {nearest(baseline, names)}")
    _check_metric(config.report.primary, source.at("report", "primary"), measured)
    looks, count = config.looks, len(config.seeds)
    refuse(
        (
            looks != sorted(set(looks)) or min(looks, default=LEAST_SEEDS) < LEAST_SEEDS,
            f"{source.at('looks')} is {looks}; give rising numbers of seeds, the first at least {LEAST_SEEDS}",
        ),
        (
            bool(looks) and count not in looks,
            f"{source.at('looks')} is {looks}, and seeds has {count}; give as many seeds as one of the looks has",
        ),
    )
    for i in range(len(config.claims)):
        _check_claim(config, source, i, measured)
    if config.sensitivity is not None:
        _check_sensitivity(config, config.sensitivity, source, measured)


def _check_claim(config: MatrixConfig, source: Source, i: int, measured: Measured) -> None:
    claim, at, names = config.claims[i], partial(source.at, "claims", i), [method.name for method in config.methods]
    window, metric = claim.window, claim.metric
    kl = measures_kl(config.evaluation.model_dump(), metric.split("/")[0])
    controls = {m.rule or m.name for m in config.methods if m.parent == claim.method}
    lacking = next((rule for rule in _NEEDED_CONTROLS[claim.asserts] if rule not in controls), None)
    refuse(
        (
            claim.name in [one.name for one in config.claims[:i]],
            f"{at('name')}: duplicate claim name {claim.name!r}; names must be unique",
        ),
        *(
            (name not in names, f"{at(key)} is {name!r}; {nearest(name, names)}")
            for key, name in (("method", claim.method), ("against", claim.against))
        ),
        (
            claim.method == claim.against,
            f"{at('against')} is {claim.against!r}, the claim's own method; name another",
        ),
        _rising(window, at),
        (
            window is not None and claim.at != "matched_kl",
            f"{at('window')} is {window} and at is {claim.at!r}; set at: matched_kl, or remove the window",
        ),
    )
    _check_metric(metric, at("metric"), measured)
    refuse(
        (
            claim.at == "matched_kl" and not kl,
            f"{at('at')} is 'matched_kl', but KL is not measured along every run; add a benchmark of kind kl and "
            "evaluation.checkpoints, for all seeds and both benchmarks",
        ),
        (
            lacking is not None,
            f"{at('asserts')} is {claim.asserts!r}, which needs the control {lacking}; add a method with rule: "
            f"{lacking} and parent: {claim.method}",
        ),
    )


def _rising(window: list[float] | None, at: Callable[[str], str]) -> tuple[bool, str]:
    wrong = window is not None and not 0 <= window[0] < window[1]
    return wrong, f"{at('window')} is {window}; give two rising numbers of nats, of at least 0"


def _check_sensitivity(config: MatrixConfig, planted: SensitivityConfig, source: Source, measured: Measured) -> None:
    methods, at = {method.name: method for method in config.methods}, partial(source.at, "sensitivity")
    named = {key: name for key in ("positive", "negative", "against", "weak") if (name := getattr(planted, key))}
    apart = {config.report.baseline, *(name for claim in config.claims for name in (claim.method, claim.against))}
    refuse(
        _rising(planted.window, at),
        *((name not in methods, f"{at(key)} is {name!r}; {nearest(name, methods)}") for key, name in named.items()),
        (len(planted.roles) < len(named), f"{at('negative')}: {', '.join(named.values())}; name different methods"),
        *(
            (
                planted.flip is not None and name in apart,
                f"{at(key)} is {name!r}, which the report or a claim is about, but sensitivity.flip flips labels of its pairs; "
                "add a method for the controls alone",
            )
            for key, name in named.items()
        ),
    )
    tuned = _betas(methods[planted.against])
    refuse(
        *(
            (
                methods[name].oracle is not None and beta not in tuned,
                f"{at(key)} is {name!r} with a mean beta of {beta}, and {planted.against!r} has {tuned}; "
                "compare at one mean: give both the same pref_beta",
            )
            for key, name in named.items()
            for beta in _betas(methods[name])
        ),
    )
    metric = planted.metric or config.report.primary
    if metric is None:
        raise UserError(f"{at('metric')} is missing, and so is report.primary; add one of them")
    _check_metric(metric, at("metric"), measured)
    if planted.window is not None and not measures_kl(config.evaluation.model_dump(), metric.split("/")[0]):
        raise UserError(
            f"{at('window')} is {planted.window}, but KL is not measured along every run; remove the window"
        )


def _betas(method: MethodConfig) -> list[Any]:
    """Every pref_beta of a method, as written."""
    return method.grid.get("pref_beta", [method.params.get("pref_beta", 0.1)])


def _check_metric(metric: str | None, where: str, measured: Measured) -> None:
    if metric is None:
        return
    name, _, key = metric.partition("/")
    known = measured.get(name)
    refuse(
        (name not in measured, f"{where} is {metric!r}; write benchmark/metric; {nearest(name, measured)}"),
        (known is not None and key not in known, f"{where} is {metric!r}; {nearest(key, known or ())}"),
    )

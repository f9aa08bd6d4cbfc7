"""Checks of the report's and the claims' settings against the benchmarks."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

from harness.config import MatrixConfig, MethodConfig, Source, refuse
from reports.verdict.claims import measures_kl
from trainers.common import UserError, nearest

#: Names of benchmarks (and of `benchmark@judge`) with their metrics; None where any metric may come (lm-eval).
Measured = Mapping[str, tuple[str, ...] | None]


def check_report(config: MatrixConfig, source: Source, measured: Measured) -> None:
    """Refuse a baseline or primary metric that is not in the matrix."""
    names, baseline = [method.name for method in config.methods], config.report.baseline
    if baseline is not None and baseline not in names:
        raise UserError(f"{source.at('report', 'baseline')} is {baseline!r}; {nearest(baseline, names)}")
    if config.report.primary is not None:
        _check_metric(config.report.primary, source.at("report", "primary"), measured)


#: What a claim asserts -> rules of the controls it needs beside its method.
_NEEDED_CONTROLS = {"gain": (), "variation": ("matched_mean",), "perplexity": ("matched_mean", "permuted")}


def check_claims(config: MatrixConfig, source: Source, measured: Measured) -> None:
    """Refuse claims that nothing in the matrix could settle."""
    if config.looks:
        _check_looks(config, source)
    methods = {method.name: method for method in config.methods}
    names: set[str] = set()
    for i, claim in enumerate(config.claims):
        at = partial(source.at, "claims", i)
        named = {"method": claim.method, "against": claim.against}
        refuse(
            (claim.name in names, f"{at('name')}: duplicate claim name {claim.name!r}; names must be unique"),
            *((name not in methods, f"{at(key)} is {name!r}; {nearest(name, methods)}") for key, name in named.items()),
            (
                claim.method == claim.against,
                f"{at('against')} is {claim.against!r}, the claim's own method; name another",
            ),
        )
        window = claim.window
        refuse(
            _rising(window, at),
            (
                window is not None and claim.at != "matched_kl",
                f"{at('window')} is {window} and at is {claim.at!r}; set at: matched_kl, or remove the window",
            ),
        )
        names.add(claim.name)
        _check_metric(claim.metric, at("metric"), measured)
        evaluation = config.evaluation.model_dump()
        if claim.at == "matched_kl" and not measures_kl(evaluation, claim.metric.split("/")[0]):
            raise UserError(
                f"{at('at')} is 'matched_kl', but KL is not measured along every run; add a benchmark of kind kl and "
                "evaluation.checkpoints, for all seeds and both benchmarks"
            )
        controls = {m.rule or m.name for m in config.methods if m.parent == claim.method}
        lacking = [rule for rule in _NEEDED_CONTROLS[claim.asserts] if rule not in controls]
        if lacking:
            raise UserError(
                f"{at('asserts')} is {claim.asserts!r}, which needs the control {lacking[0]}; add a method with rule: "
                f"{lacking[0]} and parent: {claim.method}"
            )


def _rising(window: list[float] | None, at: Callable[[str], str]) -> tuple[bool, str]:
    wrong = window is not None and not 0 <= window[0] < window[1]
    return wrong, f"{at('window')} is {window}; give two rising numbers of nats, of at least 0"


def check_sensitivity(config: MatrixConfig, source: Source, measured: Measured) -> None:
    """Refuse controls that are not in the matrix, or whose mean beta differs from that of what they are compared with."""
    planted, at = config.sensitivity, partial(source.at, "sensitivity")
    if planted is None:
        return
    methods = {method.name: method for method in config.methods}
    named = {key: name for key in ("positive", "negative", "against", "weak") if (name := getattr(planted, key))}
    apart = {config.report.baseline, *(name for claim in config.claims for name in (claim.method, claim.against))}
    against = methods.get(planted.against)
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
    tuned = set(_betas(against)) if against is not None else set()
    for key, name in named.items():
        for beta in _betas(methods[name]) if methods[name].oracle is not None else ():
            if beta not in tuned:
                raise UserError(
                    f"{at(key)} is {name!r} with a mean beta of {beta}, and {planted.against!r} has {sorted(tuned)}; "
                    "compare at one mean: give both the same pref_beta"
                )
    metric = planted.metric or config.report.primary
    if metric is None:
        raise UserError(f"{at('metric')} is missing, and so is report.primary; add one of them")
    _check_metric(metric, at("metric"), measured)
    if planted.window is not None and not measures_kl(config.evaluation.model_dump(), metric.split("/")[0]):
        raise UserError(
            f"{at('window')} is {planted.window}, but KL is not measured along every run; remove the window"
        )


def _betas(method: MethodConfig) -> list[float]:
    """Every pref_beta of a method."""
    return [float(beta) for beta in method.grid.get("pref_beta", [method.params.get("pref_beta", 0.1)])]


def _check_looks(config: MatrixConfig, source: Source) -> None:
    from reports.statistics.multiplicity import LEAST_SEEDS

    looks, count = config.looks, len(config.seeds)
    refuse(
        (
            looks != sorted(set(looks)) or looks[0] < LEAST_SEEDS,
            f"{source.at('looks')} is {looks}; give rising numbers of seeds, the first at least {LEAST_SEEDS}",
        ),
        (
            count not in looks,
            f"{source.at('looks')} is {looks}, and seeds has {count}; give as many seeds as one of the looks has",
        ),
    )


def _check_metric(metric: str, where: str, measured: Measured) -> None:
    name, _, key = metric.partition("/")
    if name not in measured:
        raise UserError(f"{where} is {metric!r}; write benchmark/metric; {nearest(name, measured)}")
    known = measured[name]
    if known is not None and key not in known:
        raise UserError(f"{where} is {metric!r}; {nearest(key, known)}")

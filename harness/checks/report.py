"""Checks of the report's and the claims' settings against the benchmarks."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

from harness.config import MatrixConfig, Source, refuse
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
            (
                window is not None and not 0 <= window[0] < window[1],
                f"{at('window')} is {window}; give two rising numbers of nats, of at least 0",
            ),
            (
                window is not None and claim.at != "matched_kl",
                f"{at('window')} is {window} and at is {claim.at!r}; set at: matched_kl, or remove the window",
            ),
        )
        names.add(claim.name)
        _check_metric(claim.metric, at("metric"), measured)
        controls = {m.rule or m.name for m in config.methods if m.parent == claim.method}
        lacking = [rule for rule in _NEEDED_CONTROLS[claim.asserts] if rule not in controls]
        if lacking:
            raise UserError(
                f"{at('asserts')} is {claim.asserts!r}, which needs the control {lacking[0]}; add a method with rule: "
                f"{lacking[0]} and parent: {claim.method}"
            )


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

"""Checks of the report's and the claims' settings against the benchmarks."""

from __future__ import annotations

from typing import Any

from evals.benchmarks import registry as registry_of_benchmarks
from harness.config.matrix_file import MatrixConfig
from harness.config.source import Source
from trainers.common.errors import UserError
from trainers.common.words import nearest


def check_report(config: MatrixConfig, source: Source, benchmarks: list[dict[str, Any]]) -> None:
    """Refuse a baseline or primary measure that is not in the matrix."""
    names = [method.name for method in config.methods]
    if config.report.baseline is not None and config.report.baseline not in names:
        where = source.where(("report", "baseline"))
        raise UserError(
            f"{where}: report.baseline is {config.report.baseline!r}; {nearest(config.report.baseline, names)}"
        )
    if config.report.primary is not None:
        _check_metric(config.report.primary, f"{source.where(('report', 'primary'))}: report.primary", benchmarks)


#: What a claim asserts -> rules of the controls it needs beside its method.
_NEEDED_CONTROLS = {"gain": (), "variation": ("matched_mean",), "perplexity": ("matched_mean", "permuted")}


def check_claims(config: MatrixConfig, source: Source, benchmarks: list[dict[str, Any]]) -> None:
    """Refuse claims that nothing in the matrix could settle."""
    methods = {method.name: method for method in config.methods}
    names: set[str] = set()
    for i, claim in enumerate(config.claims):

        def at(key: str, i: int = i) -> str:
            return f"{source.where(('claims', i, key))}: claims[{i}].{key}"

        if claim.name in names:
            raise UserError(f"{at('name')} is {claim.name!r}, which stands twice; give each claim a name of its own")
        names.add(claim.name)
        for key in ("method", "against"):
            value = getattr(claim, key)
            if value not in methods:
                raise UserError(f"{at(key)} is {value!r}; {nearest(value, methods)}")
        if claim.method == claim.against:
            raise UserError(f"{at('against')} is {claim.against!r}, the claim's own method; name another")
        _check_metric(claim.metric, at("metric"), benchmarks)
        controls = {m.rule or m.name for m in config.methods if m.parent == claim.method}
        lacking = [rule for rule in _NEEDED_CONTROLS[claim.asserts] if rule not in controls]
        if lacking:
            raise UserError(
                f"{at('asserts')} is {claim.asserts!r}, which needs the control {lacking[0]}; add a method with rule: "
                f"{lacking[0]} and parent: {claim.method}"
            )


def _check_metric(metric: str, where: str, benchmarks: list[dict[str, Any]]) -> None:
    kinds = {entry["name"]: entry["kind"] for entry in benchmarks}
    own = {entry["name"]: entry["metrics"] for entry in benchmarks if "metrics" in entry}  # of judges
    name, _, key = metric.partition("/")
    if name not in kinds:
        raise UserError(f"{where} is {metric!r}; write benchmark/metric; {nearest(name, kinds)}")
    if kinds[name] == "lm_eval":
        return
    known = own[name] if name in own else registry_of_benchmarks.find(kinds[name]).metrics
    if key not in known:
        raise UserError(f"{where} is {metric!r}; {nearest(key, known)}")

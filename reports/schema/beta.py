"""`summary.beta` and `summary.correlations`: what dynamic_beta goes with."""

from __future__ import annotations

from pydantic import Field

from reports.schema.base import Collapse, Number, Record


class RowCounts(Record):
    recorded: int
    used: int
    masked: int
    fallback: int | None


class Cell(Record):
    """A number with its 95 % interval; where one is null, reason says why."""

    value: Number | None
    low: Number | None
    high: Number | None
    reason: str | None


class FourCorrelations(Record):
    pearson: Cell
    spearman: Cell
    kendall: Cell
    xi: Cell
    n_eff: Number | None
    kendall_rows: int


class TwoCorrelations(Record):
    pearson: Cell
    spearman: Cell


class Partial(Record):
    step: TwoCorrelations
    log_perplexity: TwoCorrelations
    step_delta_length: TwoCorrelations


class Association(Record):
    against: str
    contains_beta: bool
    n: int
    reason: str | None
    raw: FourCorrelations
    detrended: FourCorrelations
    partial: Partial


class LossNull(Record):
    observed: Number | None
    mean: Number | None
    low: Number | None
    high: Number | None
    p_value: Number | None
    draws: int
    n: int
    method: str
    reason: str | None


class LargestLag(Record):
    lag: int
    value: Number
    outside: bool


class LagSeries(Record):
    against: str
    contains_beta: bool
    n: int
    lags: list[int]
    values: list[Number]
    band: list[Number]
    band_all: list[Number]
    largest: LargestLag | None
    reason: str | None


class BetaQuantile(Record):
    quantile: int
    n: int
    log_prompt_perplexity_low: Number
    log_prompt_perplexity_high: Number
    dynamic_beta: Number | None
    loss: Number | None
    loss_at_beta0: Number | None
    delta: Number | None
    accuracy: Number | None


class Explained(Record):
    added: str
    predictors: list[str]
    n: int
    r2: Cell


class Probe(Record):
    n: int
    components: int
    perplexity: Cell | None
    hidden: Cell | None
    both: Cell | None
    reason: str | None


class Learned(Record):
    elasticity: Cell
    explained: list[Explained]
    probe: Probe


class BetaLevel(Record):
    level: Number
    spread: Number
    n: int


class SameExamples(Record):
    examples: int
    change: Cell
    order_kept: Cell


class Drift(Record):
    first: BetaLevel | None
    last: BetaLevel | None
    slope: Cell
    same_examples: SameExamples | None
    reason: str | None


class Bounds(Record):
    at_lower: Number | None
    at_upper: Number | None
    reason: str | None


class RunBeta(Record):
    run_id: str
    label: str
    seed: int | None
    dynamic: bool
    reason: str | None
    step_reason: str | None
    rows: RowCounts | None
    examples: list[Association] | None
    steps: list[Association] | None
    null: LossNull | None
    lags: list[LagSeries]
    perplexity_quantiles: list[BetaQuantile]
    learned: Learned | None
    drift: Drift | None
    bounds: Bounds | None
    collapse: Collapse | None


class GroupPartial(Record):
    step: Cell
    log_perplexity: Cell
    step_delta_length: Cell


class Simpson(Record):
    flag: bool | None
    reason: str | None


class GroupAssociation(Record):
    against: str
    contains_beta: bool
    runs: int
    within: Cell
    within_detrended: Cell
    within_partial: GroupPartial
    between: Cell
    pooled: Cell
    simpson: Simpson


class BetaScore(Record):
    benchmark: str
    metric: str
    between: Cell


class BetaGroup(Record):
    label: str
    runs: int
    dynamic_runs: int
    reason: str | None
    examples: list[GroupAssociation]
    steps: list[GroupAssociation]
    scores: list[BetaScore]


class BetaProfile(Record):
    label: str
    rule: str | None
    control: bool
    parent: str | None
    runs: int
    mean_beta: Cell
    spread: Cell
    elasticity: Cell
    with_log_perplexity: Cell
    with_delta: Cell


class FanPoint(Record):
    step: Number
    n: int
    q05: Number
    q25: Number
    q50: Number
    q75: Number
    q95: Number


class ArmCollapse(Record):
    run_id: str
    step: Number | None


class CurvePoint(Record):
    x: Number
    n: int
    runs: int
    mean: Number
    low: Number | None
    high: Number | None
    reason: str | None
    q10: Number
    q90: Number


class BetaCurves(Record):
    log_prompt_perplexity: list[CurvePoint]
    delta: list[CurvePoint]
    loss: list[CurvePoint]


class ArmLag(Record):
    against: str
    lag: int
    mean: Number
    low: Number | None
    high: Number | None
    reason: str | None
    band: Number
    runs: int


class BetaArm(Record):
    label: str
    fan: list[FanPoint]
    collapses: list[ArmCollapse]
    curves: BetaCurves
    lags: list[ArmLag]


class MatrixBeta(Record):
    groups: list[BetaGroup]
    profiles: list[BetaProfile]
    arms: list[BetaArm]


class Beta(Record):
    """What dynamic_beta goes with, per run and over the matrix; the keys are explained in reports/README.md."""

    warning: str = Field(min_length=1)
    methods: dict[str, str]
    limits: dict[str, int]
    runs: list[RunBeta]
    matrix: MatrixBeta

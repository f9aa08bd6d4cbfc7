"""`summary.beta`: what dynamic_beta goes with. Intervals are 95 %; n counts rows or steps, the keys are in reports/README.md."""

from pydantic import Field

from reports.schema.base import Cell, Collapse, Labelled, Number, Policy, Reasoned, Record


class RowCounts(Record):
    """Recorded examples, those analysed, and those left out."""

    recorded: int
    used: int
    masked: int
    fallback: int | None


class TwoCorrelations(Record):
    """Pearson's and Spearman's coefficient."""

    pearson: Cell
    spearman: Cell


class FourCorrelations(TwoCorrelations):
    """With Kendall's tau and Chatterjee's xi, over a sample of the rows where there are many."""

    kendall: Cell
    xi: Cell
    n_eff: Number | None = Field(description="Rows that independent ones would be worth.")


class Partial(Record):
    """Correlations with step, log perplexity, or step, delta and length held fixed."""

    step: TwoCorrelations
    log_perplexity: TwoCorrelations
    step_delta_length: TwoCorrelations


class _Against(Record):
    """Beta against one recorded quantity; `contains_beta` says that it is computed from beta."""

    against: str
    contains_beta: bool


class Association(Reasoned, _Against):
    n: int
    raw: FourCorrelations
    detrended: FourCorrelations
    partial: Partial


class LossNull(Reasoned):
    """The correlation of beta and loss beside those with beta shuffled among the pairs of a step."""

    observed: Number | None
    mean: Number | None
    low: Number | None
    high: Number | None
    p_value: Number | None
    draws: int
    n: int
    method: str


class LagSeries(Reasoned, _Against):
    """Cross-correlation by lag in steps, with the 95 % band of no relation at each lag."""

    n: int
    lags: list[int]
    values: list[Number]
    band: list[Number]


class BetaQuantile(Record):
    """Means over the rows of one quantile of log prompt perplexity, and the quantile's ends, in nats a token."""

    quantile: int
    n: int
    dynamic_beta: Number | None = Field(description="1/nat.")
    loss: Number | None = Field(description="Nats a pair.")
    loss_at_beta0: Number | None = Field(description="Nats a pair, at the fixed pref_beta.")
    accuracy: Number | None
    log_prompt_perplexity_low: Number
    log_prompt_perplexity_high: Number
    delta: Number | None = Field(description="Nats.")


class Probe(Reasoned):
    """Held-out R2 of log beta on log perplexity, on components of the hidden state, and on both."""

    n: int
    components: int
    perplexity: Cell | None
    hidden: Cell | None
    both: Cell | None


class Learned(Record):
    elasticity: Cell
    probe: Probe


class BetaLevel(Record):
    """Mean and standard deviation of log beta over n rows."""

    level: Number
    spread: Number
    n: int


class Drift(Reasoned):
    """Log beta in the first and the last tenth of the steps, and its change per 100 steps (`slope`)."""

    first: BetaLevel | None
    last: BetaLevel | None
    slope: Cell


class RunBeta(Reasoned, Labelled, Policy):
    dynamic: bool
    step_reason: str | None
    rows: RowCounts | None
    examples: list[Association] | None
    steps: list[Association] | None
    null: LossNull | None
    lags: list[LagSeries]
    perplexity_quantiles: list[BetaQuantile]
    learned: Learned | None
    drift: Drift | None
    collapse: Collapse | None


class Simpson(Reasoned):
    """Whether the relation within runs and that of all rows in one heap have intervals on opposite sides of zero."""

    flag: bool | None


class GroupAssociation(_Against):
    """Several runs: within each, between their means, and with all rows in one heap."""

    runs: int
    linked: Cell | None = Field(
        default=None,
        description="Association inside runs beyond what the runs share: trend in the step, memory, the algebra of the loss. "
        "Null over methods, and in outputs written before it was computed.",
    )
    within: Cell
    within_detrended: Cell
    between: Cell
    pooled: Cell
    simpson: Simpson


class BetaScore(Record):
    benchmark: str
    metric: str
    between: Cell


class BetaGroup(Reasoned, Labelled):
    runs: int
    dynamic_runs: int
    examples: list[GroupAssociation]
    steps: list[GroupAssociation]
    scores: list[BetaScore]


class BetaProfile(Labelled):
    """What an arm's betas are like, so that a control can be seen to do what its name says."""

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
    """Quantiles of beta over the n rows around one step."""

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


class _RunMean(Reasoned):
    """A mean over runs with its 95 % interval."""

    runs: int
    mean: Number
    low: Number | None
    high: Number | None


class CurvePoint(_RunMean):
    """Mean of the rows around x, with their tenth and ninetieth percentile."""

    x: Number
    n: int
    q10: Number
    q90: Number


class BetaCurves(Record):
    """Mean beta in bins of another quantity, and the loss in bins of beta."""

    log_prompt_perplexity: list[CurvePoint]
    delta: list[CurvePoint]
    loss: list[CurvePoint] = Field(
        description="Loss (nats) by log beta, each less the mean of its step. Before version 3: beta by loss."
    )


class ArmLag(_RunMean):
    """Mean cross-correlation at one lag."""

    against: str
    lag: int
    band: Number


class BetaArm(Labelled):
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
    runs: list[RunBeta]
    matrix: MatrixBeta

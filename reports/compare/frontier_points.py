"""The points of the frontiers: the reward of every intermediate checkpoint of a run, and its KL or length."""

from dataclasses import dataclass

from reports.runs import REFERENCE_ID, Arm, MatrixData, RunData, Scores, Snapshot, snapshots
from reports.schema.metrics import FrontierPoint
from reports.statistics.intervals import mean_interval

Rows = list[dict[str, float]]
#: Estimates of the KL, the better first; never mixed: the first that every policy has counts (evals.benchmarks.kl).
ESTIMATORS = ("kl_exact", "kl_k3")
LENGTHS = ("response_tokens", "response_words")
_NO_KL = "KL to the reference was not measured: add a benchmark of kind kl"


def _stated(scores: Scores | None, metric: str) -> tuple[float | None, float | None]:
    """Mean over items and its standard error, from the items; None where there are none."""
    if scores is None or not (values := scores.values(metric)):
        return None, None
    groups = scores.groups
    found = mean_interval(list(values.values()), [groups[i] for i in values])
    return found.value, found.stderr


@dataclass(frozen=True, slots=True)
class Cost:
    """What a reward is paid with: `key` is KL (0 at the reference) or length, the metric the item values to be averaged."""

    key: str
    benchmark: str
    metric: str


class Points:
    """The intermediate checkpoints of each run, read once, with the reference as the point every run starts from."""

    def __init__(self, matrix: MatrixData) -> None:
        self.matrix = matrix
        self._of: dict[str, list[Snapshot]] = {}
        self._kl: dict[str, Cost] = {}

    def of(self, run: RunData) -> list[Snapshot]:
        if run.run_id not in self._of:
            self._of[run.run_id] = snapshots(run)
        return self._of[run.run_id]

    def kl(self, benchmark: str) -> Cost | None:
        """KL on the very answers of the benchmark where it measures that, else on the first one that does."""
        if benchmark not in self._kl:
            names = dict.fromkeys(s.benchmark for r in self.matrix.runs for s in r.scores.values() if s.kind == "kl")
            name = benchmark if benchmark in names else next(iter(names), None)
            every = [p.scores[name] for r in self.matrix.runs for p in self.of(r) if name in p.scores] if name else []
            metric = next((one for one in ESTIMATORS if all(one in table.metrics for table in every)), None)
            if name is None or metric is None:
                return None
            self._kl[benchmark] = Cost("KL", name, metric)
        return self._kl[benchmark]

    def groups(self, benchmark: str) -> dict[str, str]:
        """The groups of a benchmark's items, as the first run that was scored on it has them."""
        return next((r.scores[benchmark].groups for r in self.matrix.runs if benchmark in r.scores), {})

    def cost(self, key: str, benchmark: str) -> Cost | str:
        """KL, or the length of the answers to the benchmark (to the KL prompts where it has none); or why there is none."""
        if benchmark not in self.matrix.benchmarks:
            return f"{benchmark} was not scored"
        kl = self.kl(benchmark)
        if key == "KL":
            return kl or _NO_KL
        sources = [benchmark, *([kl.benchmark] if kl else [])]
        known = (
            Cost(key, source, name)
            for source in sources
            for name in LENGTHS
            if any(s.values(name) for r in self.matrix.runs if (s := r.scores.get(source)))
        )
        return next(known, "the length of the answers was not recorded")

    def frontier(self, run: RunData, cost: Cost, benchmark: str, metric: str) -> tuple[Rows, Rows] | None:
        """Item values of reward and cost, one mapping per point that has both; the reference first."""
        both = [p.scores for p in self.of(run) if benchmark in p.scores and cost.benchmark in p.scores]
        reward = [scores[benchmark].values(metric) for scores in both]
        spent = [scores[cost.benchmark].values(cost.metric) for scores in both]
        begun = self.matrix.reference.scores if self.matrix.reference else {}
        if benchmark in begun and spent:
            measured = begun[cost.benchmark].values(cost.metric) if cost.benchmark in begun else {}
            if start := dict.fromkeys(spent[0], 0.0) if cost.key == "KL" else measured:
                reward, spent = [begun[benchmark].values(metric), *reward], [start, *spent]
        return (reward, spent) if len(spent) > 1 else None

    def row(self, arm: Arm, run: RunData, snap: Snapshot, benchmark: str, metric: str) -> FrontierPoint:
        """One intermediate checkpoint of a run: its KL, reward and length with standard errors, and what was not measured."""
        cost = self.kl(benchmark)
        kl, reward = (snap.scores.get(cost.benchmark) if cost else None), snap.scores.get(benchmark)
        measured = [(s, key) for s in (reward, kl) if s is not None for key in LENGTHS if s.values(key)]
        lengths, name = measured[0] if measured else (None, "")
        moved = (0.0, 0.0) if run is self.matrix.reference else _stated(kl, cost.metric if cost else "")
        gained, length = _stated(reward, metric), _stated(lengths, name)
        stated = {"KL": moved, f"{benchmark}/{metric}": gained, "length": length}
        lacking = [what for what, (value, _) in stated.items() if value is None]
        return FrontierPoint(
            label=arm.label,
            run_id=run.run_id,
            seed=run.seed,
            state=run.state,
            step=snap.step,
            final=snap.final,
            kl=moved[0],
            kl_stderr=moved[1],
            reward=gained[0],
            reward_stderr=gained[1],
            length=length[0],
            length_stderr=length[1],
            length_metric=f"{lengths.benchmark}/{name}" if lengths is not None else None,
            reason=f"not measured: {', '.join(lacking)}" if lacking else None,
        )

    def reference_row(self, benchmark: str, metric: str) -> list[FrontierPoint]:
        """The reference at KL 0; nothing where it was not scored."""
        reference = self.matrix.reference
        if reference is None or benchmark not in reference.scores:
            return []
        arm, start = Arm(REFERENCE_ID, REFERENCE_ID, None, {}, ()), Snapshot(0, False, reference.scores)
        return [self.row(arm, reference, start, benchmark, metric)]

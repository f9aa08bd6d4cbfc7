"""A finished matrix as a pilot: how far seeds and prompts spread, what runs took, and the cheapest design for an effect."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import mean, median

from reports.runs import MatrixData, arms, snapshots
from reports.statistics.crossed import MeanSquares
from reports.statistics.design import ALPHA, LEAST_SEEDS, Spread, components, needed, simulated_needed
from reports.verdict.claims import Claim
from reports.verdict.evidence import gather


class PilotError(ValueError):
    """The matrix cannot serve as a pilot."""


def _metric(matrix: MatrixData, metric: str | None) -> str:
    known = dict.fromkeys(f"{s.benchmark}/{m}" for s in matrix.tables for m in (s.primary_metric, *s.metrics))
    wanted = metric or (matrix.config.get("report") or {}).get("primary") or next(iter(known), None)
    if wanted not in known:
        raise PilotError(f"metric {wanted!r} was not scored; known: {', '.join(known) or 'none'}")
    return str(wanted)


def pilot_squares(
    matrix: MatrixData, metric: str | None = None, against: str | None = None
) -> tuple[str, dict[str, MeanSquares]]:
    """The metric, and the mean squares of each method against the baseline, by the method's name.

    Controls are left out; comparisons with fewer seeds or prompts than the fullest are left out too, since mean squares
    of different designs do not average.

    Raises:
        PilotError: no such metric or method, or no comparison with at least two seeds and two prompts.
    """
    name = _metric(matrix, metric)
    baseline = against or (matrix.config.get("report") or {}).get("baseline") or "fixed"
    all_arms = arms(matrix.runs)
    methods = list(dict.fromkeys(a.method for a in all_arms))
    if baseline not in methods and baseline not in [a.label for a in all_arms]:
        raise PilotError(f"it has no method {baseline!r}; known: {', '.join(methods) or 'none'}")
    tested = dict.fromkeys(a.method for a in all_arms if not a.is_control and a.method != baseline)
    means = {m: gather(matrix, Claim("pilot", m, baseline, name)).contrasts["baseline"].mean for m in tested}
    found = {m: one.squares for m, one in means.items() if one.squares is not None and not math.isnan(one.stderr)}
    if not found:
        raise PilotError(
            f"no method shares two finished seeds and two prompts of {name} with {baseline!r} and differs from it anywhere"
        )
    fullest = max((s.seeds, s.prompts) for s in found.values())
    return name, {m: s for m, s in found.items() if (s.seeds, s.prompts) == fullest}


@dataclass(frozen=True, slots=True)
class Stop:
    """The pilot's policies after one step: the cautious spread of a paired difference there, and what a run costs.

    Attributes:
        step: None for the last one.
        prompts, samples: of the benchmark. sample_variance: of a score over samples of a prompt; None with one sample.
        train, answer: median seconds of training a run up to here, and of one answer with all that is measured beside it.
    """

    step: int | None
    spread: Spread
    prompts: int
    samples: int
    sample_variance: float | None
    train: float
    answer: float

    def sampled(self, samples: int) -> Spread:
        """The spread with another number of samples a prompt: a difference has the sampling variance of two answers."""
        if self.sample_variance is None or samples == self.samples:
            return self.spread
        moved = self.spread.residual**2 + 2 * self.sample_variance * (1 / samples - 1 / self.samples)
        return replace(self.spread, residual=math.sqrt(max(moved, 0.0)))


@dataclass(frozen=True, slots=True)
class Design:
    """Seeds, prompts, samples and steps that find an effect with chance .80, and seconds for all arms of the pilot."""

    seeds: int
    prompts: int
    samples: int
    step: int | None
    seconds: float


#: Numbers of prompts and of samples a prompt that are tried.
PROMPTS, SAMPLES = tuple(2**n for n in range(4, 12)), (1, 2, 4, 8)
_MOST_SEEDS = 100


def stops(matrix: MatrixData, metric: str, against: str | None = None) -> list[Stop]:
    """The last policies, and those of every step at which all finished runs were measured on the metric's benchmark.

    Raises:
        PilotError: see `pilot_squares`, or no finished run says how long it took.
    """
    benchmark, name = metric.split("/")
    done = [run for run in matrix.runs if run.state == "done" and benchmark in run.scores]
    marks = [(run.status or {}).get("stages") or {} for run in done]
    seconds = {stage: [m[stage]["seconds"] for m in marks if stage in m] for stage in ("train", "evaluate")}
    if not all(seconds.values()):
        raise PilotError("none of its finished runs says how long training and evaluation took")
    taken = {
        run.run_id: {s.step: s for s in snapshots(run) if s.step is not None and not s.final and benchmark in s.scores}
        for run in done
    }
    steps = sorted(set.intersection(*(set(found) for found in taken.values())))
    total = max(int((run.status or {}).get("total_steps") or 0) for run in done)
    stated = (matrix.config.get("evaluation") or {}).get("benchmarks") or []
    samples = next((int(one.get("samples") or 1) for one in stated if one.get("name") == benchmark), 1)
    found = []
    for step in (*steps, None):
        at = tuple(run if step is None else replace(run, scores=taken[run.run_id][step].scores) for run in done)
        _, squares = pilot_squares(replace(matrix, runs=at), metric, against)
        tables = [run.scores[benchmark] for run in at]
        known = (item.extra.get("sample_variance") or {} for table in tables for item in table.items)
        spreads = [one[name] for one in known if name in one]
        prompts = len(tables[0].items)
        train = median(seconds["train"]) * (1.0 if step is None or not total else step / total)
        each = median(seconds["evaluate"]) / (prompts * samples)
        cautious = components(list(squares.values()))[1]
        found.append(Stop(step, cautious, prompts, samples, mean(spreads) if spreads else None, train, each))
    return found


def cheapest(pilot: Sequence[Stop], effect: float, arms_count: int, claims: int = 1) -> Design | None:
    """The design with the least time that finds `effect` with chance .80, the number of seeds by simulation.

    Samples vary only where the pilot has several a prompt, and steps only where it has checkpoints; the effect is taken to be
    as large at each of them. None where no design of at most 100 seeds does.
    """

    def design(stop: Stop, prompts: int, samples: int, simulated: bool) -> Design | None:
        """The fewest seeds, by the formula or by simulation, and what they take."""
        spread = stop.sampled(samples)
        if simulated:
            seeds = simulated_needed(spread, effect, prompts=prompts, rivals=claims - 1, limit=2 * _MOST_SEEDS)
        else:
            seeds = needed(spread, effect, prompts=prompts, alpha=ALPHA / claims, least=LEAST_SEEDS, limit=_MOST_SEEDS)
        if seeds is None:
            return None
        each = stop.train + prompts * samples * stop.answer
        return Design(seeds, prompts, samples, stop.step, arms_count * seeds * each)

    choices = [
        (stop, prompts, samples)
        for stop in pilot
        for samples in (SAMPLES if stop.sample_variance is not None else (stop.samples,))
        for prompts in PROMPTS
    ]
    tried = [(found.seconds, choice) for choice in choices if (found := design(*choice, False)) is not None]
    return design(*min(tried, key=lambda one: one[0])[1], True) if tried else None

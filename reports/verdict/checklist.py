"""The reviewer's checklist: which evidence is there, which is missing, and how one can tell."""

from collections import Counter
from collections.abc import Mapping, Sequence

from reports.compare.on_record import contamination_sentence
from reports.runs import Arm, MatrixData, grouped
from reports.schema import Adjusted, AtEqual, Check, Summary

CONTROLS = ("matched_mean", "permuted")
#: Whether what is asked for is there (None: nothing on disk speaks to it), and how one can tell.
Found = tuple[bool | None, str]


def _listed(counts: Mapping[str, object]) -> str:
    return ", ".join(f"{name} {n}" for name, n in counts.items()) or "no methods"


def _declared(summary: Summary) -> Found:
    judged = summary.claims.judged
    late = [f"{c.name} is exploratory" for c in judged if not c.declared]
    first = [c for m in summary.metrics if m.primary for c in m.comparisons if c.exploratory_because]
    late += [f"{c.label}: {c.exploratory_because}" for c in first]
    against = "; ".join([*late, *summary.claims.changes])
    if not judged and not against:
        return None, "no claim was declared: every comparison is exploratory in spirit"
    return not against, against or f"{len(judged)} claim(s) frozen {summary.claims.frozen}"


def _baseline_grid(arms: Sequence[Arm], baseline: Arm | None) -> Found:
    family = [a for a in arms if baseline is not None and a.method == baseline.method]
    if baseline is None or len(family) < 3:
        few = f"the baseline was tried at {len(family)} setting(s); at least 3, so that the best one is not at the edge"
        return None, few if baseline else "no baseline"
    for key, best in baseline.settings.items():
        values = sorted({v for a in family if isinstance(v := a.settings.get(key), (int, float))})
        if len(values) > 1 and best in (values[0], values[-1]):
            return False, f"the best {key} is {best:g}, an edge of {values[0]:g}..{values[-1]:g}"
    return True, f"{baseline.label} is inside the grid of {len(family)} settings"


def _disjoint(matrix: MatrixData, summary: Summary) -> Found:
    texts = summary.contamination
    if texts.benchmarks:
        return not any(one.exact for one in texts.benchmarks.values()), contamination_sentence(texts)
    trained = {i for run in matrix.runs for i in run.example_ids()}
    scored = {item.id for table in matrix.tables for item in table.items}
    if not trained or not scored:
        return None, "no training examples or no scored prompts on record"
    # A pair's id may be its prompt's id with a suffix, so a prompt id that starts a training id counts as shared.
    prompts = trained | {t.rsplit(sep, 1)[0] for t in trained for sep in "-/:#" if sep in t}
    shared = sorted(scored & prompts)
    if shared:
        return False, f"{len(shared)} scored prompt id(s) also trained on, for example {shared[0]}"
    return True, f"{len(trained)} training ids and {len(scored)} scored ids share none (ids, not texts)"


def _at_equal(rows: Sequence[AtEqual], tested: Sequence[str], baseline: Arm | None) -> Found:
    """Whether the methods were compared with the baseline at an equal KL or length, and their differences there."""
    against = [c for c in rows if baseline and c.against == baseline.label and c.label in tested]
    if not against:
        return None, ""
    absent = [c for c in against if c.matched.difference.low is None]
    if absent:
        why = [f"{c.label} ({c.reason or c.matched.difference.reason})" for c in absent]
        return False, f"not compared: {'; '.join(why)}"
    points = min(c.points_per_run or 0 for c in against)
    differences = [(c.label, c.matched.difference) for c in against]
    shown = ", ".join(f"{label} {d.value:+.3f} (95 % {d.low:+.3f} to {d.high:+.3f})" for label, d in differences)
    return True, f"{shown}; at least {points} points a run"


def _length(summary: Summary, tested: Sequence[str], baseline: Arm | None) -> Found:
    arms = [arm for benchmark in summary.judges for judge in benchmark.judges for arm in judge.against_reference]
    count = sum(arm.length_controlled.value is not None for arm in arms)
    if count:
        return True, f"{count} length-controlled win rates"
    passed, matched = _at_equal(summary.frontiers.length.comparisons, tested, baseline)
    if passed:
        return True, f"{summary.primary.value} at equal mean length: {matched}"
    lengths = grouped(
        (point.label, point.length)
        for point in summary.frontiers.points
        if point.length is not None and (point.final or point.step == 0)
    )
    if not lengths:
        return None, "scores are not adjusted for the length of the answer, nor was it recorded"
    shown = _listed({label: f"{sum(v) / len(v):.0f}" for label, v in lengths.items()})
    why = f"; at equal length: {matched}" if matched else ""
    return False, f"scores are not adjusted for length; mean answer lengths: {shown}{why}"


def _judged(matrix: MatrixData, summary: Summary) -> Found:
    verifiable = sorted({table.kind for table in matrix.tables if table.by_rule})
    judges = sorted({j.name for b in summary.judges for j in b.judges if j.state == "done"})
    if verifiable:
        return True, f"scored by rule: {', '.join(verifiable)}"
    if len(judges) >= 2:
        return True, f"{len(judges)} judges: {', '.join(judges)}"
    return None, f"no benchmark is scored by rule, and {len(judges)} judge(s) finished"


def _tests(summary: Summary) -> str:
    made = summary.tests
    further: dict[str, Sequence[Adjusted]] = {
        "at best settings": summary.tuning.comparisons,
        "by perplexity": summary.strata.comparisons,
        "at matched KL": summary.frontiers.comparisons,
        "at equal length": summary.frontiers.length.comparisons,
    }
    sizes = [f"{rows[0].adjusted_p.family_size if rows else 0} {where}" for where, rows in further.items()]
    counted = [f"{made.declared} declared (Holm)", f"{made.exploratory} exploratory (Benjamini-Hochberg)", *sizes]
    return ", ".join([*counted, f"{made.checkpoint_level} of single checkpoints, not adjusted"])


def checklist(matrix: MatrixData, arms: Sequence[Arm], baseline: Arm | None, summary: Summary) -> list[Check]:
    """The entries, from the summary without them."""
    finished = {a.label: sum(r.state == "done" for r in a.runs) for a in arms}
    run = {name for a in arms if finished[a.label] for name in (a.rule, a.method)}
    absent = [c for c in CONTROLS if c not in run]
    tested = [a.label for a in arms if not a.is_control]
    tried = Counter(a.method for a in arms if not a.is_control)  # a control follows its method and is not tuned
    planted, at_kl = summary.sensitivity, _at_equal(summary.frontiers.comparisons, tested, baseline)
    noise = bool(summary.noise_floor.rows) or any(table.noise for table in matrix.tables)
    scored = matrix.reference is not None and bool(matrix.reference.scores)
    forgetting = any(table.kind == "lm_eval" for table in matrix.tables)
    # A beta read from the answer differs between chosen and rejected, so log Z(x) no longer cancels in the DPO loss.
    seen = sorted({r.method for r in matrix.runs if r.settings.get("aggregation") == "last_completion_token"})
    lost, runs = sum(r.state != "done" for r in matrix.runs), len(matrix.runs)
    found: dict[str, Found] = {
        "Claims and plan frozen before training": _declared(summary),
        "Planted effect detected, none where none was planted": (planted.nulls_count, planted.sentence)
        if planted is not None
        else (None, "no control with a known effect was declared (sensitivity)"),
        "At least 5 finished seeds for every method": (min(finished.values(), default=0) >= 5, _listed(finished)),
        "Controls present (matched_mean, permuted)": (
            not absent,
            f"without: {', '.join(absent)}" if absent else "matched_mean and permuted finished",
        ),
        "Equal tuning budget": (
            len(set(tried.values())) == 1 if tried else None,
            f"settings tried: {_listed(tried)}",
        ),
        "Best baseline setting inside its grid": _baseline_grid(arms, baseline),
        "Compared at matched KL": (at_kl[0], at_kl[1] or summary.frontiers.reason or "no method beside the baseline"),
        "Answer length controlled": _length(summary, tested, baseline),
        "Verifiable reward, or at least two judges": _judged(matrix, summary),
        "Noise floor measured": (noise or None, f"{'a' if noise else 'no'} policy was evaluated twice"),
        "Held-out prompts disjoint from training prompts": _disjoint(matrix, summary),
        "Reference policy evaluated the same way": (
            scored or None,
            "reference/ has scores" if scored else "no reference scores",
        ),
        "Forgetting checked": (forgetting or None, f"{'an' if forgetting else 'no'} lm_eval benchmark was run"),
        "No beta is read from the answer": (
            not seen,
            f"aggregation last_completion_token: {', '.join(seen)}"
            if seen
            else "no method's head reads the last completion token",
        ),
        "Tests counted and corrected": (True, _tests(summary)),
        "Failed runs listed": (True, f"{lost} of {runs} did not finish" if lost else f"all {runs} runs finished"),
    }
    return [
        Check(name=name, state="missing" if passed is None else "pass" if passed else "fail", evidence=evidence)
        for name, (passed, evidence) in found.items()
    ]

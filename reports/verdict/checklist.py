"""The reviewer's checklist: which evidence is there, which is missing, and how one can tell."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from reports.compare.comparison import CONTROL_RULES
from reports.compare.contamination import contamination_sentence
from reports.runs.arms import Arm
from reports.runs.records import MatrixData

CONTROLS = ("matched_mean", "permuted")


def is_control(arm: Arm) -> bool:
    """Whether an arm is one of the controls, by its rule or its name."""
    return arm.rule in CONTROL_RULES or arm.method in CONTROL_RULES


def _entry(name: str, state: str, evidence: str) -> dict[str, str]:
    return {"name": name, "state": state, "evidence": evidence}


def _seeds(arms: Sequence[Arm]) -> dict[str, str]:
    counts = {a.label: sum(r.state == "done" for r in a.runs) for a in arms}
    least = min(counts.values(), default=0)
    shown = ", ".join(f"{label} {n}" for label, n in counts.items()) or "no methods"
    return _entry("At least 5 finished seeds for every method", "pass" if least >= 5 else "fail", shown)


def _budget(arms: Sequence[Arm]) -> dict[str, str]:
    settings: dict[str, int] = {}
    for arm in arms:
        if not is_control(arm):  # a control follows its method's setting and is not tuned
            settings[arm.method] = settings.get(arm.method, 0) + 1
    equal = len(set(settings.values())) <= 1
    shown = ", ".join(f"{method} {n}" for method, n in settings.items()) or "no methods"
    if not settings:
        return _entry("Equal tuning budget", "missing", "no methods")
    return _entry("Equal tuning budget", "pass" if equal else "fail", f"settings tried: {shown}")


def _baseline_grid(arms: Sequence[Arm], baseline: Arm | None) -> dict[str, str]:
    name = "Best baseline setting inside its grid"
    if baseline is None:
        return _entry(name, "missing", "no baseline")
    family = [a for a in arms if a.method == baseline.method]
    if len(family) < 3:
        return _entry(
            name,
            "missing",
            f"the baseline was tried at {len(family)} setting(s); at least 3, so that the best one is not at the edge",
        )
    for key, best in baseline.settings.items():
        values = sorted({v for a in family if isinstance(v := a.settings.get(key), (int, float))})
        if len(values) > 1 and best in (values[0], values[-1]):
            return _entry(name, "fail", f"the best {key} is {best:g}, an edge of {values[0]:g}..{values[-1]:g}")
    return _entry(name, "pass", f"{baseline.label} is inside the grid of {len(family)} settings")


def _controls(arms: Sequence[Arm]) -> dict[str, str]:
    finished = {n for a in arms if any(r.state == "done" for r in a.runs) for n in (a.rule, a.method)}
    absent = [c for c in CONTROLS if c not in finished]
    evidence = f"without: {', '.join(absent)}" if absent else "matched_mean and permuted finished"
    return _entry("Controls present (matched_mean, permuted)", "fail" if absent else "pass", evidence)


def _disjoint(matrix: MatrixData, summary: Mapping[str, Any]) -> dict[str, str]:
    name = "Held-out prompts disjoint from training prompts"
    texts = summary.get("contamination") or {"benchmarks": None}
    if texts["benchmarks"]:
        shared = sum(one["exact"] for one in texts["benchmarks"].values())
        return _entry(name, "fail" if shared else "pass", contamination_sentence(texts))
    trained: set[str] = set()
    for run in matrix.runs:
        trained |= run.example_ids()
    policies = [*matrix.runs, *([matrix.reference] if matrix.reference else [])]
    scored = {i.id for r in policies for s in r.scores.values() for i in s.items}
    if not trained or not scored:
        return _entry(name, "missing", "no training examples or no scored prompts on record")
    # A pair's id may be its prompt's id with a suffix, so a prompt id that starts a training id counts as shared.
    prompts = trained | {t.rsplit(sep, 1)[0] for t in trained for sep in "-/:#" if sep in t}
    shared = sorted(scored & prompts)
    if shared:
        return _entry(name, "fail", f"{len(shared)} scored prompt id(s) also trained on, for example {shared[0]}")
    return _entry(name, "pass", f"{len(trained)} training ids and {len(scored)} scored ids share none (ids, not texts)")


def _answer_seen(matrix: MatrixData) -> dict[str, str]:
    """A beta read from the answer differs between chosen and rejected, so log Z(x) no longer cancels in the DPO loss."""
    seen = sorted(
        {
            run.method
            for run in matrix.runs
            if ((run.identity or {}).get("params") or {}).get("aggregation") == "last_completion_token"
        }
    )
    name = "No beta is read from the answer"
    if seen:
        return _entry(name, "fail", f"aggregation last_completion_token: {', '.join(seen)}")
    return _entry(name, "pass", "no method's head reads the last completion token")


def _at_equal(
    comparisons: Sequence[Mapping[str, Any]], baseline: Arm | None, controls: Sequence[str]
) -> tuple[str, str]:
    """State and evidence of the methods' comparisons with the baseline at an equal KL or length."""
    against = [c for c in comparisons if baseline and c["against"] == baseline.label and c["label"] not in controls]
    held = [c for c in against if c["matched"]["difference"]["low"] is not None]
    absent = [f"{c['label']} ({c['reason'] or c['matched']['difference']['reason']})" for c in against if c not in held]
    if absent:
        return "fail", f"not compared: {'; '.join(absent)}"
    points = min(c["points_per_run"] for c in held) if held else 0
    shown = ", ".join(f"{c['label']} {c['matched']['difference']['value']:+.3f}" for c in held)
    if points < 3:
        return "fail", f"{shown}; only the final policies: a straight line from the reference to each"
    return "pass" if held else "missing", f"{shown}; at least {points} points a run"


def _matched_kl(summary: Mapping[str, Any], baseline: Arm | None, controls: Sequence[str]) -> dict[str, str]:
    name, found = "Compared at matched KL", summary["frontiers"]
    if not found["comparisons"]:
        return _entry(name, "missing", found["reason"] or "no method beside the baseline")
    return _entry(name, *_at_equal(found["comparisons"], baseline, controls))


def _controlled_lengths(value: Any) -> int:
    """How many length-controlled win rates were estimated, anywhere in the judges' part."""
    if isinstance(value, Mapping):
        own = value.get("length_controlled")
        here = int(isinstance(own, Mapping) and own.get("value") is not None)
        return here + sum(_controlled_lengths(v) for v in value.values())
    return sum(_controlled_lengths(v) for v in value) if isinstance(value, list) else 0


def _length(summary: Mapping[str, Any], baseline: Arm | None, controls: Sequence[str]) -> dict[str, str]:
    name = "Answer length controlled"
    count = _controlled_lengths(summary.get("judges") or [])
    if count:
        return _entry(name, "pass", f"{count} length-controlled win rates")
    state, matched = _at_equal(summary["frontiers"]["length"]["comparisons"], baseline, controls)
    if state == "pass":
        return _entry(name, "pass", f"{summary['primary']['value']} at equal mean length: {matched}")
    lengths: dict[str, list[float]] = {}
    for point in summary["frontiers"]["points"]:
        if point["length"] is not None and (point["final"] or point["step"] == 0):
            lengths.setdefault(point["label"], []).append(point["length"])
    if not lengths:
        return _entry(name, "missing", "scores are not adjusted for the length of the answer, nor was it recorded")
    shown = ", ".join(f"{label} {sum(v) / len(v):.0f}" for label, v in lengths.items())
    why = f"; at equal length: {matched}" if matched and state == "fail" else ""
    return _entry(name, "fail", f"scores are not adjusted for length; mean answer lengths: {shown}{why}")


def _tests(summary: Mapping[str, Any]) -> dict[str, str]:
    made = summary["tests"]
    further = {
        "at best settings": summary["tuning"]["comparisons"],
        "by perplexity": summary["strata"]["comparisons"],
        "at matched KL": summary["frontiers"]["comparisons"],
        "at equal length": summary["frontiers"]["length"]["comparisons"],
    }
    sizes = {k: next((r["adjusted_p"]["family_size"] for r in rows), 0) for k, rows in further.items()}
    shown = ", ".join(
        [f"{made['declared']} declared (Holm)", f"{made['exploratory']} exploratory (Benjamini-Hochberg)"]
        + [f"{n} {k}" for k, n in sizes.items()]
        + [f"{made['checkpoint_level']} of single checkpoints, not adjusted"]
    )
    return _entry("Tests counted and corrected", "pass", shown)


def _declared(summary: Mapping[str, Any]) -> dict[str, str]:
    name, claims = "Claims frozen before training", summary["claims"]
    judged = claims["judged"]
    if not judged:
        return _entry(name, "missing", "no claim was declared: every comparison is exploratory in spirit")
    late = [c["name"] for c in judged if not c["declared"]]
    if late or claims["changes"]:
        return _entry(name, "fail", "; ".join([*(f"{n} is exploratory" for n in late), *claims["changes"]]))
    return _entry(name, "pass", f"{len(judged)} claim(s) frozen {claims['frozen']}")


def _judged(kinds: set[str], summary: Mapping[str, Any]) -> dict[str, str]:
    name = "Verifiable reward, or at least two judges"
    verifiable = sorted(kinds & {"constraints", "gold_reward", "gsm8k", "ifeval", "lm_eval"})
    if verifiable:
        return _entry(name, "pass", f"scored by rule: {', '.join(verifiable)}")
    judges = {j.get("name") for b in summary.get("judges") or [] for j in b["judges"] if j.get("state") == "done"}
    if len(judges) >= 2:
        return _entry(name, "pass", f"{len(judges)} judges: {', '.join(sorted(map(str, judges)))}")
    return _entry(name, "missing", f"no benchmark is scored by rule, and {len(judges)} judge(s) finished")


def checklist(
    matrix: MatrixData, arms: Sequence[Arm], baseline: Arm | None, summary: Mapping[str, Any]
) -> list[dict[str, str]]:
    """Entries {name, state: pass | fail | missing, evidence}; missing means that nothing on disk speaks to it.

    `summary` is the summary so far, with `tuning`, `frontiers` and `strata`.
    """
    policies = [*matrix.runs, *([matrix.reference] if matrix.reference else [])]
    kinds = {s.kind for r in policies for s in r.scores.values()}
    noise = any(s.noise for r in policies for s in r.scores.values()) or (summary.get("noise_floor") or {}).get("rows")
    unfinished = [r.run_id for r in matrix.runs if r.state != "done"]
    control_labels = [a.label for a in arms if is_control(a)]
    scored = matrix.reference is not None and bool(matrix.reference.scores)
    return [
        _declared(summary),
        _seeds(arms),
        _controls(arms),
        _budget(arms),
        _baseline_grid(arms, baseline),
        _matched_kl(summary, baseline, control_labels),
        _length(summary, baseline, control_labels),
        _judged(kinds, summary),
        _entry(
            "Noise floor measured",
            "pass" if noise else "missing",
            "a policy was evaluated twice" if noise else "no policy was evaluated twice",
        ),
        _disjoint(matrix, summary),
        _entry(
            "Reference policy evaluated the same way",
            "pass" if scored else "missing",
            "reference/ has scores" if scored else "no reference scores",
        ),
        _entry(
            "Forgetting checked",
            "pass" if "lm_eval" in kinds else "missing",
            "an lm_eval benchmark was run" if "lm_eval" in kinds else "no lm_eval benchmark was run",
        ),
        _answer_seen(matrix),
        _tests(summary),
        _entry(
            "Failed runs listed",
            "pass",
            f"{len(unfinished)} of {len(matrix.runs)} did not finish"
            if unfinished
            else f"all {len(matrix.runs)} runs finished",
        ),
    ]

"""The reviewer's checklist: which evidence is there, which is missing, and how one can tell."""

from __future__ import annotations

from collections.abc import Sequence

from .claim_evidence import CONTROL_RULES
from .labels import Arm
from .records import MatrixData

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
            f"the baseline was tried at {len(family)} setting(s); 3 are needed to have an inside",
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


def _disjoint(matrix: MatrixData) -> dict[str, str]:
    name = "Held-out prompts disjoint from training prompts"
    trained: set[str] = set()
    for run in matrix.runs:
        rows = run.examples(["example_id"])
        if rows is not None:
            trained |= set(rows["example_id"].astype(str))
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


def checklist(matrix: MatrixData, arms: Sequence[Arm], baseline: Arm | None) -> list[dict[str, str]]:
    """Entries {name, state: pass | fail | missing, evidence}; missing means that nothing on disk speaks to it."""
    policies = [*matrix.runs, *([matrix.reference] if matrix.reference else [])]
    kinds = {s.kind for r in policies for s in r.scores.values()}
    noise = any(s.noise for r in policies for s in r.scores.values())
    unfinished = [r.run_id for r in matrix.runs if r.state != "done"]
    verifiable = sorted(kinds & {"constraints", "gsm8k", "ifeval", "lm_eval"})
    return [
        _seeds(arms),
        _controls(arms),
        _budget(arms),
        _baseline_grid(arms, baseline),
        _disjoint(matrix),
        _entry(
            "Verifiable reward, or at least two judges",
            "pass" if verifiable else "missing",
            f"scored by rule: {', '.join(verifiable)}" if verifiable else "no benchmark is scored by rule",
        ),
        _entry(
            "Reference policy evaluated the same way",
            "pass" if matrix.reference and matrix.reference.scores else "missing",
            "reference/ has scores" if matrix.reference and matrix.reference.scores else "no reference scores",
        ),
        _entry(
            "Forgetting checked",
            "pass" if "lm_eval" in kinds else "missing",
            "an lm_eval benchmark was run" if "lm_eval" in kinds else "no lm_eval benchmark was run",
        ),
        _entry(
            "Noise floor measured",
            "pass" if noise else "missing",
            "a policy was evaluated twice" if noise else "no policy was evaluated twice",
        ),
        _entry(
            "Compared at matched KL",
            "missing",
            "KL to the reference was measured, but scores are not compared at equal KL"
            if "kl" in kinds
            else "KL to the reference was not measured",
        ),
        _answer_seen(matrix),
        _entry("Answer length controlled", "missing", "scores are not adjusted for the length of the answer"),
        _entry(
            "Failed runs listed",
            "pass",
            f"{len(unfinished)} of {len(matrix.runs)} did not finish"
            if unfinished
            else f"all {len(matrix.runs)} runs finished",
        ),
    ]

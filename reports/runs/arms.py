"""Name the arms of a matrix: a method at one setting of its grid. Seeds of one arm are replicates; settings are not."""

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from reports.runs.records import RunData
from trainers.common.files import Json

#: Rules whose runs repeat, or mirror, the betas of a parent method.
CONTROL_RULES = ("matched_mean", "permuted", "inverse", "weight_only", "saturation_only")


@dataclass(frozen=True, slots=True)
class Arm:
    """A method at one setting, with its runs (one per seed, failed and missing ones included)."""

    label: str
    method: str
    rule: str | None
    settings: Json
    runs: tuple[RunData, ...]

    @property
    def is_control(self) -> bool:
        """Whether it is one of the controls, by its rule or its name."""
        return self.rule in CONTROL_RULES or self.method in CONTROL_RULES or self.planted is not None

    @property
    def planted(self) -> Json | None:
        """`role` and `against` of a control of `sensitivity`, as its runs say them; None for any other arm."""
        return next((found for r in self.runs if r.identity and (found := r.identity.get("planted"))), None)


K = TypeVar("K")
V = TypeVar("V")


def grouped(pairs: Iterable[tuple[K, V]]) -> dict[K, list[V]]:
    """The values of each key; keys, and the values of each, in order of first appearance."""
    found: dict[K, list[V]] = {}
    for key, value in pairs:
        found.setdefault(key, []).append(value)
    return found


def same_beta(control: Arm, every: Sequence[Arm]) -> Arm | None:
    """What a control of `sensitivity` is compared with: the arm of that method with its pref_beta, else its only one."""
    found = [a for a in every if control.planted and a.method == control.planted["against"] and a is not control]
    equal = [a for a in found if a.settings.get("pref_beta") == control.settings.get("pref_beta")]
    return equal[0] if equal else found[0] if len(found) == 1 else None


def contrasts(all_arms: Sequence[Arm], baseline: Arm | None) -> list[tuple[Arm, Arm]]:
    """The pairs to compare: every arm with the baseline, every method under test with every control; and each control of
    `sensitivity` with what it is compared with, alone."""
    if baseline is None:
        return []
    others = [a for a in all_arms if a.planted is None]
    tested = [a for a in others if a.method != baseline.method and not a.is_control]
    return [
        *((a, baseline) for a in others if a is not baseline),
        *((a, control) for a in tested for control in others if control.is_control),
        *((a, other) for a in all_arms if a.planted and (other := same_beta(a, all_arms)) is not None),
    ]


_UNKNOWN = "unknown"


def _key(value: Any) -> str:
    return json.dumps(value, sort_keys=True, default=str)


def differing(settings: Sequence[Json]) -> list[str]:
    """The names of the settings whose values are not all the same, in order of first appearance."""
    names = dict.fromkeys(name for one in settings for name in one)
    return [name for name in names if len({_key(one.get(name)) for one in settings}) > 1]


def arms(runs: Sequence[RunData]) -> list[Arm]:
    """Group runs into arms, in order of first appearance.

    The label is the method's name, followed by the settings that tell its arms apart when it has several:
    `foodpo[pref_beta_scale=0.3]`. A run without run.json cannot be placed when its method has several settings and
    gets an arm of its own. Controls that differ only in the setting of their parent are distinguished by it.
    """
    by_id = {run.run_id: run for run in runs}
    times = Counter((run.method, _key(run.settings), run.seed) for run in runs if run.identity)
    repeated = {method for (method, _, _), count in times.items() if count > 1}

    def settings_of(run: RunData) -> Json:
        parent = by_id.get((run.identity or {}).get("parent") or "") if run.method in repeated else None
        return run.settings if parent is None else {**parent.settings, **run.settings}

    by_method: dict[str, dict[str, list[RunData]]] = {}
    for run in runs:
        key = _key(settings_of(run)) if run.identity else _UNKNOWN
        by_method.setdefault(run.method, {}).setdefault(key, []).append(run)
    named: list[Arm] = []
    for method, settings in by_method.items():
        known = [settings_of(group[0]) for key, group in settings.items() if key != _UNKNOWN]
        if _UNKNOWN in settings and len(known) == 1:
            settings[_key(known[0])].extend(settings.pop(_UNKNOWN))
        telling = differing(known)
        for key, group in settings.items():
            values = settings_of(group[0])
            told = [f"{k}={v:g}" if isinstance(v := values.get(k), float) else f"{k}={v}" for k in telling]
            if key == _UNKNOWN and known:
                told = ["setting unknown"]
            label = f"{method}[{', '.join(told)}]" if told else method
            # Two runs with one seed differ in something that is not a setting (training, data): not replicates.
            first = {r.seed: r for r in reversed(group)}
            replicates = [r for r in group if r.seed is None or first[r.seed] is r]
            rule = next((r.rule for r in group if r.rule), None)
            named.append(Arm(label, method, rule, values, tuple(replicates)))
            named += [
                Arm(f"{label} ({r.run_id})", method, r.rule, settings_of(r), (r,))
                for r in group
                if r.seed is not None and first[r.seed] is not r
            ]
    return named


def arm_of(all_arms: Sequence[Arm]) -> dict[str, str]:
    """Map every run id to the label of its arm."""
    return {run.run_id: arm.label for arm in all_arms for run in arm.runs}

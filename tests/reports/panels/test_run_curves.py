"""The curves of run after run in one figure: as if each were drawn alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from reports.panels.run_curves import RunCurves
from reports.runs.arms import Arm
from reports.runs.records import RunData


def arm(name: str, records: list[dict[str, Any]]) -> Arm:
    run = RunData(f"{name}-0", Path("."), {"method": name, "seed": 0}, None, tuple(records), {})
    return Arm(name, name, None, {}, (run,))


def records(steps: int, level: float, **more: Any) -> list[dict[str, Any]]:
    return [
        {"step": i, "loss": level / (i + 1), "delta": level * i, "dynamic_beta": 0.1 * level, **more}
        for i in range(1, steps + 1)
    ]


ARMS = [
    arm("long", records(300, 500.0, **{"rewards/accuracies": 0.5})),
    arm("short", records(3, 1e-3)),
    arm("nothing", []),
    arm("diverged", [*records(20, 0.1), {"step": 21, "loss": float("nan"), "delta": 2.0}]),
    arm("outlier", [*records(40, 1.0), {"step": 41, "loss": 1e9}]),
]


def test_a_picture_does_not_depend_on_those_before_it(tmp_path: Path) -> None:
    curves = RunCurves()
    expected = []
    for one in ARMS:
        RunCurves().save(one, tmp_path / "alone.png")
        expected.append((tmp_path / "alone.png").read_bytes())
    assert len(set(expected)) == len(ARMS)
    for order in (range(len(ARMS)), reversed(range(len(ARMS)))):
        for place in order:
            curves.save(ARMS[place], tmp_path / "drawn.png")
            assert (tmp_path / "drawn.png").read_bytes() == expected[place]

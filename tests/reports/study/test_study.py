"""Studies of several matrices: the claims, and the shipped pages recomputed from the scores of every answer."""

from __future__ import annotations

import csv
import gzip
import json
import math
import subprocess
from collections import defaultdict
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml

from reports.study import judge, read_study
from reports.study.__main__ import main

STUDIES = sorted(path.parent for path in (Path(__file__).parents[3] / "reports" / "studies").glob("*/study.json"))
WORLDS = [(study, world.parent) for study in STUDIES for world in sorted(study.glob("*/summary.json"))]


class Answers:
    """The scores of one world, read and averaged without the code of the reports."""

    def __init__(self, folder: Path, metric: str, cost: str) -> None:
        benchmark, reward = metric.split("/")
        self.found: dict[tuple[str, str], dict[int, dict[str, tuple[str, float, float]]]] = defaultdict(dict)
        with gzip.open(folder / "scores.csv.gz", "rt", newline="") as handle:
            for row in csv.DictReader(handle):
                if row["benchmark"] == benchmark:
                    kl = float(row[cost]) if row["method"] != "reference" else 0.0
                    points = self.found[row["method"], row["seed"]].setdefault(int(row["step"]), {})
                    points[row["id"]] = (row["group"], float(row[reward]), kl)

    def curve(self, method: str, seed: str) -> tuple[np.ndarray, np.ndarray]:
        """sqrt(KL) of each point, shape (points,), and rewards by group, shape (points, groups), the reference first."""
        points = [self.found["reference", ""][0], *(p for _, p in sorted(self.found[method, seed].items()))]
        names = sorted({group for group, *_ in points[0].values()})
        rewards, places = [], []
        for point in points:
            mean = np.mean([r for _, r, _ in point.values()])
            sums = [sum(r - mean for g, r, _ in point.values() if g == name) for name in names]
            rewards.append(mean + np.array(sums) * len(names) / len(point))
            places.append(math.sqrt(max(np.mean([kl for *_, kl in point.values()]), 0.0)))
        order = np.argsort(places, kind="stable")
        return np.array(places)[order], np.array(rewards)[order]

    def difference(self, first: str, second: str, window: list[float] | None) -> dict[str, np.ndarray]:
        """By seed, the mean vertical difference over the window on the axis sqrt(KL), shape (groups,); without a window, the
        difference at the largest KL of both."""
        seeds = sorted({s for m, s in self.found if m == first} & {s for m, s in self.found if m == second}, key=int)
        found = {}
        for seed in seeds:
            curves = [self.curve(method, seed) for method in (first, second)]
            low, high = max(x[0] for x, _ in curves), min(x[-1] for x, _ in curves)
            if window is not None:
                low, high = max(low, math.sqrt(window[0])), min(high, math.sqrt(window[1]))
            at = np.linspace(low, high, 33)
            one, other = (np.array([np.interp(at, x, column) for column in y.T]) for x, y in curves)
            gaps = one - other
            found[seed] = gaps[:, -1] if window is None else np.trapezoid(gaps, dx=1 / 32, axis=1)
        return found


def interval(values: np.ndarray) -> tuple[float, float, float, float]:
    """Mean, standard error and 95 % interval over seeds (rows) and prompts (columns), both as samples (Satterthwaite)."""
    seeds, prompts = values.shape
    centred = values - values.mean()
    seed = prompts * (centred.mean(1) ** 2).sum() / (seeds - 1)
    prompt = seeds * (centred.mean(0) ** 2).sum() / (prompts - 1)
    cells = (seeds - 1) * (prompts - 1)
    rest = ((centred**2).sum() - seed * (seeds - 1) - prompt * (prompts - 1)) / cells
    beyond = max(prompt - rest, 0.0)
    degrees = float(seeds - 1)
    if beyond:
        degrees = (seed + beyond) ** 2 / (seed**2 / (seeds - 1) + prompt**2 / (prompts - 1) + rest**2 / cells)
    error = math.sqrt((seed + beyond) / values.size)
    x = np.linspace(0.0, 60.0, 600_001)  # the t density, summed until it holds 47.5 %
    density = (1 + x**2 / degrees) ** (-(degrees + 1) / 2)
    mass = np.concatenate([[0.0], np.cumsum((density[1:] + density[:-1]) / 2)])
    far = float(np.interp(0.95 * mass[-1], mass, x))
    return values.mean(), error, values.mean() - far * error, values.mean() + far * error


@pytest.mark.parametrize("folder", STUDIES, ids=lambda path: path.name)
def test_numpy_alone_gives_the_numbers_of_the_page(folder: Path) -> None:
    stated = yaml.safe_load((folder / "study.yaml").read_text())
    page, found = (folder / "README.md").read_text(), json.loads((folder / "study.json").read_text())
    there = [name for name in stated["worlds"] if (folder / name / "scores.csv.gz").is_file()]
    worlds = {name: Answers(folder / name, stated["metric"], stated["cost"]) for name in there}
    window = stated.get("window")
    told = 0
    for claim, judged in zip(stated["claims"], found["claims"], strict=True):
        if any(term["world"] not in worlds for term in claim["terms"]):
            assert judged["verdict"] == "not run"
            continue
        terms = [
            (term.get("weight", 1.0), worlds[term["world"]].difference(term["method"], term["against"], window))
            for term in claim["terms"]
        ]
        shared = sorted(set.intersection(*(set(d) for _, d in terms)), key=int)
        values = np.array([sum(weight * d[seed] for weight, d in terms) for seed in shared])
        expected = interval(values)
        keys = ("difference", "standard_error", "ci_low", "ci_high")
        assert [judged[key] for key in keys] == pytest.approx(expected, abs=2e-5)
        assert judged["seed_differences"] == pytest.approx(values.mean(axis=1).tolist(), abs=2e-5)
        assert f"{judged['difference']:+.3f} ({judged['ci_low']:+.3f} to {judged['ci_high']:+.3f})" in page
        told += 1
    for name, world in worlds.items():
        seen = json.loads((folder / name / "summary.json").read_text())["sensitivity"] or {}
        for control in (seen[role] for role in ("positive", "weak", "negative") if seen.get(role)):
            values = np.array(list(world.difference(control["label"], control["against"], window).values()))
            keys = ("difference", "standard_error", "ci_low", "ci_high")
            assert [control[key] for key in keys] == pytest.approx(interval(values), abs=2e-5)
            assert control["sentence"] in page
            told += 1
    assert told


@pytest.mark.parametrize(("study", "world"), WORLDS, ids=lambda path: path.name)
def test_the_plan_was_committed_before_the_first_run(study: Path, world: Path) -> None:
    summary = json.loads((world / "summary.json").read_text())
    plan = world / "plan.txt"
    assert json.loads((world / "claims.json").read_text())["sha256"] in plan.read_text()
    shallow, times = (
        subprocess.run(("git", *command), capture_output=True, text=True, cwd=world).stdout.split()
        for command in (
            ("rev-parse", "--is-shallow-repository"),
            ("log", "--diff-filter=A", "--format=%aI", "--", str(plan)),
        )
    )
    if shallow != ["false"] or not times:
        pytest.skip("no whole git history here")
    committed = datetime.fromisoformat(times[-1])
    created: dict[str, Any] = summary["provenance"]["created"]
    assert created and all(datetime.fromisoformat(time) > committed for time in created.values())


STUDY = """\
question: Does it?
metric: kl/reward
cost: kl_exact
window: [1, 4]
looks: [6, 10]
worlds:
  a: {says: clean labels, baseline: fixed, exploratory: [mallows]}
  b: {says: noisy labels, baseline: fixed}
claims:
  - {name: C1, says: it helps, terms: [{world: a, method: dynamic, against: fixed}], min_effect: 0.05, predicted: better}
  - {name: C2, says: there too, terms: [{world: b, method: dynamic, against: fixed}], min_effect: 0.05, predicted: better}
limits: [one model]
repeat: [make run]
machine: Two cores.
"""


def answers(gain: float, seeds: int) -> pd.DataFrame:
    """Scores with KL of 1, 4 and 9 nats at three steps and rewards of a third of sqrt(KL), more by `gain` for one method."""
    rng = np.random.default_rng(0)
    rows = [("reference", None, 0, 0.0, 0.0)]
    rows += [
        (method, seed, step, step**2, step / 3 + own)
        for method, own in (("fixed", 0.0), ("dynamic", gain), ("mallows", 0.0))
        for seed in range(seeds)
        for step in (1, 2, 3)
    ]
    return pd.DataFrame(
        [
            {"method": m, "seed": s, "step": t, "benchmark": "kl", "id": f"p{i}", "group": f"g{i % 10}", "kl_exact": kl}
            | {"reward": reward + 0.01 * rng.standard_normal()}
            for m, s, t, kl, reward in rows
            for i in range(20)
        ]
    )


def test_a_claim_is_judged_over_seeds_and_topics_and_one_not_run_keeps_its_place(tmp_path: Path) -> None:
    (tmp_path / "study.yaml").write_text(STUDY)
    study = read_study(tmp_path)
    first, second = judge(study, {"a": answers(0.2, 6)})
    assert first.difference == pytest.approx(0.2, abs=0.01) and (first.seeds, first.prompts) == (6, 10)
    assert first.verdict == "better by more than m" and second.verdict == "not run"
    assert second.adjusted_p is None and first.ci_low is not None and first.ci_low > 0.19
    far = study.model_copy(update={"window": (1.0, 30.0)})  # runs end at 9 nats: half of it on the axis of sqrt(KL)
    assert judge(far, {"a": answers(0.2, 6)})[0].verdict == "not comparable"
    few = judge(study, {"a": answers(0.2, 3)})[0]
    assert few.verdict == "undecided" and few.adjusted_p is None


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (STUDY.replace("metric:", "metrik:"), "metrik"),
        (STUDY.replace("weight", "x").replace("against: fixed}", "against: fixed, sign: 1}"), "sign"),
        ("question: [", "study.yaml"),
        (None, "study.yaml"),
    ],
)
def test_mistakes_name_the_file_and_the_key(tmp_path: Path, capsys: Any, text: str | None, words: str) -> None:
    if text is not None:
        (tmp_path / "study.yaml").write_text(text)
    assert main(["page", str(tmp_path)]) == 2
    assert words in capsys.readouterr().err
    assert main(["pages"]) == 2 and main(["collect", str(tmp_path), str(tmp_path / "x")]) == 2

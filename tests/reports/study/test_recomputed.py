"""The shipped studies recomputed from the scores of every answer, with numpy alone: nothing of the reports is imported."""

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
import pytest
import yaml

STUDIES = sorted(path.parent for path in (Path(__file__).parents[3] / "reports" / "studies").glob("*/summary.json"))
WORLDS = [(study, world.parent) for study in STUDIES for world in sorted(study.glob("*/summary.json"))]
#: Of the residual mean square, what the variance is at least believed to be, by degrees of freedom of the seeds: the quantile
#: .001 of chi-squared over its degrees.
LUCKY = {5: 0.210213 / 5, 9: 1.151950 / 9}


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

    def summed(seed: float) -> tuple[float, float]:
        spread = seed**2 / (seeds - 1) + prompt**2 / (prompts - 1) + rest**2 / cells
        return seed + beyond, (seed + beyond) ** 2 / spread if beyond else float(seeds - 1)

    total, degrees = summed(seed)
    if degrees < (seeds - 1) / 2 or total < LUCKY[seeds - 1] * rest:
        total, degrees = summed(max(seed, rest))
        degrees = min(degrees, seeds - 1.0)
    error = math.sqrt(total / values.size)
    x = np.linspace(0.0, 60.0, 600_001)  # the t density, summed until it holds 47.5 %
    density = (1 + x**2 / degrees) ** (-(degrees + 1) / 2)
    mass = np.concatenate([[0.0], np.cumsum((density[1:] + density[:-1]) / 2)])
    far = float(np.interp(0.95 * mass[-1], mass, x))
    return values.mean(), error, values.mean() - far * error, values.mean() + far * error


@pytest.mark.parametrize("folder", STUDIES, ids=lambda path: path.name)
def test_numpy_alone_gives_the_numbers_of_the_page(folder: Path) -> None:
    stated = yaml.safe_load((folder / "study.yaml").read_text())
    page, found = (folder / "README.md").read_text(), json.loads((folder / "summary.json").read_text())
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


def git(folder: Path, *command: str) -> str:
    return subprocess.run(("git", *command), capture_output=True, text=True, cwd=folder).stdout.strip()


@pytest.mark.parametrize(("study", "world"), WORLDS, ids=lambda path: path.name)
def test_the_plan_was_committed_before_the_first_run(study: Path, world: Path) -> None:
    """Its hash as it stood in the commit that added it; the study's claims have not changed since theirs."""
    summary = json.loads((world / "summary.json").read_text())
    plan, claims = world / "plan.txt", study / "study.yaml"
    if git(world, "rev-parse", "--is-shallow-repository") != "false":
        pytest.skip("no whole git history here")
    added = {p: git(world, "log", "--diff-filter=A", "--format=%H %aI", "--", str(p)).split() for p in (plan, claims)}
    if not all(added.values()):
        pytest.skip("no whole git history here")
    commit, time = added[plan][-2:]
    assert json.loads((world / "claims.json").read_text())["sha256"] in git(world, "show", f"{commit}:./plan.txt")
    committed = datetime.fromisoformat(time)
    created: dict[str, Any] = summary["provenance"]["created"]
    assert created and all(datetime.fromisoformat(time) > committed for time in created.values())
    then, now = (
        yaml.safe_load(text) for text in (git(study, "show", f"{added[claims][0]}:./study.yaml"), claims.read_text())
    )
    for one in (*then["claims"], *now["claims"]):
        one.pop("says")  # words may be made clearer
    assert all(then.get(key) == now.get(key) for key in ("claims", "looks", "metric", "cost", "window"))

"""The data card of a folder of preference pairs: how they were made, what they hold, and what to beware of."""

from __future__ import annotations

import json
import math
import os
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from evals.constraints import RULE, check
from evals.constraints.text import words
from evals.jsonl import read_jsonl, write_text
from evals.pairs import PromptSamples

_QUANTILES = (0.0, 0.05, 0.25, 0.5, 0.75, 0.95, 1.0)


def summarise(scored: Sequence[PromptSamples], pairs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Counts that need the samples: prompts, samples, cut-off ones, and yields per constraint kind and per style.

    A yield is the share of prompts (with that kind, or of that style) that gave a pair; ``pass_rate`` is the share of
    samples that satisfied the constraint.
    """
    paired = {pair["group"] for pair in pairs}
    kinds: dict[str, dict[str, int]] = defaultdict(lambda: {"prompts": 0, "paired": 0, "samples": 0, "passed": 0})
    styles: dict[str, dict[str, int]] = defaultdict(lambda: {"prompts": 0, "paired": 0})
    for prompt in scored:
        hit = int(prompt.row["id"] in paired)
        style = styles[str(prompt.row.get("style"))]
        style["prompts"] += 1
        style["paired"] += hit
        for constraint in prompt.row["constraints"]:
            entry = kinds[constraint["kind"]]
            entry["prompts"] += 1
            entry["paired"] += hit
            entry["samples"] += len(prompt.samples)
            entry["passed"] += sum(check(sample.completion.text, constraint) for sample in prompt.samples)
    samples = [sample for prompt in scored for sample in prompt.samples]
    return {
        "rule": RULE,
        "n_prompts": len(scored),
        "n_samples": len(samples),
        "n_samples_truncated": sum(sample.completion.truncated for sample in samples),
        "mean_score": math.fsum(sample.score for sample in samples) / len(samples) if samples else None,
        "n_pairs": len(pairs),
        "yield_by_constraint": dict(sorted(kinds.items())),
        "yield_by_style": dict(sorted(styles.items())),
    }


def wilson(successes: int, n: int, z: float = 1.959963984540054) -> tuple[float, float]:
    """Wilson score interval of a proportion (Wilson 1927), 95 % by default; (0, 1) for n = 0."""
    if n == 0:
        return 0.0, 1.0
    p = successes / n
    centre = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    return max(0.0, centre - half), min(1.0, centre + half)


def quantile(values: Sequence[float], q: float) -> float:
    """Quantile by linear interpolation between order statistics (Hyndman and Fan type 7)."""
    ordered = sorted(values)
    place = q * (len(ordered) - 1)
    low = math.floor(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (place - low)


def write_card(folder: str | os.PathLike[str]) -> Path:
    """Write ``README.md`` for every build recorded in the folder (``*.build.json`` with the pairs beside it)."""
    folder = Path(folder)
    records = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("*.build.json"))]
    parts = [
        "# Preference pairs with verifiable constraints",
        "Every prompt asks about a topic under one or two constraints that a program can check. Several answers were "
        "sampled from one policy; the chosen answer satisfies a larger share of the constraints than the rejected one. "
        "Nobody judged the content of the answers, so a chosen answer may be wrong in fact.",
        f"Rule: {RULE}.",
        "Licence: Apache-2.0.",
    ]
    for record in records:
        parts.append(_section(record, [row for _, row in read_jsonl(folder / record["file"])]))
    parts.append(_overlap(folder))
    path = folder / "README.md"
    write_text(path, "\n\n".join(parts) + "\n")
    return path


def _table(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    lines = ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    return "\n".join(lines + ["| " + " | ".join(str(cell) for cell in row) + " |" for row in rows])


def _share(part: int, whole: int) -> str:
    low, high = wilson(part, whole)
    return f"{part}/{whole} = {part / whole:.3f} [{low:.3f}, {high:.3f}]" if whole else "none"


def _section(record: Mapping[str, Any], pairs: Sequence[Mapping[str, Any]]) -> str:
    sampling = ", ".join(f"{key} {value}" for key, value in record["sampling"].items())
    lengths = [(len(words(pair["chosen"])), len(words(pair["rejected"]))) for pair in pairs]
    longer = sum(chosen > rejected for chosen, rejected in lengths)
    shorter = sum(chosen < rejected for chosen, rejected in lengths)
    facts = _table(
        ("", ""),
        [
            ("source policy", record["policy"]),
            ("answers a prompt (K)", record["k"]),
            ("sampling", sampling),
            ("seed", record["seed"]),
            ("prompts", record["n_prompts"]),
            ("answers", record["n_samples"]),
            ("answers cut off by the token limit", _share(record["n_samples_truncated"], record["n_samples"])),
            ("mean score of an answer", "none" if record["mean_score"] is None else f"{record['mean_score']:.3f}"),
            ("pairs", record["n_pairs"]),
            ("prompts that gave a pair", _share(len({pair["group"] for pair in pairs}), record["n_prompts"])),
            ("chosen answer longer (words)", _share(longer, len(pairs))),
            ("chosen answer shorter (words)", _share(shorter, len(pairs))),
            ("chosen answer cut off", _share(sum(p["chosen_truncated"] for p in pairs), len(pairs))),
            ("rejected answer cut off", _share(sum(p["rejected_truncated"] for p in pairs), len(pairs))),
        ],
    )
    kinds = _table(
        ("constraint", "prompts", "answers that pass", "prompts that gave a pair"),
        [
            (kind, v["prompts"], _share(v["passed"], v["samples"]), _share(v["paired"], v["prompts"]))
            for kind, v in record["yield_by_constraint"].items()
        ],
    )
    styles = _table(
        ("style", "prompts", "prompts that gave a pair"),
        [(style, v["prompts"], _share(v["paired"], v["prompts"])) for style, v in record["yield_by_style"].items()],
    )
    gaps = Counter(round(pair["score_chosen"] - pair["score_rejected"], 3) for pair in pairs)
    histogram = _table(("score gap", "pairs"), sorted(gaps.items()))
    return "\n\n".join(
        [
            f"## {record['file']}",
            f"Made by `{record['command']}`. Shares stand with their 95 % Wilson intervals.",
            facts,
            "### Yield per constraint",
            kinds,
            "### Yield per style",
            styles,
            "### Score gap",
            histogram,
            "### Log-perplexity of the prompts (natural log, per token)",
            _perplexity(pairs),
        ]
    )


def _perplexity(pairs: Sequence[Mapping[str, Any]]) -> str:
    groups: dict[str, list[float]] = {"all": []}
    for pair in pairs:
        value = pair.get("log_prompt_perplexity")
        if value is not None:
            groups["all"].append(value)
            groups.setdefault(str(pair.get("style")), []).append(value)
    if not groups["all"]:
        return "Not recorded."
    rows = [(name, len(values), *(f"{quantile(values, q):.2f}" for q in _QUANTILES)) for name, values in groups.items()]
    return _table(("style", "pairs", *(f"q{round(100 * q)}" for q in _QUANTILES)), rows)


def _overlap(folder: Path) -> str:
    """How many prompts each two files of the folder share."""
    files = [path for path in sorted(folder.glob("*.jsonl")) if not path.name.endswith(".samples.jsonl")]
    prompts = {path.name: {row.get("prompt") for _, row in read_jsonl(path)} - {None} for path in files}
    names = list(prompts)
    rows = [
        (first, second, len(prompts[first] & prompts[second]))
        for i, first in enumerate(names)
        for second in names[i + 1 :]
    ]
    return "## Prompts shared between files\n\n" + (_table(("file", "file", "shared"), rows) if rows else "One file.")

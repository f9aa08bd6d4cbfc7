"""The data card of a folder of preference pairs: how they were made, what they hold, and what to beware of."""

import itertools
import json
import math
import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import binomtest

from evals.constraints import RULE, check
from evals.constraints.text import words
from evals.preferences.pairs import PromptSamples
from trainers.common import Json, read_jsonl, write_text

_QUANTILES = (0.0, 0.05, 0.25, 0.5, 0.75, 0.95, 1.0)
_COLUMN = "log_prompt_perplexity"
#: Different gaps up to which each is counted.
_FEW_GAPS = 20


def summarise(scored: Sequence[PromptSamples], pairs: Sequence[Mapping[str, Any]], rule: str = RULE) -> Json:
    """Counts that need the samples: prompts, samples, cut-off ones, and yields per style and per topic.

    A yield is the share of prompts (of that style or topic) that gave a pair. Under the rule of constraints there are
    yields per constraint kind instead of topics; their ``pass_rate`` is the share of samples that satisfied the constraint.
    """
    paired = {pair["group"] for pair in pairs}
    samples = [sample for prompt in scored for sample in prompt.samples]
    counts = {
        "rule": rule,
        "n_prompts": len(scored),
        "n_samples": len(samples),
        "n_samples_truncated": sum(sample.completion.truncated for sample in samples),
        "mean_score": math.fsum(sample.score for sample in samples) / len(samples) if samples else None,
        "n_pairs": len(pairs),
    }
    if rule == RULE:
        asked = [(constraint, prompt) for prompt in scored for constraint in prompt.row["constraints"]]
        kinds = _yields([(constraint["kind"], prompt) for constraint, prompt in asked], paired)
        for constraint, prompt in asked:
            entry = kinds[constraint["kind"]]
            passed = sum(check(sample.completion.text, constraint) for sample in prompt.samples)
            entry["samples"] = entry.get("samples", 0) + len(prompt.samples)
            entry["passed"] = entry.get("passed", 0) + passed
        counts["yield_by_constraint"] = kinds
    else:
        counts["yield_by_topic"] = _yields([(str(prompt.row.get("topic")), prompt) for prompt in scored], paired)
    styles = _yields([(str(prompt.row.get("style")), prompt) for prompt in scored], paired)
    return counts | {"yield_by_style": styles}


def _yields(named: Sequence[tuple[str, PromptSamples]], paired: set[str]) -> dict[str, dict[str, int]]:
    """Prompts of each name, and how many of them gave a pair, in order of the name."""
    prompts = Counter(name for name, _ in named)
    found = Counter(name for name, prompt in named if prompt.row["id"] in paired)
    return {name: {"prompts": prompts[name], "paired": found[name]} for name in sorted(prompts)}


_CONSTRAINTS = (
    "# Preference pairs with verifiable constraints",
    "Every prompt asks about a topic under one or two constraints that a program can check. Several answers were "
    "sampled from one policy; the chosen answer satisfies a larger share of the constraints than the rejected one. "
    "Nobody judged the content of the answers, so a chosen answer may be wrong in fact.",
)
_SCORED = (
    "# Preference pairs by a reward",
    "Several answers to each prompt were sampled from one policy and scored by a program; of two answers the chosen one has "
    "the higher score. Nobody judged anything else about the answers, so a chosen answer may be wrong in fact.",
)


def write_card(folder: str | os.PathLike[str]) -> Path:
    """Write ``README.md`` for every build recorded in the folder (``*.build.json`` with the pairs beside it).

    Where a record has ``learnability``, the card says how well a short DPO run on these pairs does on held-out ones:
    ``{"accuracy": share of held-out pairs whose implicit reward prefers the chosen answer, "ci_low", "ci_high": its 95 %
    interval, "pairs": number of held-out pairs, "run": the run in words}``. Whoever measures it adds it to the record and
    calls this function again.
    """
    folder = Path(folder)
    records = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("*.build.json"))]
    rules = list(dict.fromkeys(record["rule"] for record in records))
    parts = [
        *(_CONSTRAINTS if rules == [RULE] else _SCORED),
        *(f"Rule: {rule}." for rule in rules),
        "Licence: Apache-2.0." if rules == [RULE] else "Licence: that of the prompts and of the sampled policy.",
    ]
    parts += [_section(record, [row for _, row in read_jsonl(folder / record["file"])]) for record in records]
    parts.append(_overlap(folder, [record["file"] for record in records]))
    path = folder / "README.md"
    write_text(path, "\n\n".join(parts) + "\n")
    return path


def _table(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    lines = ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    return "\n".join(lines + ["| " + " | ".join(str(cell) for cell in row) + " |" for row in rows])


def _share(part: int, whole: int) -> str:
    if not whole:
        return "none"
    ends = binomtest(part, whole).proportion_ci(method="wilson")
    return f"{part}/{whole} = {part / whole:.3f} [{ends.low:.3f}, {ends.high:.3f}]"


def _section(record: Mapping[str, Any], pairs: Sequence[Mapping[str, Any]]) -> str:
    parts = [
        f"## {record['file']}",
        f"Made by `{record['command']}`. Shares are given with 95 % Wilson intervals.",
        _table(("", ""), [*_facts(record, pairs), *_more_facts(record, pairs)]),
    ]
    if "yield_by_constraint" in record:
        kinds = [
            (kind, v["prompts"], _share(v["passed"], v["samples"]), _share(v["paired"], v["prompts"]))
            for kind, v in record["yield_by_constraint"].items()
        ]
        header = ("constraint", "prompts", "answers that pass", "prompts that gave a pair")
        parts += ["### Yield per constraint", _table(header, kinds)]
    parts += [
        "### Yield per style",
        _table(
            ("style", "prompts", "prompts that gave a pair"),
            [(style, v["prompts"], _share(v["paired"], v["prompts"])) for style, v in record["yield_by_style"].items()],
        ),
        "### Score gap",
        _gaps(pairs),
        "### Log-perplexity of the prompts (natural log, per token)",
        _perplexity(pairs),
    ]
    return "\n\n".join(parts)


def _lengths(pairs: Sequence[Mapping[str, Any]]) -> list[tuple[int, int]]:
    """Words of chosen and rejected answers."""
    return [(len(words(pair["chosen"])), len(words(pair["rejected"]))) for pair in pairs]


def _facts(record: Mapping[str, Any], pairs: Sequence[Mapping[str, Any]]) -> list[tuple[str, Any]]:
    lengths = _lengths(pairs)
    return [
        ("source policy", record["policy"]),
        ("answers a prompt (K)", record["k"]),
        ("sampling", ", ".join(f"{key} {value}" for key, value in record["sampling"].items())),
        ("seed", record["seed"]),
        ("prompts", record["n_prompts"]),
        ("answers", record["n_samples"]),
        ("answers cut off by the token limit", _share(record["n_samples_truncated"], record["n_samples"])),
        ("mean score of an answer", "none" if record["mean_score"] is None else f"{record['mean_score']:.3f}"),
        ("pairs", record["n_pairs"]),
        ("prompts that gave a pair", _share(len({pair["group"] for pair in pairs}), record["n_prompts"])),
        ("chosen answer longer (words)", _share(sum(chosen > other for chosen, other in lengths), len(pairs))),
        ("chosen answer shorter (words)", _share(sum(chosen < other for chosen, other in lengths), len(pairs))),
        ("chosen answer cut off", _share(sum(p["chosen_truncated"] for p in pairs), len(pairs))),
        ("rejected answer cut off", _share(sum(p["rejected_truncated"] for p in pairs), len(pairs))),
    ]


def _more_facts(record: Mapping[str, Any], pairs: Sequence[Mapping[str, Any]]) -> list[tuple[str, Any]]:
    """What only data of other rewards than constraints, noisy data or measured data have to say."""
    facts: list[tuple[str, Any]] = []
    topics = record.get("yield_by_topic", {})
    if topics:
        lengths = _lengths(pairs)
        means = (math.fsum(side) / len(pairs) for side in zip(*lengths, strict=True)) if pairs else ()
        shares = [v["paired"] / v["prompts"] for v in topics.values()]
        facts += [
            ("pairing", f"{record.get('pairing', 'best-worst')}, scores at least {record['min_gap']:g} apart"),
            ("words of chosen and of rejected answers, mean", " and ".join(f"{mean:.1f}" for mean in means) or "none"),
            ("topics", len(topics)),
            ("yield of a topic: least, median, most", ", ".join(f"{np.quantile(shares, q):.2f}" for q in (0, 0.5, 1))),
        ]
    noise = record.get("noise")
    if noise is not None:
        where = "" if noise["by"] is None else f" (low, middle and high tercile of prompt {noise['by']})"
        facts += [
            ("shares of pairs flipped", ", ".join(f"{share:g}" for share in noise["shares"]) + where),
            ("pairs flipped", _share(noise["n_flipped"], len(pairs))),
            ("beta of clean and of flipped pairs", f"{noise['beta_clean']:.4g} and {noise['beta_flipped']:.4g}"),
        ]
    learned = record.get("learnability")
    if learned is not None:
        found = f"{learned['accuracy']:.3f} [{learned['ci_low']:.3f}, {learned['ci_high']:.3f}]"
        where = f"on {learned['pairs']} held-out pairs after {learned['run']}"
        facts.append(("learnability: reward accuracy", f"{found} {where}"))
    return facts


def _gaps(pairs: Sequence[Mapping[str, Any]]) -> str:
    """Every gap where they are few; else their quantiles."""
    found = [pair["score_chosen"] - pair["score_rejected"] for pair in pairs]
    gaps = Counter(round(gap, 3) for gap in found)
    few = len(gaps) <= _FEW_GAPS
    return _table(("score gap", "pairs"), sorted(gaps.items())) if few else _quantiles("score", {"gap": found})


def _quantiles(what: str, groups: Mapping[str, Sequence[float]]) -> str:
    rows = [
        (name, len(values), *(f"{np.quantile(values, q):.2f}" for q in _QUANTILES)) for name, values in groups.items()
    ]
    return _table((what, "pairs", *(f"q{round(100 * q)}" for q in _QUANTILES)), rows)


def _perplexity(pairs: Sequence[Mapping[str, Any]]) -> str:
    known = [(str(p.get("style")), p[_COLUMN]) for p in pairs if p.get(_COLUMN) is not None]
    if not known:
        return "Not recorded."
    styles = list(dict.fromkeys(style for style, _ in known))
    groups = {style: [value for own, value in known if own == style] for style in styles}
    return _quantiles("style", {"all": [value for _, value in known]} | groups)


def _overlap(folder: Path, built: Sequence[str]) -> str:
    """How many prompts each two files share: pairs and benchmark prompts."""
    files = sorted({*built, *(path.name for path in folder.glob("*_prompts.jsonl"))})
    prompts = {name: {row.get("prompt") for _, row in read_jsonl(folder / name)} - {None} for name in files}
    shared = [(one, other, len(prompts[one] & prompts[other])) for one, other in itertools.combinations(files, 2)]
    return "## Prompts shared between files\n\n" + (
        _table(("file", "file", "shared"), shared) if shared else "One file."
    )

"""lm-eval's documents: one JSON object a line, or (0.4.0 to 0.4.2) one array; the filter of each, and its scores."""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from reports.foreign.rows import read_rows
from reports.runs.records import ReportError, finite
from trainers.common.files import Json

#: Keys of a sample that are no scores, for versions of lm-eval that do not list the metrics.
_NOT_SCORES = {"doc_id", "doc", "target", "arguments", "resps", "filtered_resps", "filter", "metrics"}
#: How far the mean of a block may be from the one that results.json reports for its filter.
_ROUNDING = 1e-4

#: Metric and filter.
Scored = tuple[str, str]
#: Where a sample stands, and the sample.
Sample = tuple[str, Json]


def with_filters(path: Path, filters: Sequence[str]) -> tuple[list[Sample], int]:
    """The samples with the filter of each, and the number of blocks that carried no filter.

    Before 0.4.7 lm-eval wrote one block of all documents per filter and did not name it (its issues 1687 and 2025).
    """
    rows = [(f"{path}:{row.place}", dict(row.values)) for row in read_rows(path)]
    for where, sample in rows:
        if sample.get("doc_id") is None:
            raise ReportError(f"{where}: no 'doc_id'; is it a samples file of lm-eval?")
    if any("filter" in sample for _, sample in rows):
        return rows, 0
    blocks: defaultdict[int, list[Json]] = defaultdict(list)
    times: Counter[str] = Counter()
    for where, sample in rows:
        block = blocks[times[str(sample["doc_id"])]]
        times[str(sample["doc_id"])] += 1
        first = blocks[0][len(block)] if block is not blocks[0] and len(block) < len(blocks[0]) else sample
        if first["doc_id"] != sample["doc_id"] or (
            first is not sample and first.get("arguments", "not recorded") != sample.get("arguments")  # what was asked
        ):
            raise ReportError(f"{where}: doc_id {sample['doc_id']} is scored twice; two evaluations in one file?")
        block.append(sample)
    sizes = {len(block) for block in blocks.values()}
    if len(sizes) > 1 or (len(blocks) > 1 and filters and len(filters) != len(blocks)):
        raise ReportError(
            f"{path}: {len(blocks)} blocks of {' and '.join(map(str, sorted(sizes)))} documents for {len(filters)} filters "
            f"({', '.join(filters)}): which filter scored which cannot be told; evaluate again with lm-eval 0.4.7 or later"
        )
    names = filters if len(filters) == len(blocks) else [str(i + 1) for i in range(len(blocks))]
    names = names if len(blocks) > 1 or len(filters) == 1 else ["none"]
    for name, block in zip(names, blocks.values(), strict=True):
        for sample in block:
            sample["filter"] = name
    return rows, len(blocks)


def agree(
    path: Path,
    task: str,
    results: Mapping[str, Any],
    reported: Mapping[Scored, Json],
    scored: Mapping[Scored, Mapping[str, float | None]],
) -> None:
    """Check that the blocks were given the right filters: their means are the reported ones.

    Raises:
        ReportError: one is not.
    """
    listed = ((results.get("configs") or {}).get(task) or {}).get("metric_list") or []
    other = {one.get("metric") for one in listed if isinstance(one, dict) and one.get("aggregation", "mean") != "mean"}
    for (metric, chosen), values in scored.items():
        known = [value for value in values.values() if value is not None]
        stated = (reported.get((metric, chosen)) or {}).get("value")
        if metric in other or stated is None or not known:
            continue
        if abs(sum(known) / len(known) - stated) > _ROUNDING:
            raise ReportError(
                f"{path}: {metric} of the block of filter {chosen} is {sum(known) / len(known):.4g} on average, and the results "
                f"say {stated:.4g}: which filter scored which cannot be told; evaluate again with lm-eval 0.4.7 or later"
            )


def documents(path: Path, rows: Sequence[Sample]) -> tuple[dict[str, Json], dict[Scored, dict[str, float | None]]]:
    """Documents by doc_id, without their values, and the values by metric, filter and doc_id."""
    items: dict[str, Json] = {}
    scored: dict[Scored, dict[str, float | None]] = {}
    for where, sample in rows:
        key, chosen = str(sample["doc_id"]), str(sample.get("filter", "none"))
        item = items.setdefault(key, {"id": key, "values": {}, "group": None, **_texts(sample)})
        if item["doc_hash"] != sample.get("doc_hash"):
            raise ReportError(f"{where}: doc_id {key} names two documents; two evaluations in one file?")
        for metric in sample.get("metrics") or [k for k in sample if k not in _NOT_SCORES]:
            value = sample.get(metric)
            if not isinstance(value, (int, float)):
                continue  # corpus metrics (perplexity, BLEU) keep parts here, not a score of the document
            values = scored.setdefault((metric, chosen), {})
            if key in values:
                raise ReportError(f"{where}: doc_id {key} is scored twice; two evaluations in one file?")
            values[key] = finite(value)
    return items, scored


def _texts(sample: Mapping[str, Any]) -> Json:
    """Hashes, prompt, answer and target. Arguments are a mapping in files of today and a list in old ones."""
    first = next(iter(_listed(sample.get("arguments"))), None)
    parts = _listed(first)
    response = sample.get("resps")
    while isinstance(response, list) and response:
        response = response[0]
    generated = len(parts) > 1 and isinstance(parts[1], dict)  # the second argument of generate_until: its settings
    return {
        "doc_hash": sample.get("doc_hash"),
        "prompt_hash": sample.get("prompt_hash"),
        "prompt": str(parts[0]) if parts else None,
        "response": str(response) if generated and isinstance(response, str) else None,
        "target": str(sample.get("target")),
    }


def _listed(value: Any) -> list[Any]:
    """The values of a mapping or a list; nothing of anything else."""
    return list(value.values()) if isinstance(value, dict) else value if isinstance(value, list) else []

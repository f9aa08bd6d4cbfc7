"""README.md of a trained policy: where it comes from, with what, and how it did. Made from the run's files alone.

No part of any fingerprint or checksum: it is written anew when scores are added.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from evals import schema as eval_schema
from harness.kept import published_dir
from harness.store import read_json, read_run, write_bytes
from trainers.rules import registry
from trainers.schema import ADAPTER_DIR, BETA_HEAD, MODEL_CARD, TRAIN_RESULT


def write_card(run_dir: Path, matrix: str) -> Path | None:
    """Write the card of a finished run into its policy (its adapter where it kept no merged weights), by one rename; None where
    there is no policy or nothing changed."""
    policy = published_dir(run_dir)
    record = read_run(run_dir)
    if policy is None or record is None:
        return None
    text = card(run_dir, record, matrix).encode()
    path = policy / MODEL_CARD
    if path.is_file() and path.read_bytes() == text:
        return None
    write_bytes(path, text)
    return path


def card(run_dir: Path, record: dict[str, Any], matrix: str) -> str:
    """The card's text: front matter the hub reads, then provenance, metrics and how to load it."""
    base = str(record["model"]["name"])
    library = "peft" if _adapter_alone(run_dir) else "transformers"
    head: dict[str, Any] = {"library_name": library, "pipeline_tag": "text-generation"}
    if base.count("/") == 1 and not base.startswith((".", "/", "~")):
        head |= {"base_model": base}
    head |= {"tags": ["trl", str(record.get("objective", "dpo")), "preference-optimization", f"beta-{_rule(record)}"]}
    sections = [
        f"---\n{yaml.safe_dump(head, sort_keys=False)}---",
        f"# {record['run_id']}",
        f"One run of the matrix `{_plain(matrix)}`: method `{record['method']}`, seed {record['seed']}. A single seed says "
        "little about a method; the report of the whole matrix compares methods over all seeds, with intervals.",
        _provenance(record, run_dir),
        _metrics(run_dir),
        _loading(run_dir),
    ]
    return "\n\n".join(section for section in sections if section) + "\n"


def _rule(record: dict[str, Any]) -> str:
    rule = str(record["rule"])
    return rule.rpartition(":")[2] if registry.is_external(rule) else rule


def _plain(value: Any) -> str:
    """As one cell of a Markdown table, and without HTML."""
    text = str(value)
    for old, new in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;"), ("|", "\\|"), ("\n", " ")):
        text = text.replace(old, new)
    return text


def _table(columns: tuple[str, ...], rows: list[tuple[Any, ...]]) -> str:
    lines = [columns, ("---",) * len(columns), *rows]
    return "\n".join("| " + " | ".join(_plain(cell) for cell in line) + " |" for line in lines)


def _settings(values: dict[str, Any] | None) -> str:
    return ", ".join(f"{key} {value}" for key, value in (values or {}).items()) or "none"


def _provenance(record: dict[str, Any], run_dir: Path) -> str:
    data, model = record["data"], record["model"]
    rule, result = _rule(record), read_json(run_dir / TRAIN_RESULT)
    known = registry.BUILTIN.get(rule)
    train = data["train"]
    sources = [train] if isinstance(train, str) else [str(one["source"]) for one in train]
    names = ", ".join(Path(one).name if one.startswith((".", "/", "~")) else one for one in sources)
    start = str(model["name"])
    rows: list[tuple[Any, ...]] = [
        # a folder by its name alone: a card may be made public
        ("starting model", Path(start).name if start.startswith((".", "/", "~")) else start),
        ("its weights (SHA-256)", model["weights_hash"]),
        ("objective", record.get("objective", "dpo")),
        ("rule for beta", f"{rule}: {known.summary}" if known else rule),
        ("parameters", _settings(record["params"])),
        ("control of", record["parent"]) if record.get("parent") else (),
        ("training pairs", f"{data['n_pairs']} from {names}"),
        ("their content (SHA-256)", data["content_hash"]),
        ("training settings", _settings(record["training"])),
        ("LoRA", _settings(record["lora"]) if record["lora"] is not None else "none: all weights"),
        ("seed", record["seed"]),
        ("fingerprint", record["fingerprint"]),
    ]
    if isinstance(result, dict):
        rows.append(("steps, pairs", f"{result['steps']}, {result['examples']}"))
        rows.append(("precision", result["precision"]) if "precision" in result else ())
    rows.append(("versions", ", ".join(f"{name} {version}" for name, version in record["versions"].items())))
    return "## Provenance\n\n" + _table(("what", "value"), [row for row in rows if row])


def _metrics(run_dir: Path) -> str:
    rows = []
    for path in sorted((run_dir / eval_schema.SCORES).glob("*.json")):
        scores = eval_schema.read_json(path)
        for name, metric in scores.get("metrics", {}).items():
            value, error = metric.get("value"), metric.get("stderr")
            shown = "undefined" if value is None else f"{value:.4g}"
            spread = "" if error is None else f"{error:.2g}"
            rows.append((scores.get("benchmark", path.stem), name, shown, spread, metric.get("n", "")))
    return "## Measured\n\n" + _table(("benchmark", "metric", "value", "standard error", "n"), rows) if rows else ""


def _adapter_alone(run_dir: Path) -> bool:
    return published_dir(run_dir) == run_dir / ADAPTER_DIR


def _loading(run_dir: Path) -> str:
    lines = ["## Use", "```python", "from transformers import AutoModelForCausalLM, AutoTokenizer", ""]
    lines += ['model = AutoModelForCausalLM.from_pretrained("PATH_OR_ID")']
    lines += ['tokenizer = AutoTokenizer.from_pretrained("PATH_OR_ID")', "```"]
    if _adapter_alone(run_dir):
        lines += [
            "",
            "This is a LoRA adapter: with `peft` installed, the starting model named above is loaded with it.",
        ]
    elif (run_dir / ADAPTER_DIR).is_dir():
        lines += ["", f"The LoRA adapter is merged into these weights; the run keeps it apart in `{ADAPTER_DIR}/` too."]
    if (run_dir / BETA_HEAD).is_file():
        lines += ["", f"What the rule learned lies in the run as `{BETA_HEAD}`; answers do not need it."]
    return "\n".join(lines).replace("## Use\n", "## Use\n\n", 1)

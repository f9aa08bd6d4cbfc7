"""What evaluation reads and writes: file names, row shapes, identities. Imports nothing heavy.

`generations/<benchmark>.jsonl` holds one row per prompt and sample; `scores/<benchmark>.json` is written last and carries
the fingerprint that says what it was computed from.
"""

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from trainers.common.files import Json
from trainers.common.files import write_json as write_json
from trainers.common.jsonl import write_text

SCHEMA_VERSION = 1
#: Raise when a change of this package changes scores, so that they are computed again.
#: 2 knew the prompt perplexity under the reference for kinds kl and preference alone; 3 took the style of a constraint prompt
#: for a cluster, and ran lm-eval tasks without their own number of examples.
_EVAL_VERSION = 4
#: Raise when a change of this package changes answers or log-probs, so that those on disk are not kept either.
ANSWERS_VERSION = 2  # 1 served fully fine-tuned policies with tied embeddings on CPU with the head of the policy before
GENERATIONS, SCORES, ENGINE_RECORD = "generations", "scores", "engine.json"
#: Log-probs of given tokens, one row each; and what a second evaluation of the same policy writes.
LOGPROBS, REPEAT = "logprobs", "repeat"
REFERENCE = "reference"


def canonical(value: Any) -> str:
    """JSON with sorted keys and no spaces: the form that is hashed."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def digest(value: Any) -> str:
    """SHA-256 (hex) of the canonical JSON of `value`."""
    return hashlib.sha256(canonical(value).encode()).hexdigest()


def cell_fingerprint(policy: str, benchmark: str) -> str:
    """Identity of one policy on one benchmark."""
    return digest({"policy": policy, "benchmark": benchmark, "version": _EVAL_VERSION})


def generations_path(out: Path, benchmark: str) -> Path:
    """Where the rows of `benchmark` live under a policy's directory."""
    return Path(out) / GENERATIONS / f"{benchmark}.jsonl"


def logprobs_path(out: Path, benchmark: str) -> Path:
    """Where log-probs computed for `benchmark` live under a policy's directory."""
    return Path(out) / LOGPROBS / f"{benchmark}.jsonl"


def scores_path(out: Path, benchmark: str) -> Path:
    """Where the scores of `benchmark` live under a policy's directory."""
    return Path(out) / SCORES / f"{benchmark}.json"


def parity_path(out: Path) -> Path:
    """Where it is kept how often the engine's greedy answers are those of transformers, under the reference's directory."""
    return Path(out) / "parity.json"


def read_json(path: Path) -> Json:
    """The JSON object in a file; empty if the file is missing or corrupt."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


def read_scores(out: Path, benchmark: str) -> Json | None:
    """The scores, or None if the file is missing or corrupt."""
    return read_json(scores_path(out, benchmark)) or None


def is_scored(out: Path, benchmark: str, fingerprint: str) -> bool:
    """Whether the score file of this cell exists and was computed from exactly this policy and benchmark."""
    scores = read_scores(out, benchmark)
    return scores is not None and scores.get("fingerprint") == fingerprint


def whole_lines(path: Path) -> list[bytes]:
    """Lines of a file that is being appended to; a torn last line is cut off the file."""
    if not path.is_file():
        return []
    data = path.read_bytes()
    whole = data[: data.rfind(b"\n") + 1]
    if len(whole) != len(data):
        with path.open("r+b") as handle:
            handle.truncate(len(whole))
    return [line for line in whole.splitlines() if line.strip()]


def read_rows(path: Path) -> list[Json]:
    """`whole_lines` of a JSONL file, decoded."""
    return [json.loads(line) for line in whole_lines(path)]


def append_rows(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Append rows and push them to disk."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as handle:
        handle.write("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
        handle.flush()
        os.fsync(handle.fileno())


def sort_rows(path: Path, key: str) -> None:
    """Put the rows of a finished file in order, so that it does not tell how often it was begun; by one rename."""
    rows = read_rows(path)
    ordered = sorted(rows, key=lambda row: str(row[key]))
    if ordered != rows:
        write_text(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in ordered))

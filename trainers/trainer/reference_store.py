"""Reference log-probs computed once: a store keyed by content, shared by every run of a matrix.

TRL's own cache is keyed by a dataset fingerprint that closes over the whole training configuration, so it misses whenever
beta, the seed or the output directory changes. Here the key is what determines the numbers: token ids after truncation,
reference weights, precision, `ld_alpha`, library versions, and how the forward pass is laid out.
"""

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from filelock import FileLock

from trainers.common.files import replacing, write_bytes


@dataclass(frozen=True)
class ReferenceIdentity:
    """What determines a reference log-prob beside the tokens.

    `precision` names weights' dtype and autocast, `attention` the implementation, `forward` the layout of the pass, `ppl_tokens`
    which prompt tokens the perplexity is over.
    """

    weights: str
    precision: str
    attention: str
    ld_alpha: float | None
    forward: str
    ppl_tokens: str
    trl: str
    transformers: str
    torch: str
    columns: str = "3"

    def key(self) -> str:
        """16 hex digits of the identity's SHA-256."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()[:16]


@dataclass(frozen=True)
class ReferenceScore:
    """One pair under the reference.

    Summed log-probs, mean NLL of prompt and of both responses (nats), how many tokens these are over, and the mean entropy of
    the next token over each response (nats).
    """

    chosen_logp: float
    rejected_logp: float
    prompt_nll: float
    prompt_tokens: float
    response_nll: float
    response_tokens: float
    chosen_entropy: float
    rejected_entropy: float


def content_key(prompt: Sequence[int], chosen: Sequence[int], rejected: Sequence[int]) -> str:
    """Identity of a tokenised (and truncated) pair: 32 hex digits."""
    digest = hashlib.sha256()
    for part in (prompt, chosen, rejected):
        digest.update(f"{len(part)}:".encode())
        digest.update(b"".join(int(token).to_bytes(4, "little") for token in part))
    return digest.hexdigest()[:32]


class ReferenceStore:
    """A Parquet file of scores under `root/<identity key>/`, grown under a file lock and replaced atomically."""

    def __init__(self, root: Path, identity: ReferenceIdentity) -> None:
        self.directory = Path(root) / identity.key()
        self.directory.mkdir(parents=True, exist_ok=True)
        self.path = self.directory / "scores.parquet"
        described = self.directory / "identity.json"
        text = json.dumps(asdict(identity), indent=1, sort_keys=True).encode()
        if not described.exists() or described.read_bytes() != text:  # missing or corrupt
            write_bytes(described, text)

    def filling(self) -> FileLock:
        """Hold this while computing missing scores, so that only one of several runs started together computes them."""
        return FileLock(self.directory / ".filling.lock")

    def load(self) -> dict[str, ReferenceScore]:
        """All stored scores by content key. A corrupt file is moved to `scores.corrupt` and counts as empty."""
        if not self.path.exists():
            return {}
        try:
            rows = pq.read_table(self.path, page_checksum_verification=True).to_pylist()
            return {row.pop("key"): ReferenceScore(**row) for row in rows}
        except (pa.ArrowException, OSError, KeyError, ValueError, TypeError) as error:
            if isinstance(error, OSError) and error.errno is not None:
                raise  # the system cannot read it now; the file itself is not corrupt
            os.replace(self.path, self.path.with_suffix(".corrupt"))
            return {}

    def add(self, scores: dict[str, ReferenceScore]) -> None:
        """Merge `scores` with what is stored."""
        with FileLock(self.directory / ".lock"):
            rows = [{"key": key, **vars(score)} for key, score in {**self.load(), **scores}.items()]
            with replacing(self.path) as temporary:
                pq.write_table(pa.Table.from_pylist(rows), temporary, write_page_checksum=True)

"""What an engine has answered to the requests of an lm-eval task, kept on disk as it comes: a killed task goes on there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from evals import schema

FOLDER = "lm_eval"


def cache_path(out: Path, benchmark: str) -> Path:
    """Where the results of a task lie under a policy's directory."""
    return Path(out) / FOLDER / f"{benchmark}.jsonl"


class ResultCache:
    """Results by the content of the request, of one policy on one task.

    Args:
        path: the file; None keeps nothing beyond this process.
        identity: of policy and task; results of another identity are removed.
    """

    def __init__(self, path: Path | None = None, identity: str = "") -> None:
        self._path, self._identity = path, identity
        self._known: dict[str, Any] = {}
        if path is None:
            return
        rows = schema.read_rows(path)
        if any(row.get("identity") != identity for row in rows):
            path.unlink()
        else:
            self._known = {row["key"]: row["result"] for row in rows}

    @staticmethod
    def key(*request: Any) -> str:
        """Of everything that determines the result."""
        return schema.digest(list(request))[:32]

    def missing(self, keys: Sequence[str]) -> list[int]:
        """Places of the keys without a result, each key once."""
        return list({key: i for i, key in reversed(list(enumerate(keys))) if key not in self._known}.values())[::-1]

    def put(self, results: Mapping[str, Any]) -> None:
        """Keep results (JSON-ready) and push them to disk."""
        self._known.update(results)
        if self._path is not None and results:
            rows = [{"identity": self._identity, "key": key, "result": result} for key, result in results.items()]
            schema.append_rows(self._path, rows)

    def get(self, key: str) -> Any:
        return self._known[key]

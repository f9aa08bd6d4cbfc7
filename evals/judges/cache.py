"""Replies of judges, kept in one append-only JSONL file that survives kills and several writers."""

import fcntl
import json
import os
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from trainers.common.events import EventTail

#: Seconds between syncs: fast judges give thousands of replies a second, and each sync costs milliseconds.
SYNC_EVERY_S = 1.0


@dataclass(frozen=True)
class Cost:
    """HTTP requests sent (retries included) and tokens the server counted."""

    requests: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0

    @property
    def tokens(self) -> int:
        """Prompt and completion together."""
        return self.prompt_tokens + self.completion_tokens

    def __add__(self, other: "Cost") -> "Cost":
        return Cost(
            self.requests + other.requests,
            self.prompt_tokens + other.prompt_tokens,
            self.completion_tokens + other.completion_tokens,
        )


@dataclass(frozen=True)
class Reply:
    """What a judge said: a value, or None with the reason; `raw` is its text.

    `final` replies are kept, also those without a verdict. Of a reply that is not final (server down, budget spent) only the
    cost is kept, so the next run asks again.
    """

    value: float | None
    reason: str | None = None
    raw: str | None = None
    cost: Cost = field(default_factory=Cost)
    final: bool = True


class JudgeCache:
    """Final replies by the hash of judge, prompt and answers.

    Each row is written whole under a file lock, so processes may share one file. A killed process loses nothing it put;
    a power cut at most the last second. A last line torn by one is skipped and counted in `damaged`; the next row starts
    on a line of its own. Where a key was written twice the first row holds.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self.damaged = 0
        self._rows: dict[str, Reply] = {}
        self._identities: set[str] = set()
        self._costs: dict[str, Cost] = {}
        self._tail = EventTail(self.path)
        self._synced = 0.0
        self.refresh()

    def __contains__(self, key: str) -> bool:
        return key in self._rows

    def __len__(self) -> int:
        return len(self._rows)

    def get(self, key: str) -> Reply | None:
        """The reply kept under `key`, or None."""
        return self._rows.get(key)

    def spent(self, judge: str) -> Cost:
        """What the requests of the judge with this digest have cost, answered or not."""
        return self._costs.get(judge, Cost())

    def refresh(self) -> None:
        """Read the rows that this or other processes have added."""
        for line in filter(bytes.strip, self._tail.lines()):
            self._take(line)

    def introduce(self, judge: str, identity: Mapping[str, Any]) -> None:
        """Write once what the judge with this digest is."""
        if judge not in self._identities:
            self._append({"judge": judge, "identity": dict(identity)})

    def put(self, key: str, judge: str, reply: Reply) -> None:
        """Keep a final reply."""
        row = {"key": key, "judge": judge, "value": reply.value, "reason": reply.reason, "raw": reply.raw}
        self._append({**row, "cost": asdict(reply.cost)})

    def charge(self, judge: str, cost: Cost) -> None:
        """Remember what requests without an answer have cost."""
        if cost != Cost():
            self._append({"judge": judge, "cost": asdict(cost)})

    def _append(self, row: Mapping[str, Any]) -> None:
        # ASCII, so that text with a lone surrogate can be written.
        line = json.dumps(row, allow_nan=False).encode() + b"\n"
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a+b") as file:  # closing it releases the lock
            fcntl.flock(file, fcntl.LOCK_EX)
            size = file.seek(0, os.SEEK_END)
            torn = size and os.pread(file.fileno(), 1, size - 1) != b"\n"
            file.write(b"\n" + line if torn else line)
            file.flush()
            if time.monotonic() - self._synced >= SYNC_EVERY_S:
                os.fsync(file.fileno())
                self._synced = time.monotonic()
        self.refresh()

    def _take(self, line: bytes) -> None:
        try:
            row = json.loads(line)
            judge = row["judge"]
            if "identity" in row:
                self._identities.add(judge)
                return
            cost, key, reply = Cost(**row["cost"]), row.get("key"), None
            if key is not None:
                value = None if row["value"] is None else float(row["value"])
                reply = Reply(value, row["reason"], row["raw"], cost)
        except (ValueError, KeyError, TypeError):
            self.damaged += 1
            return
        # Two processes that asked the same thing have both paid for it.
        self._costs[judge] = self.spent(judge) + cost
        if reply is not None:
            self._rows.setdefault(key, reply)

"""What the workers that evaluate and judge have in common: events for the supervisor, and when to end by themselves."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from pathlib import Path
from typing import Any

#: Exit code that asks the supervisor for a new engine.
ENGINE_DIED = 3
#: Seconds between the death of the engine and the end of this process.
_GRACE = 5


class Events:
    """Appends JSON lines that the supervisor reads."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._handle = path.open("a", encoding="utf-8")

    def emit(self, event: str, **values: Any) -> None:
        self._handle.write(json.dumps({"event": event, "time": time.time(), **values}) + "\n")
        self._handle.flush()


def end_with_engine(engine: Any) -> None:
    """End this process when the engine is dead: killed by a signal, vLLM may leave its caller waiting for ever."""

    def watch() -> None:
        while engine.alive():
            time.sleep(1)
        time.sleep(_GRACE)  # where vLLM does raise an error, that is the better end
        os._exit(ENGINE_DIED)

    threading.Thread(target=watch, daemon=True).start()


def end_with(parent: int) -> None:
    """Kill this process and the engine's own processes when `parent` is gone.

    vLLM's worker processes outlive a killed parent and go on computing, so the whole process group is ended; the
    supervisor starts this process as the leader of its own.
    """

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        if os.getpgrp() == os.getpid():
            os.killpg(os.getpid(), signal.SIGKILL)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()

"""How long the policy in evaluation will take: the rest of its present benchmark, and those that come after it."""

from __future__ import annotations

from typing import Any


class PolicyClock:
    """Follows the events of the evaluation job.

    What a benchmark takes is known once one policy has been through it; until then only the present benchmark's rest is.
    """

    def __init__(self, benchmarks: dict[str, list[str]]) -> None:
        """`benchmarks`: of each policy by its run id, in the order of the job."""
        self._benchmarks = benchmarks
        self._took: dict[str, float] = {}
        self._begun = 0.0

    def see(self, event: dict[str, Any]) -> None:
        """Take note of an event; `time` is in seconds."""
        if event["event"] == "policy_started":
            self._begun = event["time"]
        elif event["event"] == "benchmark_done":
            self._took[event["benchmark"]] = event["time"] - self._begun
            self._begun = event["time"]

    def left(self, event: dict[str, Any]) -> tuple[float, bool]:
        """Seconds left for the policy of a progress event, and whether every benchmark to come is counted in them."""
        names = self._benchmarks.get(event["policy"], [])
        place = names.index(event["benchmark"]) + 1 if event["benchmark"] in names else len(names)
        later = [self._took.get(name) for name in names[place:]]
        return event["eta_s"] + sum(took for took in later if took is not None), None not in later

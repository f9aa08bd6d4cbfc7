"""Seconds that a policy's evaluation will still take."""

from typing import Any

from harness.stages.evaluate import PolicyClock


def progress(policy: str, benchmark: str, eta: float) -> dict[str, Any]:
    return {"event": "progress", "policy": policy, "benchmark": benchmark, "eta_s": eta}


def test_later_benchmarks_count_once_a_policy_has_been_through_them() -> None:
    clock = PolicyClock({"a": ["kl", "chat", "arc"], "b": ["kl", "chat", "arc"], "b@2": ["kl"]})
    clock.see({"event": "policy_started", "policy": "a", "time": 100.0})
    assert clock.left(progress("a", "kl", 4.0)) == (4.0, False)
    for name, at in (("kl", 110.0), ("chat", 130.0), ("arc", 135.0)):
        clock.see({"event": "benchmark_done", "policy": "a", "benchmark": name, "time": at})
    clock.see({"event": "policy_started", "policy": "b", "time": 140.0})
    assert clock.left(progress("b", "kl", 4.0)) == (4.0 + 20.0 + 5.0, True)
    assert clock.left(progress("b", "arc", 1.0)) == (1.0, True)
    assert clock.left(progress("b@2", "kl", 3.0)) == (3.0, True)

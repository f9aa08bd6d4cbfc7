"""The evaluation worker under its supervisor: killed in the middle, nothing is missing or doubled."""

import json
import os
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest

from evals.supervise import _Supervised, run_job
from harness.state.failures import record_is_transient
from harness.state.records import Failure
from trainers.common import last_error, scores_schema


def make_job(tmp_path: Path, model: Path, policies: list[str]) -> dict[str, Any]:
    prompts = tmp_path / "prompts.jsonl"
    rows = [
        {"id": f"b{i}", "prompt": f"Say it {i} times.", "constraints": [{"kind": "no_commas", "args": {}}]}
        for i in range(150)
    ]
    prompts.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return {
        "schema_version": 1,
        "engine": {"backend": "transformers", "dtype": "float32", "max_model_len": 256},
        "base_model": str(model),
        "events": str(tmp_path / "work" / "events.jsonl"),
        "policies": [
            {"run_id": name, "path": str(model), "fingerprint": name, "out": str(tmp_path / name)} for name in policies
        ],
        "benchmarks": [
            {
                "name": "constraints",
                "kind": "constraints",
                "prompts": str(prompts),
                "max_new_tokens": 60,  # long enough that a kill at the first chunk comes before the last one
                "temperature": 1.0,
                "fingerprint": "bench",
            }
        ],
    }


def rows_of(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "generations" / "constraints.jsonl").read_text().splitlines()]


def test_a_killed_worker_resumes_and_a_bad_policy_fails_alone(tiny_model: Path, tmp_path: Path) -> None:
    """Killed in each of its first two visits of a policy, with new rows in between: that is not held against the policy."""
    broken = shutil.copytree(tiny_model, tmp_path / "broken")
    (broken / "model.safetensors").write_bytes(b"not weights")
    job = make_job(tmp_path, tiny_model, ["one", "bad", "two"])
    job["policies"][1]["path"] = str(broken)
    pids: list[int] = []
    killed: list[int] = []

    def kill_twice(event: dict[str, Any]) -> None:
        if event["event"] == "started":
            pids.append(event["pid"])
        if event["event"] == "progress" and event["policy"] == "two" and len(killed) < 2 and pids[-1] not in killed:
            killed.append(pids[-1])
            os.kill(pids[-1], signal.SIGKILL)

    result = run_job(job, tmp_path / "job.json", kill_twice)
    assert list(result.failed) == ["bad"] and result.failed["bad"]["class"] == "EngineError"
    assert result.done == ["one", "two"] and result.engine_starts == 3
    for name in ("one", "two"):
        rows = rows_of(tmp_path / name)
        assert len({row["prompt_id"] for row in rows}) == len(rows) == 150
        cell = scores_schema.cell_fingerprint(name, "bench")
        assert scores_schema.is_scored(tmp_path / name, "constraints", cell)
    texts = [[(row["prompt_id"], row["text"]) for row in rows_of(tmp_path / name)] for name in ("one", "two")]
    assert texts[0] == texts[1], (
        "an interrupted evaluation must sample what an undisturbed one of these weights samples"
    )


def test_an_engine_that_cannot_start_as_configured_is_started_once(tmp_path: Path, tiny_model: Path) -> None:
    job = make_job(tmp_path, tiny_model, ["one", "two"])
    job["engine"]["data_parallel_size"] = 10_000
    events: list[str] = []
    result = run_job(job, tmp_path / "job.json", lambda event: events.append(event["event"]))
    assert events == ["started", "engine_failed"]
    assert set(result.failed) == {"one", "two"} and result.done == []
    error = result.failed["one"]
    assert error["class"] == "EngineError" and "lower data_parallel_size" in error["message"]
    assert not record_is_transient(Failure.model_validate(error))


def test_an_engine_that_never_answers_says_why_and_is_started_once(tmp_path: Path, tiny_model: Path) -> None:
    job = make_job(tmp_path, tiny_model, ["one", "two"])
    job["base_model"] = str(tmp_path / "nowhere")
    events: list[dict[str, Any]] = []
    result = run_job(job, tmp_path / "job.json", events.append)
    assert [event["event"] for event in events] == ["started", "worker_died"] and not events[-1]["restarts"]
    for name in ("one", "two"):
        error = result.failed[name]
        assert "nowhere" in str(error["message"]) and "job.log" in str(error["message"])
        assert not record_is_transient(Failure.model_validate(error)) and error["engine"] == "not started"


LOG = """\
INFO 11-30 10:00:00 [core.py:1] ImportError: an option that is not there
(EngineCore pid=7) ERROR 11-30 10:00:01 [core.py:845]     raise RuntimeError(
(EngineCore pid=7) ERROR 11-30 10:00:01 [core.py:845] RuntimeError: no kernel for head_dim=8
(EngineCore pid=7) RuntimeError: no kernel for head_dim=8
vllm.v1.engine.exceptions.EngineDeadError: EngineCore encountered an issue. See stack trace (above) for the root cause.
RuntimeError: Engine core initialization failed. See root cause above. Failed core proc(s): {}
"""


@pytest.mark.parametrize(
    ("deaths", "answered", "failed", "transient"),
    [
        # (policy served, error): what is served when the worker dies, one death after another
        ([("reference", "RuntimeError: x")], False, {"reference", "a", "b"}, False),
        ([("reference", "OutOfMemoryError: CUDA out of memory")] * 2, False, {"reference", "a", "b"}, False),
        ([("reference", None)] * 2, False, {"reference"}, True),
        ([("a", "RuntimeError: x")], True, set(), None),
        ([("a", "RuntimeError: x")] * 2, True, {"a"}, False),
        ([("a", "RuntimeError: x"), ("a", "RuntimeError: y")], True, {"a"}, True),
        (
            [("a", "RuntimeError: x"), ("a", "RuntimeError: x"), ("b", "RuntimeError: x")],
            True,
            {"reference", "a", "b"},
            False,
        ),
    ],
)
def test_the_same_error_twice_is_lasting(
    tmp_path: Path, deaths: list[tuple[str, str | None]], answered: bool, failed: set[str], transient: bool | None
) -> None:
    state = _Supervised(["reference", "a", "b"], set(), answered=answered)
    (tmp_path / "job.log").write_text("")
    for policy, error in deaths:
        state.take({"event": "policy_started", "policy": policy})
        goes_on = state.died(error, 3, tmp_path / "job.log")
    assert set(state.result.failed) == failed and goes_on == (len(failed) < 3)
    assert {error["transient"] for error in state.result.failed.values()} == (
        set() if transient is None else {transient}
    )


def test_the_last_error_of_a_log_is_the_cause(tmp_path: Path) -> None:
    (tmp_path / "job.log").write_text("ValueError: of an earlier start\n" + LOG)
    assert last_error(tmp_path / "job.log") == "RuntimeError: no kernel for head_dim=8"
    assert last_error(tmp_path / "job.log", (tmp_path / "job.log").stat().st_size) is None


def test_a_torn_row_is_dropped(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    scores_schema.append_rows(path, [{"a": 1}])
    with path.open("a") as handle:
        handle.write('{"a": 2')
    assert scores_schema.read_rows(path) == [{"a": 1}]
    scores_schema.append_rows(path, [{"a": 3}])
    assert scores_schema.read_rows(path) == [{"a": 1}, {"a": 3}]


@pytest.mark.parametrize("value", [{"b": 1, "a": [1, 2]}, {"a": [1, 2], "b": 1}])
def test_digest_does_not_depend_on_key_order(value: dict[str, Any]) -> None:
    assert scores_schema.digest(value) == scores_schema.digest({"a": [1, 2], "b": 1})

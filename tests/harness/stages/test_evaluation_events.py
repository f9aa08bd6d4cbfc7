"""What the terminal says of the evaluation worker's events, and which kept results are set aside."""

from typing import Any

import pytest

from evals.supervise import NOT_STARTED
from harness.progress import Progress
from harness.stages.evaluate import _Evaluation
from harness.state.records import Failure
from trainers.common import scores_schema


@pytest.fixture
def evaluation(world: Any) -> _Evaluation:
    plan = world.plan()
    plan.output.mkdir()
    return _Evaluation(plan, [], Progress())


@pytest.mark.parametrize(
    ("event", "line"),
    [
        (
            {"event": "policy_failed", "policy": "reference", "error": "AssertionError", "message": ""},
            "AssertionError: ",
        ),
        ({"event": "policy_failed", "policy": "reference", "error": "ValueError", "message": "a\nb"}, "ValueError: a"),
        (
            {"event": "engine_failed", "error": "EngineError", "message": "too few cores"},
            "did not start: too few cores",
        ),
    ],
)
def test_failures_are_told_in_one_line(
    evaluation: _Evaluation, capsys: pytest.CaptureFixture[str], event: dict[str, Any], line: str
) -> None:
    evaluation._show(event)
    printed = capsys.readouterr()
    assert line in printed.out + printed.err and "\nb" not in printed.out + printed.err


def test_an_engine_that_did_not_start_is_tried_by_the_next_call(evaluation: _Evaluation) -> None:
    """What kept it from starting (devices, memory) is in no fingerprint."""
    reference = evaluation.policies[0]
    error = {"class": "EngineError", "message": "too few devices", "traceback": "", "attempts": 1}
    evaluation.record(reference, Failure.model_validate(error))
    assert evaluation.failed_before(reference)
    evaluation.record(reference, Failure.model_validate({**error, "engine": NOT_STARTED}))
    assert not evaluation.failed_before(reference)


def test_log_probs_that_the_reference_gave_anew_are_no_damage(evaluation: _Evaluation) -> None:
    reference, out = evaluation.policies[0], evaluation.plan.output / "reference"
    for benchmark in evaluation.plan.benchmarks:
        cell = scores_schema.cell_fingerprint(reference.fingerprint, benchmark.fingerprint)
        scores_schema.write_json(scores_schema.scores_path(out, benchmark.name), {"fingerprint": cell})
    path = scores_schema.logprobs_path(out, "constraints")
    scores_schema.append_rows(path, [{"id": "a", "engine": "one"}])
    evaluation.record(reference, None)
    path.unlink()
    scores_schema.append_rows(path, [{"id": "a", "engine": "another"}])
    evaluation._ran = True
    evaluation.record(reference, None)
    evaluation.set_damaged_aside(reference)
    assert path.is_file()


def test_damaged_log_probs_are_set_aside(evaluation: _Evaluation) -> None:
    reference = evaluation.policies[0]
    files = [scores_schema.logprobs_path(evaluation.plan.output / "reference", name) for name in ("constraints",)]
    for file in files:
        scores_schema.append_rows(file, [{"id": "a"}])
        with file.open("ab") as handle:
            handle.write(b'{"id": "b", \n')
    evaluation.set_damaged_aside(reference)
    assert not any(file.exists() for file in files)
    assert list(evaluation.plan.output.rglob("*constraints.jsonl*")), "kept, for whoever wants to look"

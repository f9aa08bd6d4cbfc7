"""The LLM judge against a real vLLM server of the embedded model."""

import importlib.util
from collections.abc import Iterator
from pathlib import Path

import pytest

from evals.judges.base import JudgeError, Judging, Question
from evals.judges.cache import JudgeCache
from evals.judges.llm import LLMJudge
from evals.judges.served import Server
from evals.judges.templates import FOLDER

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(importlib.util.find_spec("vllm") is None, reason="vLLM is not installed"),
]
QUESTIONS = [
    Question("What is the capital of France?"),
    Question("Name three fruits."),
    Question("What is 2 + 3?"),
    Question("Write one sentence about rain."),
]
GOOD = [
    "The capital of France is Paris.",
    "Apples, bananas and pears.",
    "5.",
    "Rain fell softly on the roof all night.",
]
POOR = ["Bicycles.", "I like trains. Zebra.", "Purple.", "No."]
#: Worked examples: a model this small follows a pattern, not an instruction.
SCORE = """
compares: false
max_tokens: 8
messages:
  - {role: user, content: "What is 1 + 1?\nAnswer: 2.\nScore:"}
  - {role: assistant, content: "[[9]]"}
  - {role: user, content: "Name a colour.\nAnswer: Table.\nScore:"}
  - {role: assistant, content: "[[2]]"}
  - {role: user, content: "{prompt}\nAnswer: {answer}\nScore:"}
verdict:
  read: text
  pattern: '\\[\\[(\\d+)\\]\\]'
  range: [1, 10]
"""


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    from trainers.models.embedded import prepare_model

    options = {"dtype": "float32", "max_model_len": 1024}
    server = Server(str(prepare_model("smollm2-135m-instruct")), "smollm2", options)  # stopped with the object
    yield server.start()
    del server


def test_a_server_that_does_not_start_says_why_and_is_not_started_again(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    judge = LLMJudge(serve=str(tmp_path))
    for _ in range(2):
        with pytest.raises(JudgeError, match=r"vLLM server of .* ended with exit code 1: (.|\n)*model"):
            judge._server.start()  # type: ignore[union-attr]


def judging(url: str, folder: Path, template: str, **params: object) -> Judging:
    settings = {"template": template, "concurrency": 8, **params}
    return Judging(LLMJudge("smollm2", url, **settings), JudgeCache(folder / "cache.jsonl"))  # type: ignore[arg-type]


@pytest.fixture
def letters(tmp_path: Path) -> str:
    """The shipped log-prob template, however little probability the model gives to both letters."""
    shipped = (FOLDER / "pairwise_logprobs.yaml").read_text(encoding="utf-8")
    assert "min_mass: 0.5" in shipped
    path = tmp_path / "letters.yaml"
    path.write_text(shipped.replace("min_mass: 0.5", "min_mass: 0.0"), encoding="utf-8")
    return str(path)


def test_log_prob_verdicts_in_both_orders(url: str, tmp_path: Path, letters: str) -> None:
    judge = judging(url, tmp_path, letters)
    results = judge.compare(QUESTIONS, GOOD, POOR)
    assert judge.tally.asked == 8 and not judge.tally.unanswered and not judge.tally.unparsed
    assert judge.tally.cost.prompt_tokens > 8 * 50 and judge.tally.cost.completion_tokens == 8
    for result in results:
        assert result.preference is not None and result.forward is not None and result.backward is not None
        assert result.preference == pytest.approx((result.forward + result.backward) / 2)
        assert 0 < result.forward < 1 and result.forward != result.backward
    # The very same questions again: nothing is asked, everything is the same.
    again = judging(url, tmp_path, letters)
    assert again.compare(QUESTIONS, GOOD, POOR) == results and again.tally.asked == 0


def test_a_model_unsure_of_the_form_gives_no_verdict(url: str, tmp_path: Path) -> None:
    judge = judging(url, tmp_path, "pairwise_logprobs")
    results = judge.compare(QUESTIONS, GOOD, POOR)
    unsure = sum(judge.tally.unparsed.values())
    assert unsure and set(judge.tally.unparsed) == {"verdict tokens too improbable"}
    assert sum(result.preference is None for result in results) >= unsure / 2


def test_written_verdicts_are_read(url: str, tmp_path: Path) -> None:
    template = tmp_path / "score.yaml"
    template.write_text(SCORE)
    judge = judging(url, tmp_path, str(template))
    replies = judge.score(QUESTIONS, GOOD)
    assert any(reply.value is not None for reply in replies)
    for reply in replies:
        assert reply.raw and (reply.value is None) == (reply.reason is not None)
        assert reply.value is None or f"[[{reply.value:.0f}]]" in reply.raw
    assert sum(judge.tally.unparsed.values()) == sum(reply.value is None for reply in replies)


def test_verdicts_that_never_come_are_counted(url: str, tmp_path: Path) -> None:
    # The shipped template asks for more than a 135M model can do.
    judge = judging(url, tmp_path, "pairwise", extra_body={"max_tokens": 24})
    results = judge.compare(QUESTIONS[:2], GOOD[:2], POOR[:2])
    assert judge.tally.asked == 4 and not judge.tally.unanswered
    for result in results:
        assert (result.preference is None) == (result.reason is not None)
    assert sum(judge.tally.unparsed.values()) > 0


def test_a_prompt_too_long_for_the_server_is_refused_alone(url: str, tmp_path: Path) -> None:
    judge = judging(url, tmp_path, "pairwise_logprobs")
    long = "word " * 3000
    results = judge.compare(QUESTIONS[:2], [GOOD[0], long], POOR[:2])
    assert results[1].preference is None and results[1].reason == "HTTP 400"
    assert dict(judge.tally.unanswered) == {"HTTP 400": 2} and len(judge.cache) == 2


def test_an_unknown_model_stops_the_run(url: str, tmp_path: Path) -> None:
    wrong = Judging(LLMJudge("gpt-nonesuch", url, template="score"), JudgeCache(tmp_path / "c.jsonl"))
    with pytest.raises(JudgeError, match=r"HTTP 404.*check base_url and model"):
        wrong.score(QUESTIONS[:1], GOOD[:1])

"""The LLM judge against a local server that misbehaves on purpose."""

import json
import math
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from evals.judges.base import JudgeError, Judging, Question
from evals.judges.cache import Cost, JudgeCache
from evals.judges.endpoint import Pace
from evals.judges.llm import LLMJudge
from tests.evals.judge_server import Said, chat_server, completion

ROOT = Path(__file__).resolve().parents[3]


def judging(url: str, path: Path, **params: Any) -> Judging:
    settings: dict[str, Any] = {"template": "score", "backoff_s": 0.01, "timeout_s": 5, **params}
    return Judging(LLMJudge("judge-model", url, **settings), JudgeCache(path / "cache.jsonl"))


def ask(judge: Judging, n: int) -> list[float | None]:
    replies = judge.score([Question(f"Question {i}.") for i in range(n)], [f"Answer {i}." for i in range(n)])
    return [reply.value for reply in replies]


def test_scores_come_back_in_order_with_cost(tmp_path: Path) -> None:
    def answer(content: str, before: int) -> Said:
        number = int(content.split("Question ")[1].split(".")[0])
        return Said(f"Fine. [[{number + 1}]]", delay=0.05 * (number % 3))

    with chat_server(answer) as server:
        judge = judging(server.url, tmp_path)
        assert ask(judge, 8) == [float(i + 1) for i in range(8)]
        assert judge.tally.cost == Cost(8, 80, 40)
        body = server.bodies[0]
        assert (body["model"], body["temperature"], body["max_tokens"]) == ("judge-model", 0.0, 512)


def test_pairwise_preference_is_free_of_position_bias(tmp_path: Path) -> None:
    with chat_server(lambda content, _: Said("[[A]]")) as server:
        (result,) = judging(server.url, tmp_path, template="pairwise").compare([Question("Q")], ["x"], ["y"])
    assert (result.forward, result.backward, result.preference) == (1.0, 0.0, 0.5)


def test_log_probs_give_a_graded_preference(tmp_path: Path) -> None:
    def answer(content: str, before: int) -> Said:
        p = 0.8 if content.index("good") < content.index("poor") else 0.4
        top = [{"token": "A", "logprob": math.log(p)}, {"token": "B", "logprob": math.log(1 - p)}]
        return Said("A", top=top)

    with chat_server(answer) as server:
        judge = judging(server.url, tmp_path, template="pairwise_logprobs")
        (result,) = judge.compare([Question("Q")], ["good"], ["poor"])
        assert server.bodies[0]["logprobs"] is True and server.bodies[0]["max_tokens"] == 1
    assert result.preference == pytest.approx((0.8 + 0.6) / 2)


def test_a_server_without_log_probs_is_said(tmp_path: Path) -> None:
    with chat_server(lambda content, _: Said("A")) as server:
        judge = judging(server.url, tmp_path, template="pairwise_logprobs")
        assert judge.compare([Question("Q")], ["x"], ["y"])[0].reason == "the server returned no log-probs"


@pytest.mark.parametrize(
    "trouble",
    [
        Said(status=429),
        Said(status=500),
        Said(status=503),
        Said(body=b"<html>busy</html>"),
        Said(body=b'{"choices": []}'),
        Said("[[2]]", delay=3.0),
    ],
)
def test_trouble_passes_after_retries(tmp_path: Path, trouble: Said) -> None:
    with chat_server(lambda content, before: trouble if before < 2 else Said("[[9]]")) as server:
        judge = judging(server.url, tmp_path, timeout_s=1.0)
        assert ask(judge, 3) == [9.0] * 3
        assert Counter(server.asked).most_common()[-1][1] == 3
        assert judge.tally.cost.requests == 9


def test_lasting_trouble_is_counted_not_kept_and_asked_again(tmp_path: Path) -> None:
    with chat_server(lambda content, _: Said(status=500)) as server:
        judge = judging(server.url, tmp_path, retries=1)
        assert ask(judge, 2) == [None, None]
        assert dict(judge.tally.unanswered) == {"HTTP 500": 2} and not judge.tally.unparsed
        assert len(server.asked) == 4
    with chat_server(lambda content, _: Said("[[3]]")) as server:
        assert ask(judging(server.url, tmp_path), 2) == [3.0, 3.0]


def test_a_server_that_is_down_is_given_up(tmp_path: Path) -> None:
    with chat_server(lambda content, _: Said(status=503)) as server:
        judge = judging(server.url, tmp_path, retries=0, concurrency=1)
        assert ask(judge, 50) == [None] * 50
        assert len(server.asked) == 3
        assert dict(judge.tally.unanswered) == {"HTTP 503": 3, "not asked: HTTP 503": 47}


def test_retry_after_is_obeyed(tmp_path: Path) -> None:
    limited = Said(status=429, headers={"Retry-After": "0.7"})
    with chat_server(lambda content, before: limited if before == 0 else Said("[[5]]")) as server:
        assert ask(judging(server.url, tmp_path), 1) == [5.0]
        assert server.times[1] - server.times[0] >= 0.7


def test_garbage_verdicts_are_counted_kept_and_never_guessed(tmp_path: Path) -> None:
    texts = ["I would say 7 or so", "[[7]] no, [[2]]", "[[99]]", ""]

    def answer(content: str, before: int) -> Said:
        return Said(texts[int(content.split("Question ")[1][0])])

    with chat_server(answer) as server:
        judge = judging(server.url, tmp_path)
        assert ask(judge, 4) == [None] * 4
        assert judge.tally.as_dict()["unparsed"] == {
            "contradictory verdicts in the reply": 1,
            "no verdict in the reply": 2,
            "score out of range": 1,
        }
        again = judging(server.url, tmp_path)
        assert ask(again, 4) == [None] * 4
        assert len(server.asked) == 4 and again.tally.asked == 0 and sum(again.tally.unparsed.values()) == 4


def test_a_reply_cut_off_is_said(tmp_path: Path) -> None:
    with chat_server(lambda content, _: Said("Let me think", finish="length")) as server:
        judge = judging(server.url, tmp_path)
        assert ask(judge, 1) == [None]
        assert "cut off before a verdict" in next(iter(judge.tally.unparsed))


def test_one_refused_request_does_not_stop_the_others(tmp_path: Path) -> None:
    refused = Said(status=400, body=b"prompt is too long")
    with chat_server(lambda content, _: refused if "Question 1." in content else Said("[[4]]")) as server:
        judge = judging(server.url, tmp_path)
        assert ask(judge, 3) == [4.0, None, 4.0]
        assert len(server.asked) == 3 and dict(judge.tally.unanswered) == {"HTTP 400": 1}


@pytest.mark.parametrize(("status", "hint"), [(401, "check api_key_env"), (402, "no credit"), (404, "check base_url")])
def test_a_wrong_key_or_address_stops_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, status: int, hint: str
) -> None:
    monkeypatch.setenv("JUDGE_KEY", "sk-very-secret")
    said = Said(status=status, body=b"bad key sk-very-secret")
    with chat_server(lambda content, _: said) as server:
        with pytest.raises(JudgeError) as caught:
            ask(judging(server.url, tmp_path, api_key_env="JUDGE_KEY", concurrency=1), 5)
        assert len(server.asked) == 1
        assert server.headers[0]["Authorization"] == "Bearer sk-very-secret"
    assert hint in str(caught.value) and "bad key [key]" in str(caught.value)
    assert "secret" not in str(caught.value)


def test_a_key_that_the_server_repeats_is_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JUDGE_KEY", "sk-very-secret")
    with chat_server(lambda content, _: Said("you sent sk-very-secret [[6]]")) as server:
        assert ask(judging(server.url, tmp_path, api_key_env="JUDGE_KEY"), 1) == [6.0]
    assert "secret" not in (tmp_path / "cache.jsonl").read_text()


def test_a_key_is_taken_out_before_words_are_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JUDGE_KEY", "sk-very-secret")
    said = Said(status=404, body=b"x" * 292 + b"sk-very-secret")  # of 300 characters kept
    with chat_server(lambda content, _: said) as server, pytest.raises(JudgeError) as caught:
        ask(judging(server.url, tmp_path, api_key_env="JUDGE_KEY"), 1)
    assert "sk-" not in str(caught.value) and "x[key]" in str(caught.value)


def test_requests_without_an_answer_count_in_the_budget(tmp_path: Path) -> None:
    options: dict[str, Any] = {"max_requests": 6, "concurrency": 1, "retries": 1, "backoff_s": 0.0}
    with chat_server(lambda content, _: Said(status=503)) as server:
        assert ask(judging(server.url, tmp_path, **options), 2) == [None] * 2
        assert len(server.asked) == 4
        again = judging(server.url, tmp_path, **options)
        assert ask(again, 2) == [None] * 2 and "request budget spent" in dict(again.tally.unanswered)
        assert len(server.asked) == 6
    assert again.cache.damaged == 0 and again.cache.spent(again.digest).requests == 6


def test_request_budget_holds_over_runs(tmp_path: Path) -> None:
    with chat_server(lambda content, _: Said("[[8]]")) as server:
        judge = judging(server.url, tmp_path, max_requests=4, concurrency=1)
        assert ask(judge, 10).count(8.0) == 4
        assert "request budget spent" in dict(judge.tally.unanswered)
        again = judging(server.url, tmp_path, max_requests=6, concurrency=1)
        assert ask(again, 10).count(8.0) == 6
        assert len(server.asked) == 6
        assert ask(judging(server.url, tmp_path), 10).count(8.0) == 10


def test_token_budget(tmp_path: Path) -> None:
    with chat_server(lambda content, _: Said("[[8]]")) as server:
        judge = judging(server.url, tmp_path, max_tokens=40, concurrency=1)
        assert ask(judge, 10).count(8.0) == 3  # 15 tokens each: the third goes beyond, no fourth is sent
        assert len(server.asked) == 3 and judge.tally.cost.tokens == 45
    with (
        chat_server(lambda content, _: Said("[[8]]", usage=False)) as server,
        pytest.raises(JudgeError, match="reports no token usage"),
    ):
        ask(judging(server.url, tmp_path / "other", max_tokens=40), 2)


def test_rate_limit_spaces_requests(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, pauses = [100.0], []

    class Stop(threading.Event):
        def wait(self, timeout: float | None = None) -> bool:
            pauses.append(timeout)
            return False

    monkeypatch.setattr("evals.judges.endpoint.time.monotonic", lambda: clock[0])
    pace = Pace(300)
    for _ in range(3):
        pace.wait(Stop())
    assert pauses == pytest.approx([0.2, 0.4])
    clock[0] = 200.0  # after a quiet time nothing has been saved up
    pace.wait(Stop())
    pace.wait(Stop())
    assert pauses[2:] == pytest.approx([0.2])


def test_extra_body_adds_and_removes_keys_and_is_part_of_the_identity(tmp_path: Path) -> None:
    with chat_server(lambda content, _: Said("[[8]]")) as server:
        extra = {"max_tokens": None, "max_completion_tokens": 9}
        judge = judging(server.url, tmp_path, extra_body=extra)
        ask(judge, 1)
        assert "max_tokens" not in server.bodies[0] and server.bodies[0]["max_completion_tokens"] == 9
        assert judge.digest != judging(server.url, tmp_path).digest


def test_the_address_is_no_part_of_the_identity() -> None:
    one, two = (LLMJudge("m", f"http://host{i}:80/v1", concurrency=i + 1).identity() for i in range(2))
    assert one == two and "host" not in json.dumps(one)
    assert LLMJudge("m", "http://h/v1", template="score").identity() != one


def test_strange_answers_reach_the_server_whole(tmp_path: Path) -> None:
    strange = 'quote " brace { emoji \U0001f600 null \x00 tag </s> [[A]]'
    with chat_server(lambda content, _: Said("[[8]]")) as server:
        judging(server.url, tmp_path).score([Question("Q")], [strange])
        assert strange in server.asked[0]


KILLED = """
import sys
from pathlib import Path
from evals.judges.base import Judging, Question
from evals.judges.cache import JudgeCache
from evals.judges.endpoint import Pace
from evals.judges.llm import LLMJudge
judge = LLMJudge("judge-model", sys.argv[1], template="score", concurrency=2)
judging = Judging(judge, JudgeCache(Path(sys.argv[2]) / "cache.jsonl"))
judging.score([Question(f"Question {i}.") for i in range(12)], [f"Answer {i}." for i in range(12)])
"""


def test_a_killed_run_asks_nothing_twice(tmp_path: Path) -> None:
    with chat_server(lambda content, _: Said("[[8]]", delay=0.3)) as server:
        process = subprocess.Popen([sys.executable, "-c", KILLED, server.url, str(tmp_path)], cwd=ROOT)
        cache = tmp_path / "cache.jsonl"
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and (not cache.exists() or cache.read_text().count('"key"') < 5):
            time.sleep(0.01)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        kept = len(JudgeCache(cache))
        assert 5 <= kept < 12
        resumed = judging(server.url, tmp_path, concurrency=2)
        assert ask(resumed, 12) == [8.0] * 12
        assert resumed.tally.asked == 12 - kept and resumed.tally.cached == kept
        # Only requests in flight at the kill, at most two, reached the server in both runs.
        twice = [content for content, times in Counter(server.asked).items() if times > 1]
        assert len(server.asked) - 12 == len(twice) <= 2


def test_completions_of_the_test_server_are_json() -> None:
    assert json.loads(completion(Said("x")))["choices"][0]["message"]["content"] == "x"

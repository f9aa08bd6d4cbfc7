"""Judges: one interface, a cache that survives, both orders, no guessed verdicts."""

import json
import math
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from evals.judges.base import Judge, JudgeError, Judging, Question, Request, Tally
from evals.judges.cache import Cost, JudgeCache, Reply
from evals.judges.comparisons import WORDS, WinRateError, compare_policies, read_answers, write_comparisons
from evals.judges.registry import build
from evals.judges.templates import FOLDER, load_template
from evals.judges.verifiable import VerifiableJudge
from evals.judges.worker import unanswered
from reports.compare.winrates import comparison_table, judge_summary, read_comparisons
from tests.evals.reward_model import build_reward_model

ROOT = Path(__file__).resolve().parents[3]
PROMPT = Question("Say something.")


class Stub(Judge):
    """Prefers the longer answer, with a fixed bonus for whatever stands first; no verdict on the word 'garbage'."""

    compares = True

    def __init__(self, bonus: float = 0.0) -> None:
        self.bonus = bonus
        self.asked: list[Request] = []

    def identity(self) -> dict[str, Any]:
        return {"kind": "stub", "bonus": self.bonus}

    def ask(self, requests: Sequence[Request], spent: Cost) -> Iterator[tuple[int, Reply]]:
        for index, request in enumerate(requests):
            self.asked.append(request)
            one, two = request.answers
            if one.startswith("garbage"):
                yield index, Reply(None, "no verdict in the reply")
            elif one.startswith("down"):
                yield index, Reply(None, "timeout", final=False)
            else:
                value = 0.5 + 0.1 * (len(one) - len(two)) + self.bonus
                yield index, Reply(min(max(value, 0.0), 1.0), cost=Cost(1, 10, 5))


def test_both_orders_are_asked_and_averaged_and_identical_answers_tie_unasked(tmp_path: Path) -> None:
    judging = Judging(Stub(bonus=0.2), JudgeCache(tmp_path / "c.jsonl"))
    result, tie, torn = judging.compare([PROMPT] * 3, ["abc", "same", "garbage in"], ["ab", "same", "fine"])
    assert result.forward == pytest.approx(0.8) and result.backward == pytest.approx(0.4)
    assert result.preference == pytest.approx(0.6)  # the bonus cancels
    assert (tie.preference, tie.reason) == (0.5, "identical answers")
    assert torn.preference is None and torn.reason == "no verdict in the reply"  # a verdict in one order only is none
    assert torn.forward is None and torn.backward is not None
    assert dict(judging.tally.unparsed) == {"no verdict in the reply": 1}
    assert judging.tally.asked == 4 and judging.tally.cost == Cost(3, 30, 15)


def test_nothing_is_asked_twice_and_failures_are_asked_again(tmp_path: Path) -> None:
    path = tmp_path / "c.jsonl"
    first = Stub()
    Judging(first, JudgeCache(path)).compare([PROMPT] * 4, ["abc", "abc", "garbage", "down"], ["b", "b", "x", "y"])
    assert len(first.asked) == 6  # two orders of three different pairs: the repeated pair is one request
    again = Stub()
    judging = Judging(again, JudgeCache(path))
    judging.compare([PROMPT] * 4, ["abc", "abc", "garbage", "down"], ["b", "b", "x", "y"])
    assert [request.answers for request in again.asked] == [("down", "y")]
    assert dict(judging.tally.unparsed) == {"no verdict in the reply": 1}
    assert dict(judging.tally.unanswered) == {"timeout": 1}
    json.dumps(judging.tally.as_dict(), allow_nan=False)


def test_another_judge_prompt_or_order_is_another_question(tmp_path: Path) -> None:
    cache = JudgeCache(tmp_path / "c.jsonl")
    Judging(Stub(), cache).compare([PROMPT], ["abc"], ["b"])
    for judge, question, one, two, fresh in (
        (Stub(), PROMPT, "b", "abc", 0),  # the same two orders, named the other way round
        (Stub(), Question("Other."), "abc", "b", 2),
        (Stub(0.1), PROMPT, "abc", "b", 2),
        (Stub(), Question("Say something.", {"unused": 1}), "abc", "b", 0),
    ):
        Judging(judge, cache).compare([question], [one], [two])
        assert len(judge.asked) == fresh


def test_verdicts_out_of_range_and_silence_are_caught(tmp_path: Path) -> None:
    class Wild(Stub):
        def ask(self, requests: Sequence[Request], spent: Cost) -> Iterator[tuple[int, Reply]]:
            yield 0, Reply(self.bonus)

    with pytest.raises(JudgeError, match=r"answered 1\.5; it must give a preference in 0\.\.1"):
        Judging(Wild(1.5), JudgeCache(tmp_path / "a.jsonl")).compare([PROMPT], ["a"], ["b"])
    judging = Judging(Wild(0.5), JudgeCache(tmp_path / "b.jsonl"))
    with pytest.raises(JudgeError, match="compares two answers"):
        judging.score([PROMPT], ["x"])
    assert judging.compare([PROMPT], ["a"], ["b"])[0].reason == "the judge gave no reply"
    assert len(judging.cache) == 1


def test_cache_survives_a_torn_line_and_strange_text(tmp_path: Path) -> None:
    path = tmp_path / "c.jsonl"
    cache = JudgeCache(path)
    cache.put("k1", "j", Reply(0.25, raw="line\nbreak \ud800 \u2028 ü", cost=Cost(1, 2, 3)))
    with path.open("ab") as handle:
        handle.write('{"key": "k2", "judge": "j", "value": 0.75, "raw": "ü'.encode()[:-1])  # killed in mid-character
    reopened = JudgeCache(path)
    assert len(reopened) == 1 and reopened.damaged == 0
    reopened.put("k3", "j", Reply(None, "no verdict in the reply"))
    final = JudgeCache(path)
    assert "k1" in final and "k3" in final and "k2" not in final and final.damaged == 1
    kept = final.get("k1")
    assert kept == Reply(0.25, raw="line\nbreak \ud800 \u2028 ü", cost=Cost(1, 2, 3))
    assert final.spent("j") == Cost(1, 2, 3)


def test_two_processes_write_one_cache(tmp_path: Path) -> None:
    path = tmp_path / "c.jsonl"
    code = (
        "import sys; from evals.judges.cache import *; c = JudgeCache(sys.argv[1])\n"
        "for i in range(150): c.put(f'{sys.argv[2]}-{i}', 'j', Reply(i / 7, raw='x' * (i * 40)))"
    )
    writers = [subprocess.Popen([sys.executable, "-c", code, str(path), name], cwd=ROOT) for name in "ab"]
    assert [writer.wait(timeout=60) for writer in writers] == [0, 0]
    cache = JudgeCache(path)
    assert len(cache) == 300 and cache.damaged == 0
    assert all(cache.get(f"{name}-{i}").value == i / 7 for name in "ab" for i in range(150))  # type: ignore[union-attr]


def test_one_process_sees_what_another_added(tmp_path: Path) -> None:
    mine, other = JudgeCache(tmp_path / "c.jsonl"), JudgeCache(tmp_path / "c.jsonl")
    Judging(Stub(), other).compare([PROMPT], ["abc"], ["b"])
    stub = Stub()
    Judging(stub, mine).compare([PROMPT], ["abc"], ["b"])
    assert stub.asked == []


def test_the_verifiable_judge_is_the_gold_reward(tmp_path: Path) -> None:
    question = Question("Write.", {"constraints": [{"kind": "no_commas"}, {"kind": "lowercase"}]})
    judging = Judging(VerifiableJudge(), JudgeCache(tmp_path / "c.jsonl"))
    scores = judging.score([question] * 3, ["all fine", "Half fine", "Not, fine"])
    assert [score.value for score in scores] == [1.0, 0.5, 0.0]
    results = judging.compare(
        [question] * 3, ["all fine", "Not, fine", "Half fine"], ["Half fine", "fine", "Also half"]
    )
    assert [result.preference for result in results] == [1.0, 0.0, 0.5]
    assert all(result.forward is None for result in results)
    with pytest.raises(JudgeError, match=r"prompt 'No constraints\.': 'constraints' is missing"):
        judging.score([Question("No constraints.")], ["x"])
    other = Question("Write.", {"constraints": [{"kind": "uppercase"}]})
    assert judging.score([other], ["all fine"])[0].value == 0.0  # constraints are part of the key


LLM = {"model": "m", "base_url": "http://localhost:1/v1"}


@pytest.mark.parametrize(
    ("name", "params", "message"),
    [
        ("verifable", {}, "did you mean 'verifiable'"),
        ("zzz", {}, "known judges: llm, reward_model, verifiable"),
        ("llm", {"model": "m"}, "base_url or serve is needed"),
        ("llm", {**LLM, "temprature": 1}, "did you mean 'temperature'"),
        ("llm", {**LLM, "base_url": "localhost:8000"}, "like http://localhost:8000/v1"),
        ("llm", {**LLM, "base_url": "http://user:secret@host/v1"}, "must hold no credentials"),
        ("llm", {**LLM, "concurrency": 0}, "concurrency is 0; it must be above 0"),
        ("llm", {**LLM, "max_tokens": True}, "max_tokens is True"),
        ("llm", {**LLM, "template": "pairwize"}, "did you mean 'pairwise'"),
        ("reward_model", {"model": "m", "dtype": "fp32"}, "dtype is 'fp32'; it must be 'auto', 'float32'"),
        ("nowhere.py:Judge", {}, "no such file nowhere.py"),
    ],
)
def test_registry_names_the_mistake(name: str, params: dict[str, Any], message: str) -> None:
    with pytest.raises(JudgeError) as caught:
        build(name, params)
    assert message in str(caught.value)
    assert "secret" not in str(caught.value)


def test_building_a_judge_loads_nothing_heavy() -> None:
    code = (
        "import sys; from evals.judges.registry import build\n"
        "build('verifiable'); build('reward_model', {'model': 'x'})\n"
        "build('llm', {'model': 'm', 'base_url': 'http://localhost:1/v1'}).identity()\n"
        "assert not {'torch', 'transformers', 'httpx', 'openai'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, timeout=60)


def test_every_shipped_template_loads_and_fills() -> None:
    for path in FOLDER.glob("*.yaml"):
        template = load_template(path.stem)
        answers = ("the {prompt} and {answer_b}", "second {}")[: 2 if template.compares else 1]
        text = template.fill(Request(Question("What {answer_a}?"), answers))[-1]["content"]
        # Braces that came in with the texts stay: nothing is filled twice.
        assert "What {answer_a}?" in text and "the {prompt} and {answer_b}" in text


@pytest.mark.parametrize(
    ("template", "text", "expected"),
    [
        ("pairwise", "A is better. [[A]]", (1.0, None)),
        ("pairwise", "[[B]]", (0.0, None)),
        ("pairwise", "Equal: [[C]]", (0.5, None)),
        ("pairwise", "[[A]] ... as I said, [[A]]", (1.0, None)),
        ("pairwise", "[[A]] or maybe [[B]]", (None, "contradictory verdicts in the reply")),
        ("pairwise", "Answer A is clearly better.", (None, "no verdict in the reply")),
        ("pairwise", "[[a]] [A] [[ A ]]", (None, "no verdict in the reply")),
        ("pairwise", "", (None, "no verdict in the reply")),
        ("score", "[[7]]", (7.0, None)),
        ("score", "[[7.5]] indeed", (7.5, None)),
        ("score", "[[11]]", (None, "score out of range")),
        ("score", "[[0]]", (None, "score out of range")),
        ("score", "Rating: 7", (None, "no verdict in the reply")),
        ("score", "[[3]] [[4]]", (None, "contradictory verdicts in the reply")),
    ],
)
def test_verdicts_are_read_or_refused(template: str, text: str, expected: tuple[float | None, str | None]) -> None:
    assert load_template(template).verdict.of(text, {}) == expected


def test_first_token_verdict_is_the_share_of_probability() -> None:
    verdict = load_template("pairwise_logprobs").verdict

    def read(*top: tuple[str, float]) -> tuple[float | None, str | None]:
        alternatives = [{"token": token, "logprob": math.log(p)} for token, p in top]
        return verdict.of("", {"logprobs": {"content": [{"top_logprobs": alternatives}]}})

    value, reason = read(("A", 0.5), (" A", 0.1), ("B", 0.2), ("The", 0.2))
    assert value == pytest.approx(0.6 / 0.8) and reason is None
    assert read(("A", 0.3), ("The", 0.7)) == read() == (None, "verdict tokens too improbable")


GOOD = (FOLDER / "pairwise.yaml").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("compares: true", "compares: maybe", "compares is 'maybe'; it must be a valid boolean"),
        ("max_tokens: 512", "max_tokens: 0", "max_tokens is 0"),
        ("max_tokens: 512", "maxtokens: 512", "max_tokens: it is missing"),
        ("{answer_b}", "{answer_c}", "messages must use exactly the fields"),
        ("read: text", "read: mind", "does not match any of the expected tags: 'text', 'first_token'"),
        (r"'\[\[([ABC])\]\]'", "'('", "verdict.pattern: missing )"),
        (r"'\[\[([ABC])\]\]'", "'A|B'", "exactly one group"),
        ("A: 1.0", "A: 2.0", "must be in 0..1"),
        ("verdict:", "verdict: [", "not YAML"),
    ],
)
def test_template_mistakes_name_the_file(tmp_path: Path, old: str, new: str, message: str) -> None:
    path = tmp_path / "mine.yaml"
    assert old in GOOD
    path.write_text(GOOD.replace(old, new))
    with pytest.raises(JudgeError) as caught:
        load_template(str(path))
    assert message in str(caught.value) and str(path) in str(caught.value)


CONSTRAINED = {f"q{i}": Question(f"Prompt {i}", {"constraints": [{"kind": "no_commas"}]}) for i in range(6)}


def test_policies_are_compared_and_summarised(tmp_path: Path) -> None:
    answers = {
        "good": {(prompt, 0): "no comma" for prompt in CONSTRAINED},
        "bad": {(prompt, 0): "a, comma" for prompt in CONSTRAINED},
        "reference": {(prompt, 0): "no comma" if i % 2 else "a, comma" for i, prompt in enumerate(CONSTRAINED)},
    }
    pairs = [("good", "reference"), ("bad", "reference"), ("good", "bad")]
    judging = Judging(VerifiableJudge(), JudgeCache(tmp_path / "c.jsonl"))
    rows = compare_policies("gold", judging, "constraints", CONSTRAINED, answers, pairs)
    assert judging.tally.asked == 12  # each of two different answers to six prompts is scored once, whoever gave it
    path = write_comparisons(tmp_path, "constraints", rows, {"gold": judging})
    judge = judge_summary(comparison_table(read_comparisons(path)), "reference")
    assert {arm.label: arm.win_rate.value for arm in judge.against_reference} == {"good": 0.75, "bad": 0.25}
    assert judge.bradley_terry is not None and judge.bradley_terry.ranking == ["good", "reference", "bad"]
    account = json.loads(path.with_suffix(".json").read_text())
    assert account["rows"] == 18 and account["judges"]["gold"]["identity"]["kind"] == "verifiable"


class Talker(Stub):
    """Says why, at length, with characters that end a line for some and cannot be written for others."""

    def ask(self, requests: Sequence[Request], spent: Cost) -> Iterator[tuple[int, Reply]]:
        for index, request in enumerate(requests):
            if request.answers[0] == "down":
                yield index, Reply(None, "HTTP 400", "too long, says the server", final=False)
            else:
                yield index, Reply(1.0, raw=f"{request.answers[0]}\u2028\ud800" + "x" * 5000 + "[[A]]")


@pytest.mark.parametrize(
    ("asked", "refused", "down", "open_"),
    [
        (100, 10, 0, None),
        (100, 11, 0, 11),
        (100, 10, 2, 2),
        (100, 11, 2, 13),
        (3, 1, 0, None),
        (1, 1, 0, 1),
        (2, 2, 0, 2),
    ],
)
def test_a_few_refused_requests_are_missing_and_many_are_a_failure(
    asked: int, refused: int, down: int, open_: int | None
) -> None:
    tally = Tally(asked=asked, refused=refused, refusal="no credit")
    tally.unanswered.update({"HTTP 400": refused, "timeout": down})
    error = unanswered(tally)
    assert (error is None) == (open_ is None)
    if error is not None:
        assert f"{open_} of {asked} requests have no answer" in str(error) and "the server said: no credit" in str(
            error
        )


def test_the_judges_words_are_in_the_rows(tmp_path: Path) -> None:
    questions = {"q0": PROMPT, "q1": PROMPT}
    answers = {"a": {("q0", 0): "one", ("q1", 0): "one"}, "b": {("q0", 0): "two", ("q1", 0): "down"}}
    rows = compare_policies(
        "talker", Judging(Talker(), JudgeCache(tmp_path / "c")), "b", questions, answers, [("a", "b")]
    )
    path = write_comparisons(tmp_path, "b", rows, {})
    (first, second), refused = (row["words"] for row in read_comparisons(path))
    assert first.startswith("one\u2028?x") and second.startswith("two\u2028?x")
    assert first.endswith("x[[A]]") and len(first) == WORDS + len(" [...] ")
    assert refused[0].startswith("one") and refused[1] is None, "what the server refused with is not the judge's word"


def test_answers_that_cannot_be_compared(tmp_path: Path) -> None:
    judging = Judging(VerifiableJudge(), JudgeCache(tmp_path / "c.jsonl"))
    with pytest.raises(WinRateError, match="'a' and 'b' answered no common prompt"):
        compare_policies("g", judging, "x", CONSTRAINED, {"a": {("q0", 0): "x"}, "b": {("q1", 0): "y"}}, [("a", "b")])
    with pytest.raises(WinRateError, match="'other', which is not in the prompts"):
        both = {name: {("other", 0): name} for name in "ab"}
        compare_policies("g", judging, "x", CONSTRAINED, both, [("a", "b")])
    path = tmp_path / "g.jsonl"
    path.write_text('{"prompt_id": "q", "text": "a"}\n' * 2)
    with pytest.raises(WinRateError, match=r"g\.jsonl:2: prompt 'q' has sample 0 twice"):
        read_answers(path)


def test_no_key_reaches_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_KEY", "sk-very-secret")
    judge = build("llm", {**LLM, "api_key_env": "MY_KEY", "retries": 0, "timeout_s": 2})
    judging = Judging(judge, JudgeCache(tmp_path / "c.jsonl"))
    rows = compare_policies("llm", judging, "x", CONSTRAINED, {n: {("q0", 0): n} for n in "ab"}, [("a", "b")])
    assert rows[0]["preference"] is None and "connection failed" in rows[0]["reason"]
    write_comparisons(tmp_path, "x", rows, {"llm": judging})
    assert "secret" not in "".join(path.read_text() for path in tmp_path.rglob("*.json*")) + repr(vars(judge))
    monkeypatch.delenv("MY_KEY")
    with pytest.raises(JudgeError, match="environment variable MY_KEY"):
        judging.compare([PROMPT], ["x"], ["y"])


TEXTS = ["short", "a rather longer answer, with more words in it", "x" * 90, "", "middle sized one"]


def by_hand(folder: Path, prompt: str, answer: str, template: bool = True) -> list[float]:
    """The logits of one pair, alone and without padding."""
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForSequenceClassification.from_pretrained(folder, dtype=torch.float32).eval()
    chat = [{"role": "user", "content": prompt}, {"role": "assistant", "content": answer}]
    text = tokenizer.apply_chat_template(chat, tokenize=False) if template else None
    ids = tokenizer(text, add_special_tokens=False)["input_ids"] if text else tokenizer(prompt, answer)["input_ids"]
    with torch.inference_mode():
        states = model.model(torch.tensor([ids])).last_hidden_state[0, -1]
        return [float(value) for value in model.score(states)]


@pytest.mark.parametrize(("template", "eos_pad"), [(True, False), (False, False), (True, True)])
def test_reward_model_scores_the_last_token_whatever_the_batch(
    tmp_path: Path, tiny_model: Path, template: bool, eos_pad: bool
) -> None:
    folder = build_reward_model(tmp_path / "rm", tiny_model, template=template, eos_pad=eos_pad)
    scores = []
    for size in (1, 5):
        judge = build("reward_model", {"model": str(folder), "batch_size": size})
        judging = Judging(judge, JudgeCache(tmp_path / f"{size}.jsonl"))
        scores.append([reply.value for reply in judging.score([PROMPT] * len(TEXTS), TEXTS)])
    expected = [by_hand(folder, PROMPT.prompt, text, template)[0] for text in TEXTS]
    assert scores == [pytest.approx(expected, abs=1e-5)] * 2 and len(set(expected)) == len(TEXTS)


def test_reward_model_prefers_its_higher_score_and_remembers(tmp_path: Path, tiny_model: Path) -> None:
    folder = build_reward_model(tmp_path / "rm", tiny_model)
    cache = JudgeCache(tmp_path / "c.jsonl")
    judging = Judging(build("reward_model", {"model": str(folder)}), cache)
    one, two = (judging.score([PROMPT], [text])[0].value or math.nan for text in TEXTS[:2])
    assert judging.compare([PROMPT], [TEXTS[0]], [TEXTS[1]])[0].preference == float(one > two)
    assert judging.tally.asked == 2
    # The same weights elsewhere are the same judge; other weights are not.
    moved = folder.rename(tmp_path / "moved")
    assert Judging(build("reward_model", {"model": str(moved)}), cache).digest == judging.digest
    (moved / "config.json").write_text((moved / "config.json").read_text() + " ")
    assert Judging(build("reward_model", {"model": str(moved)}), cache).digest != judging.digest


def test_reward_model_scores_do_not_depend_on_the_day(tmp_path: Path, tiny_model: Path) -> None:
    folder = build_reward_model(tmp_path / "rm", tiny_model)
    scores, identities = [], []
    for day in ("strftime_now('%d %b %Y, %f')", "'26 Jul 2024, 000000'"):
        template = f"{{{{ {day} }}}}{{% for m in messages %}}{{{{ m['content'] }}}}<|im_end|>{{% endfor %}}"
        (folder / "chat_template.jinja").write_text(template)
        judging = Judging(build("reward_model", {"model": str(folder)}), JudgeCache(tmp_path / f"{len(scores)}.jsonl"))
        scores.append(judging.score([PROMPT], ["short"])[0].value)
        identities.append(judging.judge.identity())
    assert scores[0] == scores[1]
    assert identities[0]["template_date"] == "2024-07-26" and "template_date" not in identities[1]


def test_reward_model_with_several_classes(tmp_path: Path, tiny_model: Path) -> None:
    folder = build_reward_model(tmp_path / "rm", tiny_model, classes=3)
    judging = Judging(
        build("reward_model", {"model": str(folder), "label": "LABEL_2"}), JudgeCache(tmp_path / "c.jsonl")
    )
    logits = by_hand(folder, PROMPT.prompt, "short")
    expected = math.exp(logits[2]) / sum(math.exp(x) for x in logits)
    assert judging.score([PROMPT], ["short"])[0].value == pytest.approx(expected, abs=1e-6)
    with pytest.raises(JudgeError, match="has the classes LABEL_0, LABEL_1, LABEL_2: name one"):
        Judging(build("reward_model", {"model": str(folder)}), JudgeCache(tmp_path / "d.jsonl")).score([PROMPT], ["x"])


def test_reward_model_cuts_nothing_and_refuses_a_model_without_head(tmp_path: Path, tiny_model: Path) -> None:
    folder = build_reward_model(tmp_path / "rm", tiny_model)
    judge = build("reward_model", {"model": str(folder), "max_length": 60})
    judging = Judging(judge, JudgeCache(tmp_path / "c.jsonl"))
    short, long = judging.score([PROMPT] * 2, ["hi", "x" * 90])
    assert short.value is not None and long.value is None
    assert dict(judging.tally.unparsed) == {"prompt and answer are longer than max_length": 1}
    headless = build("reward_model", {"model": str(tiny_model)})
    with pytest.raises(JudgeError, match=r"no weights for score\.weight; it is not a reward model"):
        Judging(headless, JudgeCache(tmp_path / "d.jsonl")).score([PROMPT], ["x"])
    (tmp_path / "empty").mkdir()
    with pytest.raises(JudgeError, match="holds no checkpoint files"):
        Judging(build("reward_model", {"model": str(tmp_path / "empty")}), judging.cache)

"""Judges of the matrix file: what is refused, what they write, what a kill leaves, and what the report says of them."""

import importlib.util
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import psutil
import pytest

import reports
from harness.plan.references import model_hash
from harness.stages.judge import judge_policies, pairs_of
from harness.stages.report import _state, build
from harness.stages.run import wait_for_orphan
from tests.evals.benchmarks.scored import entry, score
from tests.evals.judge_server import Said, Server, chat_server
from tests.evals.reward_model import build_reward_model
from tests.harness.conftest import write_jsonl
from tests.harness.small_matrix import write_matrix
from trainers.common import scores_schema
from trainers.tiny import build_tiny_model

ROOT = Path(__file__).resolve().parents[3]
SCHEMA = json.loads((Path(reports.__file__).parent / "summary.schema.json").read_text(encoding="utf-8"))
PROMPTS = [
    {"id": f"b{i}", "prompt": f"Say it briefly, number {i}.", "constraints": [{"kind": "no_commas", "args": {}}]}
    for i in range(12)
]
OWN = """\
from evals.judges.base import Judge
from evals.judges.cache import Reply


class Length(Judge):
    def __init__(self, sign: int = 1) -> None:
        self.sign = sign

    def identity(self):
        return {"kind": "length", "sign": self.sign}

    def ask(self, requests, spent):
        for i, request in enumerate(requests):
            yield i, Reply(float(self.sign * len(request.answers[0])))
"""
VERIFIABLE = "{name: gold, kind: verifiable}"


def add(world: Any, *judges: str) -> int:
    """Add judges, one flow mapping each; returns the line of the first."""
    write_jsonl(world.prompts, PROMPTS)
    if not (world.root / "own.py").exists():
        (world.root / "own.py").write_text(OWN, encoding="utf-8")
    text = "  judges:\n" + "".join(f"    - {judge}\n" for judge in judges)
    return int(world.replace("report:\n", text + "report:\n")) + 1


def llm(url: str, more: str = "") -> str:
    return f"{{name: llm, kind: llm, model: m, base_url: '{url}', backoff_s: 0.01, retries: 0, timeout_s: 5{more}}}"


def text_of(policy: str, prompt: str) -> str:
    """Some answers of every policy hold a comma, and policies differ."""
    number = int(prompt.removeprefix("b"))
    if policy == scores_schema.REFERENCE:
        return f"a, b {number}"
    return f"{policy.split('-')[0]}{',' if number % 3 == 0 else ''} {policy[-4:]} {number}"


def evaluated(world: Any, answer: Callable[[str, str], str] = text_of) -> Any:
    """The plan, with answers and scores of all policies on disk as the evaluation leaves them."""
    plan, _ = world.begun()
    for policy in plan.policies(plan.specs):
        for benchmark in plan.benchmarks:
            answers(policy, benchmark, lambda prompt, run_id=policy.run_id: answer(run_id, prompt))
    return plan


def answers(policy: Any, benchmark: Any, text: Callable[[str], str]) -> None:
    """What the evaluation of a policy on a benchmark leaves, its answer to each prompt by `text`."""
    out = Path(policy.out)
    rows = [{"prompt_id": p["id"], "sample": 0, "prompt": p["prompt"], "text": text(str(p["id"]))} for p in PROMPTS]
    path = scores_schema.generations_path(out, benchmark.name)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_jsonl(path, rows)
    cell = scores_schema.cell_fingerprint(policy.fingerprint, benchmark.fingerprint)
    content = score(out, PROMPTS, policy.run_id, cell, benchmark.name)
    scores_schema.write_json(scores_schema.scores_path(out, benchmark.name), content)


def judged(world: Any) -> Any:
    """The plan, its policies evaluated and judged."""
    plan = evaluated(world)
    assert judge(plan) == []
    return plan


def judge(plan: Any) -> list[str]:
    from harness.progress import Progress

    with Progress() as progress:
        return judge_policies(plan, progress)


def record(plan: Any, cell: str) -> dict[str, Any]:
    return dict(json.loads((plan.output / "comparisons" / f"{cell}.json").read_text(encoding="utf-8")))


def rows(plan: Any, cell: str) -> list[dict[str, Any]]:
    lines = (plan.output / "comparisons" / f"{cell}.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


def summary_of(plan: Any) -> dict[str, Any]:
    from harness.state.store import RunStore
    from reports.runs.records import load_matrix
    from reports.summary import build_summary

    for spec in plan.specs:
        RunStore(plan.run_dir(spec)).mark_stage("evaluate", "f", [], 1.0, last=True)
    matrix = load_matrix(plan.output, [spec.run_id for spec in plan.specs], plan.config.model_dump())
    summary = build_summary(matrix).plain()
    jsonschema.Draft202012Validator(SCHEMA).validate(summary)
    return summary


@pytest.mark.parametrize(
    ("judges", "words"),
    [
        (["{name: a, kind: verifable}"], ["judges[0].kind is 'verifable'", "did you mean 'verifiable'?"]),
        (["{name: a}"], ["judges[0].kind is missing"]),
        ([VERIFIABLE, VERIFIABLE], ["judges[1].name", "duplicate judge name 'gold'"]),
        (["{name: 'a b', kind: verifiable}"], ["judges[0].name is 'a b'"]),
        (["{name: a, kind: verifiable, benchmark: [x]}"], ["unknown key", "judges[0].benchmark", "'benchmarks'?"]),
        (["{name: a, kind: verifiable, reward: sentimet}"], ["judges[0].reward", "did you mean 'sentiment'"]),
        (["{name: a, kind: verifiable, benchmarks: []}"], ["judges[0].benchmarks"]),
        (["{name: a, kind: verifiable, benchmarks: [constrain]}"], ["benchmarks[0] is 'constrain'", "'constraints'?"]),
        (["{name: a, kind: verifiable, pairs: some}"], ["judges[0].pairs", "'some'"]),
        (["{name: a, kind: llm, base_url: 'http://h/v1'}"], ["judges[0].kind", "needs the parameter 'model'"]),
        ([llm("localhost:8000")], ["judges[0].base_url", "http://localhost:8000/v1"]),
        ([llm("http://h/v1", ", template: pairwse")], ["judges[0].template", "did you mean 'pairwise'?"]),
        ([llm("http://h/v1", ", template: mine.yaml")], ["judges[0].template is 'mine.yaml'", "no such file"]),
        ([llm("http://h/v1", ", max_requests: 0")], ["judges[0].max_requests", "above 0"]),
        ([llm("http://h/v1", ", concurency: 2")], ["unknown key", "(value 2)", "did you mean 'concurrency'?"]),
        (["{name: rm, kind: reward_model, model: ./none}"], ["judges[0].model is './none'", "no such folder"]),
        (["{name: rm, kind: reward_model, model: data}"], ["judges[0].model is 'data'", "no config.json"]),
        (["{name: a, kind: 'own.py:Nope'}"], ["judges[0].kind", "no class 'Nope'"]),
        (["{name: a, kind: 'none.py:Length'}"], ["judges[0].kind", "no such file"]),
        (["{name: a, kind: 'own.py:Length', sing: 1}"], ["unknown key", "did you mean 'sign'?"]),
        (["{name: a, kind: 'broken.py:Length'}"], ["judges[0].kind", "broken.py does not import", "no luck"]),
    ],
)
def test_mistakes_in_judges(world: Any, judges: list[str], words: list[str]) -> None:
    (world.root / "broken.py").write_text("raise RuntimeError('no luck')\n", encoding="utf-8")
    (world.root / "data").mkdir()
    line = add(world, *judges)
    world.refuses(*words, at=f"{world.config}:{line + len(judges) - 1}:")


def test_no_secret_is_repeated(world: Any) -> None:
    add(world, llm("http://h/v1", ", api_key: sk-very-secret"))
    for words in ("did you mean 'api_key_env'?", "api_key_env is not the name of an environment variable"):
        message = world.error()
        assert words in message and "sk-very" not in message
        world.write(world.text.replace("api_key: ", "api_key_env: "))


def test_a_key_that_is_not_set_is_told_before_training(world: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("JUDGE_KEY_OF_TEST", raising=False)
    add(world, llm("http://h/v1", ", api_key_env: JUDGE_KEY_OF_TEST"))
    world.plan()
    assert any("'JUDGE_KEY_OF_TEST', which is not set" in line for line in world.said)


def test_a_judge_takes_the_benchmarks_that_suit_it(world: Any) -> None:
    world.replace(
        "      prompts: prompts.jsonl\n",
        "      prompts: prompts.jsonl\n    - {name: chat, kind: prompts, prompts: chat.jsonl}\n"
        "    - {name: kl, kind: kl, prompts: prompts.jsonl}\n",
    )
    (world.root / "chat.jsonl").write_text('{"instruction": "Say hello."}\n', encoding="utf-8")
    add(world, VERIFIABLE, "{name: own, kind: 'own.py:Length'}")
    gold, own = world.plan().judges
    assert list(gold.answers) == ["constraints"] and list(own.answers) == ["constraints", "chat"]
    world.replace("kind: verifiable}", "kind: verifiable, benchmarks: [kl]}")
    assert "'kl', which has no answers to judge; with answers: constraints, chat" in world.error()
    world.replace("benchmarks: [kl]", "benchmarks: [chat]")
    assert "whose rows have no 'constraints', which this judge reads" in world.error()


def test_claims_and_the_primary_metric_may_be_a_judges(world: Any) -> None:
    add(world, VERIFIABLE)
    world.replace("primary: constraints/gold_reward", "primary: constraints@gold/win_rate")
    claim = "\nclaims:\n  - {name: c, method: foodpo, against: fixed, metric: constraints@gold/score}\n"
    world.write(world.text + claim)
    assert len(world.plan().specs) == 4
    world.replace("metric: constraints@gold/score", "metric: constraints@gold/scores")
    assert "did you mean 'score'?" in world.error()
    world.replace("metric: constraints@gold/scores", "metric: constraints@gld/score")
    assert "did you mean 'constraints@gold'?" in world.error()


def test_verifiable_and_outside_judges_write_comparisons_and_scores(world: Any) -> None:
    add(world, VERIFIABLE, "{name: own, kind: 'own.py:Length', sign: -1, pairs: reference}")
    plan = judged(world)
    policies, per_prompt = len(plan.specs), len(PROMPTS)
    same_seed = 2  # fixed against foodpo, for each of two seeds
    assert len(rows(plan, "constraints@gold")) == (policies + same_seed) * per_prompt
    assert len(rows(plan, "constraints@own")) == policies * per_prompt
    gold = record(plan, "constraints@gold")
    assert gold["state"] == "done" and gold["error"] is None and gold["left_out"] == {}
    assert "code" in record(plan, "constraints@own")["judges"]["own"]["identity"]

    run = plan.run_dir(plan.specs[0])
    scores = scores_schema.read_scores(run, "constraints@gold")
    assert scores is not None and scores["primary_metric"] == "win_rate"
    # The verifiable judge's score is the gold reward of the benchmark itself, prompt by prompt.
    own = scores_schema.read_scores(run, "constraints")
    assert own is not None
    rewards = {item["id"]: item["values"]["gold_reward"] for item in own["items"]}
    assert {item["id"]: item["values"]["score"] for item in scores["items"]} == rewards
    # The reference's answers all hold a comma, so an answer without one wins and another ties.
    assert {item["id"]: item["values"]["win_rate"] for item in scores["items"]} == {
        prompt: 1.0 if reward == 1 else 0.5 for prompt, reward in rewards.items()
    }
    reference = scores_schema.read_scores(plan.reference_dir, "constraints@gold")
    assert reference is not None and reference["metrics"]["win_rate"]["value"] == 0.5


def test_finished_comparisons_are_skipped_until_something_they_rest_on_changes(world: Any) -> None:
    add(world, VERIFIABLE, "{name: own, kind: 'own.py:Length'}")
    plan = judged(world)
    files = {path: path.stat().st_mtime_ns for path in sorted((plan.output / "comparisons").iterdir())}
    assert len(files) == 4
    assert judge(world.plan()) == []
    assert {path: path.stat().st_mtime_ns for path in files} == files

    (world.root / "own.py").write_text(OWN.replace("len(request", "2.0 * len(request"), encoding="utf-8")
    assert judge(world.plan()) == []
    changed = {path.name for path, before in files.items() if path.stat().st_mtime_ns != before}
    assert changed == {"constraints@own.json", "constraints@own.jsonl"}
    assert record(plan, "constraints@own")["judges"]["own"]["tally"]["asked"] > 0  # other code is another judge

    evaluated(world, lambda policy, prompt: text_of(policy, prompt) + (" new" if policy.startswith("fixed") else ""))
    assert judge(world.plan()) == []
    tally = record(plan, "constraints@own")["judges"]["own"]["tally"]
    fixed = sum(spec.method == "fixed" for spec in plan.specs)
    assert tally["asked"] == fixed * len(PROMPTS)
    assert tally["cached"] == (len(plan.specs) + 1 - fixed) * len(PROMPTS)


def test_a_judge_that_is_down_fails_alone_and_is_asked_again(world: Any) -> None:
    up = threading.Event()

    def answer(content: str, before: int) -> Said:
        return Said("[[A]]") if up.is_set() else Said(status=503)

    with chat_server(answer) as server:
        add(world, VERIFIABLE, llm(server.url))
        plan = evaluated(world)
        assert judge(plan) == ["constraints@llm"]
        down = record(plan, "constraints@llm")
        assert down["error"]["class"] == "UnansweredError" and "HTTP 503" in down["error"]["message"]
        run = plan.run_dir(plan.specs[0])
        assert scores_schema.read_scores(run, "constraints@llm") is None and scores_schema.read_scores(
            run, "constraints@gold"
        )
        entry = summary_of(plan)["judges"][0]
        states = {one["name"]: one["state"] for one in entry["judges"]}
        assert states == {"gold": "done", "llm": "failed"}

        up.set()
        assert judge(plan) == []
        scores = scores_schema.read_scores(run, "constraints@llm")
        assert scores is not None and scores["metrics"]["win_rate"]["value"] == 0.5  # A in both orders is no preference
        assert "score" not in scores["metrics"]


def test_a_budget_that_is_used_up_is_named_and_never_exceeded(world: Any) -> None:
    with chat_server(lambda content, before: Said("[[A]]")) as server:
        add(world, llm(server.url, ", max_requests: 5, pairs: reference"))
        plan = evaluated(world)
        assert [judge(plan), judge(plan)] == [["constraints@llm"]] * 2 and len(server.asked) == 5
        assert "request budget spent" in record(plan, "constraints@llm")["error"]["message"]
        world.replace("max_requests: 5", "max_requests: 500")
        assert judge(world.plan()) == []
        assert max(Counter(server.asked).values()) == 1


def test_what_a_well_judge_refuses_does_not_fail_it(world: Any) -> None:
    def answer(content: str, before: int) -> Said:
        return Said(status=400, body=b"too long") if "number 3" in content else Said("[[A]]")

    with chat_server(answer) as server:
        add(world, llm(server.url, ", pairs: reference"))
        plan = judged(world)
    scores = scores_schema.read_scores(plan.run_dir(plan.specs[0]), "constraints@llm")
    assert scores is not None and scores["metrics"]["win_rate"]["n"] == len(PROMPTS) - 1
    assert next(item for item in scores["items"] if item["id"] == "b3")["values"]["win_rate"] is None


def test_an_outside_judge_that_breaks_is_recorded(world: Any) -> None:
    broken = OWN.replace("yield i, Reply(float(self.sign * len(request.answers[0])))", "raise OSError('disk of straw')")
    dies = OWN.replace("class Length", "import os\n\n\nclass Dies").replace(
        "for i, request", "os._exit(7)\n        for i, request"
    )
    (world.root / "own.py").write_text(broken, encoding="utf-8")
    (world.root / "dies.py").write_text(dies, encoding="utf-8")
    add(world, "{name: own, kind: 'own.py:Length'}", "{name: dies, kind: 'dies.py:Dies'}", VERIFIABLE)
    plan = evaluated(world)
    assert judge(plan) == ["constraints@own", "constraints@dies"]
    assert record(plan, "constraints@own")["error"] == {"class": "OSError", "message": "disk of straw"}
    assert record(plan, "constraints@dies")["error"]["class"] == "JudgeCrashed"
    assert "exit code 7" in record(plan, "constraints@dies")["error"]["message"]
    assert record(plan, "constraints@gold")["state"] == "done"


def test_a_policy_without_some_answers_is_left_out_and_named(world: Any) -> None:
    add(world, VERIFIABLE)
    plan = evaluated(world)
    short, gone = (plan.run_dir(spec) for spec in plan.specs[:2])
    path = scores_schema.generations_path(short, "constraints")
    path.write_text("".join(path.read_text(encoding="utf-8").splitlines(keepends=True)[:-1]), encoding="utf-8")
    scores_schema.generations_path(gone, "constraints").unlink()
    assert judge(plan) == ["constraints@gold"]
    found = record(plan, "constraints@gold")
    assert found["error"]["class"] == "MissingAnswersError" and "2 policies are not judged" in found["error"]["message"]
    assert "1 answers are missing, the first to prompt 'b11'" in found["left_out"][short.name]
    assert "no such file" in found["left_out"][gone.name]
    assert scores_schema.read_scores(short, "constraints@gold") is None
    assert scores_schema.read_scores(plan.run_dir(plan.specs[2]), "constraints@gold") is not None
    summary_of(plan)


def distinct(plan: Any) -> int:
    """Requests of a pairwise judge: both orders of every two different answers to a prompt."""
    asked = {
        (prompt["id"], one, two)
        for prompt in PROMPTS
        for a, b in pairs_of(plan.specs, "all")
        for one, two in [(text_of(a, str(prompt["id"])), text_of(b, str(prompt["id"])))]
        if one != two
    }
    return 2 * len(asked)


def kill_after(server: Server, requests: int, pid: Callable[[], int]) -> None:
    """Kill the process once the server was asked so often."""
    while len(server.asked) < requests:
        time.sleep(0.01)
    os.kill(pid(), signal.SIGKILL)


def worker_of(plan: Any) -> int:
    events = (plan.output / "work" / "judge-llm.events.jsonl").read_text(encoding="utf-8")
    return int(re.findall(r'"pid": (\d+)', events)[-1])


def test_a_killed_judge_loses_no_reply_and_repeats_none(world: Any) -> None:
    flying = 2
    with chat_server(lambda content, before: Said("[[B]]", delay=0.02)) as server:
        add(world, llm(server.url, f", concurrency: {flying}"))
        plan = evaluated(world)
        killer = threading.Thread(target=kill_after, args=(server, 20, lambda: worker_of(plan)), daemon=True)
        killer.start()
        assert judge(plan) == []
        killer.join()
        twice = [n for n in Counter(server.asked).values() if n > 1]
    assert len(Counter(server.asked)) == distinct(plan)
    assert len(twice) <= flying and max([1, *twice]) <= 2  # only what was in flight is asked again
    assert all(row["preference"] is not None for row in rows(plan, "constraints@llm"))


def test_a_killed_matrix_goes_on_where_its_judge_was(world: Any) -> None:
    flying = 2
    code = (
        "import sys; from pathlib import Path; from harness.prepare import make_plan; "
        "from harness.stages.judge import judge_policies; from harness.progress import Progress; "
        "judge_policies(make_plan(Path(sys.argv[1]), Path(sys.argv[2]), print), Progress())"
    )
    with chat_server(lambda content, before: Said("[[B]]", delay=0.05)) as server:
        add(world, llm(server.url, f", concurrency: {flying}"))
        plan = evaluated(world)
        process = subprocess.Popen([sys.executable, "-c", code, str(world.config), str(world.output)], cwd=ROOT)
        kill_after(server, 20, lambda: process.pid)
        assert process.wait() == -signal.SIGKILL
        wait_for_orphan(plan.output / "work")
        assert len(server.asked) < distinct(plan)
        assert judge(plan) == []
        twice = [n for n in Counter(server.asked).values() if n > 1]
    assert len(Counter(server.asked)) == distinct(plan) and len(twice) <= flying


def test_the_report_of_two_judges(world: Any) -> None:
    before = _state(evaluated(world))
    add(world, VERIFIABLE, "{name: own, kind: 'own.py:Length'}")
    plan = judged(world)
    assert _state(plan) != before, "new judgements make the report again"
    summary = summary_of(plan)
    (entry,) = summary["judges"]
    gold = next(one for one in entry["judges"] if one["name"] == "gold")
    by_label = {one["label"]: one for one in gold["against_reference"]}
    assert set(by_label) == {"fixed", "foodpo"}
    # 8 of 12 answers have no comma and win, four tie; the seeds are pooled.
    fixed = by_label["fixed"]["win_rate"]
    assert (fixed["wins"], fixed["draws"], fixed["losses"], fixed["value"]) == (16, 8, 0, pytest.approx(5 / 6))
    assert [one["win_rate"]["value"] for one in by_label["fixed"]["policies"]] == [pytest.approx(5 / 6)] * 2
    assert by_label["fixed"]["length_controlled"]["value"] is not None  # difficulty from 4 policies
    assert {(one["first"], one["second"]) for one in gold["pairs"]} >= {("fixed", "foodpo")}
    assert gold["bradley_terry"]["ranking"][-1] == "reference" and gold["position"] is None
    (agreement,) = entry["agreement"]
    assert agreement["judges"] == ["gold", "own"] and agreement["n"] == gold["comparisons"]
    metrics = {(m["benchmark"], m["metric"]): m for m in summary["metrics"]}
    against = {c["against"] for c in metrics["constraints@gold", "score"]["comparisons"] if c["label"] == "foodpo"}
    assert against == {"fixed", "reference"}

    build(plan.output, [spec.run_id for spec in plan.specs], plan.config.model_dump())
    page, plain = ((plan.output / f"report.{end}").read_text(encoding="utf-8") for end in ("html", "md"))
    assert "constraints, judged by gold" in page and "constraints, judged by own" in page
    assert "## Judges" in plain and "0.833" in plain.split("## Judges")[1]
    table = (plan.output / "tables" / "judges.csv").read_text(encoding="utf-8").splitlines()
    assert len(table) == 1 + 4 and table[0].startswith("benchmark,judge,label,win_rate")
    assert (plan.output / "figures" / "judges.svg").is_file()


MATRIX = """
name: judged
model: {name_or_path: "MODEL"}
data: {train: pairs.jsonl}
training: {max_steps: 2, learning_rate: 1.0e-2, max_length: 128, bf16: false, gradient_checkpointing: false}
methods: [{name: fixed}, {name: foodpo}]
evaluation:
  engine: {backend: transformers, dtype: float32, max_model_len: 256}
  benchmarks: [{name: constraints, prompts: prompts.jsonl, max_new_tokens: 12, temperature: 1.0}]
  judges:
    - {name: gold, kind: verifiable}
    - {name: rm, kind: reward_model, model: rm, batch_size: 4}
    - {name: llm, kind: llm, model: m, base_url: "URL", retries: 0, backoff_s: 0.01}
report: {baseline: fixed, primary: constraints@rm/score}
claims: [{name: rewarded, method: foodpo, against: fixed, metric: constraints@rm/win_rate}]
"""


@pytest.mark.timeout(600)
def test_run_matrix_with_three_judges(tiny_model: Path, tmp_path: Path, cli: Callable[..., Any]) -> None:
    build_reward_model(tmp_path / "rm", tiny_model)
    output = tmp_path / "out"
    command = ["run-matrix", tmp_path / "matrix.yaml", "--output", output]
    up = threading.Event()
    with chat_server(lambda content, before: Said("[[A]]") if up.is_set() else Said(status=500)) as server:
        write_matrix(tmp_path, MATRIX.replace("URL", server.url), tiny_model, prompts=PROMPTS)
        first = cli(*command)
        assert first.returncode == 1, first.stderr
        assert "failed: judge constraints@llm: UnansweredError" in first.stderr and "Traceback" not in first.stderr
        assert "judged constraints@rm: " in first.stderr
        summary = json.loads((output / "summary.json").read_text(encoding="utf-8"))
        assert {one["name"]: one["state"] for one in summary["judges"][0]["judges"]} == {
            "gold": "done", "llm": "failed", "rm": "done",
        }  # fmt: skip
        assert summary["primary"]["value"] == "constraints@rm/score"
        assert summary["counts"]["done"] == 2 and "UnansweredError" in (output / "report.html").read_text()

        up.set()
        second = cli(*command)
        assert second.returncode == 0, second.stderr
        assert "judged constraints@llm" in second.stderr and "judged constraints@rm" not in second.stderr
    summary = json.loads((output / "summary.json").read_text(encoding="utf-8"))
    jsonschema.Draft202012Validator(SCHEMA).validate(summary)
    metrics = {(m["benchmark"], m["metric"]): m for m in summary["metrics"]}
    for cell in ("constraints@gold", "constraints@rm", "constraints@llm"):
        (comparison,) = (c for c in metrics[cell, "win_rate"]["comparisons"] if c["against"] == "fixed")
        assert comparison["label"] == "foodpo" and comparison["n"] == len(PROMPTS)
    (claim,) = summary["claims"]["judged"]
    assert claim["claim"]["metric"] == "constraints@rm/win_rate" and claim["comparisons"]
    third = cli(*command)
    assert third.returncode == 0 and "nothing to do" in third.stderr, third.stderr


def test_a_later_turn_is_judged_with_what_led_to_it(tmp_path: Path) -> None:
    from evals.judges.comparisons import read_answers
    from evals.judges.worker import questions_of

    (tmp_path / "turns.jsonl").write_text(json.dumps({"question_id": 1, "turns": ["Say one.", "And two?"]}) + "\n")
    asked = questions_of(entry("turns", "prompts", prompts=tmp_path / "turns.jsonl"))
    assert {key: question.prompt for key, question in asked.items()} == {"1": "Say one.", "1#turn2": "Say one."}
    before = [{"role": "user", "content": "Say one."}, {"role": "assistant", "content": "One."}]
    first = {"prompt_id": "1", "sample": 0, "prompt": "Say one.", "text": "One."}
    second = {"prompt_id": "1#turn2", "sample": 0, "prompt": "And two?", "text": "Two.", "messages": before}
    found = read_answers(write_jsonl(tmp_path / "answers.jsonl", [first, second]))
    assert found["1", 0] == "One."
    assert found["1#turn2", 0] == "[assistant]\nOne.\n\n[user]\nAnd two?\n\n[assistant]\nTwo."


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("vllm") is None, reason="vLLM is not installed")
def test_a_judge_that_serves_its_own_model(world: Any) -> None:
    build_tiny_model(world.root / "judge", hidden_size=128)  # heads of 32, which vLLM serves
    served = "serve: ./judge, serve_options: {max_model_len: 1024, dtype: float32}"
    add(world, f"{{name: local, kind: llm, {served}, template: pairwise_logprobs, pairs: reference}}")
    plan = judged(world)
    told = record(plan, "constraints@local")
    tally = told["judges"]["local"]["tally"]
    assert told["state"] == "done" and tally["asked"] == 96 and not tally["unanswered"]
    name = told["judges"]["local"]["identity"]["settings"]["model"]
    assert name == f"judge-{model_hash(world.root / 'judge')[:12]}"
    found = [" ".join(p.info["cmdline"] or ()) for p in psutil.process_iter(["cmdline"])]
    assert not [words for words in found if f"--served-model-name {name}" in words], "the server ends with the judge"

"""What differs as text must differ as tokens; what a chat template refuses or writes elsewhere is found by the plan."""

from pathlib import Path
from typing import Any

import pytest

from harness.prepare import make_plan
from tests.harness.conftest import World, write_jsonl
from trainers.common.errors import UserError

TURN = "<|im_start|>{{ m['role'] }}\n{{ TEXT }}<|im_end|>\n"
LOOP = "{% for m in messages %}" + TURN + "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
PLAIN = LOOP.replace("TEXT", "m['content']")
STRIPPED = LOOP.replace("TEXT", "m['content'].split('</think>')[-1] | trim")
NO_SYSTEM = "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system here') }}{% endif %}" + PLAIN


def row(chosen: str, rejected: str = "no", prompt: Any = "which?") -> dict[str, Any]:
    return {"prompt": prompt, "chosen": chosen, "rejected": rejected}


GOOD = [row("yes"), row("well"), row("fine"), row("good")]
SYSTEM = [{"role": "system", "content": "s"}, {"role": "user", "content": "u"}]


def planned(world: World, template: str, rows: list[dict[str, Any]], *overrides: str) -> tuple[Any, list[str]]:
    write_jsonl(world.pairs, rows)
    (world.root / "t.jinja").write_text(template, encoding="utf-8")
    said: list[str] = []
    return make_plan(world.config, world.output, said.append, ["model.chat_template=t.jinja", *overrides]), said


@pytest.mark.parametrize(
    ("template", "bad", "words"),
    [
        (STRIPPED, row("<think>a</think>it", "<think>b</think>it"), "the two answers are the same"),
        (STRIPPED, row("it", "it "), "the two answers are the same"),
        (STRIPPED, row("<think>a</think>", "no"), "leaves nothing of 'chosen'"),
        (PLAIN, row("x" * 300 + "a", "x" * 300 + "b"), "the same tokens where they are cut"),
        (PLAIN, row("yes", "no", "long " * 60), "the prompt has"),
    ],
)
def test_pairs_that_tokens_do_not_tell_apart(world: World, template: str, bad: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError) as caught:
        planned(world, template, [*GOOD, bad], "training.max_length=256")
    assert f"{world.pairs}:5: " in str(caught.value) and words in str(caught.value)
    assert "1 of 5 rows are such, data.without_preference: drop" in str(caught.value)
    plan, said = planned(world, template, [*GOOD, bad], "training.max_length=256", "data.without_preference=drop")
    assert len(plan.pairs) == 4 and any(line.startswith("dropped 1 rows ") and ":5: " in line for line in said)


def test_the_end_is_kept_of_long_answers(world: World) -> None:
    world.replace("  - name: foodpo\n    pref_beta_scale: 0.5\n", "")  # rules that read the prompt refuse keep_end
    cut = ("training.max_length=256", "training.truncation_mode=keep_end")
    with pytest.raises(UserError, match=r":1: an answer has 3\d\d tokens and training.max_length is 256; raise"):
        planned(world, PLAIN, [row("x" * 300)], *cut)
    assert len(planned(world, PLAIN, [row("yes", "no", "long " * 60)], *cut)[0].pairs) == 1


@pytest.mark.parametrize("texts", [("yes<|im_end|>", "special"), ("<s>[INST] yes [/INST]", "markup")])
def test_texts_that_are_templated_already_are_counted(world: World, texts: tuple[str, str]) -> None:
    plan, said = planned(world, PLAIN, [*GOOD, row(texts[0])])
    assert len(plan.pairs) == 5
    assert any(
        line.startswith("1 of 5 rows with ") and texts[1] in line and ":5: 'chosen' holds" in line for line in said
    )
    dropped, _ = planned(world, PLAIN, [*GOOD, row(texts[0])], "data.without_preference=drop")
    assert len(dropped.pairs) == (4 if texts[1] == "special" else 5)


def test_conversations_that_a_template_refuses(world: World) -> None:
    with pytest.raises(
        UserError, match=r"pairs.jsonl:5: the chat template of .* refuses .*no system here.*1 of 5: put"
    ):
        planned(world, NO_SYSTEM, [*GOOD, row("a", "b", SYSTEM)], "data.without_preference=drop")
    held = [{"id": "h", **row("a", "b", SYSTEM)}]
    write_jsonl(world.root / "held.jsonl", held)
    benchmark = "evaluation.benchmarks=[{name: held, kind: preference, prompts: held.jsonl}]"
    with pytest.raises(UserError, match=r"benchmark held: .*no system here"):
        planned(world, NO_SYSTEM, GOOD, benchmark, "report={}")


def test_a_generation_prompt_that_answers_do_not_begin_with(world: World) -> None:
    _, said = planned(world, PLAIN.replace("assistant\n{% endif", "assistant\n<think>\n{% endif"), GOOD)
    (line,) = (line for line in said if "evaluation asks for answers after" in line)
    assert r"after '<think>\n'" in line and "training has 'yes" in line and "4 of 4 pairs" in line


def test_inspect_data_says_what_a_user_needs_to_see_first(cli: Any, tmp_path: Path, tiny_model: Path) -> None:
    path = tmp_path / "pairs.jsonl"
    write_jsonl(path, [{**row("a<|im_end|>"), "question": "x"}, row("same", "same"), row("b", "b ", SYSTEM)])
    done = cli("inspect-data", path, "--model", tiny_model)
    head = " ".join("\n".join(done.stdout.splitlines()[:16]).split())
    told = ("3 rows, 2 pairs", "1 with identical answers", "not read: question", "1 pairs with special tokens")
    assert all(words in head for words in (*told, "chat markup")), head

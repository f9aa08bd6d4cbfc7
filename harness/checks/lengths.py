"""Checks that training pairs fit `max_length`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from trainers.common import UserError
from trainers.formats.pairs import PreferencePair


def fitting(
    pairs: list[PreferencePair],
    file: Path,
    model_dir: Path,
    max_length: int | None,
    drop: bool,
    log: Callable[[str], None],
) -> list[PreferencePair]:
    """The pairs whose prompts leave room for an answer; a row without one has no preference.

    Args:
        drop: leave the others out and say how many (`data.without_preference: drop`).

    Raises:
        UserError: without `drop` the first that leaves none, with file, line, its length and the limit; with it, if all do.
    """
    if max_length is None or sum(len(turn["content"]) for pair in pairs for turn in pair.prompt) == 0:
        return pairs
    # a token has at least one byte, so short prompts need no tokenizer (64 tokens are left for a chat template)
    suspects = [pair for pair in pairs if sum(len(t["content"].encode()) + 8 for t in pair.prompt) + 64 >= max_length]
    suspects = _still_long(suspects, model_dir / "tokenizer.json", max_length)
    if not suspects:
        return pairs
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(model_dir)
    too_long: list[tuple[PreferencePair, str]] = []
    for pair in suspects:
        if tokenizer.chat_template:
            text = tokenizer.apply_chat_template(pair.prompt, add_generation_prompt=True, tokenize=False)
        else:
            text = "".join(turn["content"] for turn in pair.prompt)
        length = len(tokenizer(text, add_special_tokens=False)["input_ids"])
        if length >= max_length:
            what = f"{pair.source or file}:{pair.line}: the prompt has {length} tokens and training.max_length is {max_length}"
            if not drop:
                raise UserError(
                    f"{what}, which leaves no room for an answer; raise max_length or remove the row "
                    "(all such rows: data.without_preference: drop)"
                )
            too_long.append((pair, what))
    if not too_long:
        return pairs
    if len(too_long) == len(pairs):
        raise UserError(f"{too_long[0][1]}, and no row leaves room for an answer; raise max_length")
    log(f"dropped {len(too_long)} rows whose prompts leave no room for an answer; the first: {too_long[0][1]}")
    out = {id(pair) for pair, _ in too_long}
    return [pair for pair in pairs if id(pair) not in out]


def _still_long(pairs: list[PreferencePair], tokenizer_file: Path, max_length: int) -> list[PreferencePair]:
    """Those whose prompts may be too long going by their tokens, with the same room for a chat template.

    The tokenizers library alone is imported in a moment; transformers, which knows chat templates, takes seconds.
    """
    if not pairs or not tokenizer_file.is_file():
        return pairs
    from tokenizers import Tokenizer

    try:
        tokenizer = Tokenizer.from_file(str(tokenizer_file))
    except (
        Exception
    ):  # the library raises this bare class; what is wrong with the file shows when transformers reads it
        return pairs
    tokenizer.no_truncation()
    counts = [
        sum(len(ids.ids) + 8 for ids in tokenizer.encode_batch([t["content"] for t in pair.prompt])) for pair in pairs
    ]
    return [pair for pair, count in zip(pairs, counts, strict=True) if count + 64 >= max_length]

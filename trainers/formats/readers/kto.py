"""Single answers with a label, as KTO (arXiv 2402.01306) takes them, paired within their prompt.

The n-th desirable answer to a prompt is compared with the n-th undesirable one; where one kind has fewer, its answers are
used again in turn, so that every answer is compared and none more often than needed.
"""

import json
from collections.abc import Callable, Iterator, Sequence

from trainers.common import DataError, NoPreferenceError, Row, Turns, after_history, as_turns, optional, required
from trainers.formats.registry import Comparison, Format, Outcome, Reader, Values, one_answer_only

_LABELS = {"true": True, "1": True, "1.0": True, "false": False, "0": False, "0.0": False}
Answered = tuple[Turns, Turns]


def label_of(row: Values, where: str, key: str = "label") -> bool:
    """True for a desirable answer.

    Raises:
        DataError: not true or false (or 1, 0, or these as text, as in CSV).
    """
    required(row, where, [key], "an answer without a label is neither desirable nor undesirable")
    value = row[key]
    known = _LABELS.get(str(value).strip().lower()) if isinstance(value, bool | int | float | str) else None
    if known is None:
        raise DataError(f"{where}: '{key}' is {value!r}; it must be true (desirable) or false")
    return known


def paired(answered: Callable[[Values, str], Answered], label: str) -> Reader:
    """A reader for labelled answers; `answered` gives a row's prompt and answer."""

    def read(rows: Sequence[Row]) -> Iterator[Outcome]:
        prompts: dict[str, tuple[Turns, dict[bool, list[tuple[Row, Turns]]]]] = {}
        for row in rows:
            try:
                desirable = label_of(row.value, row.where, label)
                prompt, answer = answered(row.value, row.where)
            except DataError as error:
                yield row, error
                continue
            key = json.dumps([prompt, optional(row.value, "group")], ensure_ascii=False)
            prompts.setdefault(key, (prompt, {True: [], False: []}))[1][desirable].append((row, answer))
        for prompt, by_label in prompts.values():
            yield from _pairs(prompt, by_label[True], by_label[False])

    return read


def _pairs(prompt: Turns, good: list[tuple[Row, Turns]], bad: list[tuple[Row, Turns]]) -> Iterator[Outcome]:
    if not good or not bad:
        for row, _ in good or bad:
            kind = "desirable" if good else "undesirable"
            what = f"{row.where}: the prompt has {kind} answers only:"
            fix = one_answer_only("this row") if good else "add a desirable one, or remove the row"
            yield row, NoPreferenceError(f"{what} {fix}", "one_answer")
        return
    for i in range(max(len(good), len(bad))):
        row, chosen = good[i % len(good)]
        other, rejected = bad[i % len(bad)]
        if chosen == rejected:
            yield (
                row,
                DataError(f"{row.where}: this answer is desirable here and undesirable on line {other.line}; keep one"),
            )
            continue
        yield row, Comparison(prompt, chosen, rejected, group=optional(row.value, "group"))


def _answered(row: Values, where: str) -> Answered:
    required(row, where, ("prompt", "completion"), "a labelled answer has prompt, completion and label")
    prompt = after_history(row, where, as_turns(row["prompt"], "user", where, "prompt"))
    return prompt, as_turns(row["completion"], "assistant", where, "completion")


KTO = Format(
    "kto",
    "KTO, labelled single answers",
    "prompt, completion, label",
    lambda row: "completion" in row and "label" in row and "prompt" in row,
    paired(_answered, "label"),
    ("prompt", "completion", "label", "system", "history"),
)

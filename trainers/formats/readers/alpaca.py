"""LLaMA-Factory's alpaca formats: `instruction` and `input` with two answers, or with one answer and a label."""

from dataclasses import dataclass

from trainers.common.turns import DataError, NoPreferenceError, Turns, after_history, optional, required, text_of
from trainers.formats.readers.kto import Answered, paired
from trainers.formats.registry import Comparison, Format, Values, rowwise


@dataclass(frozen=True)
class AlpacaColumns:
    """Which column holds what; None for a column the data set does not have."""

    prompt: str | None = "instruction"
    query: str | None = "input"
    response: str | None = "output"
    system: str | None = "system"
    history: str | None = "history"
    chosen: str = "chosen"
    rejected: str = "rejected"
    kto_tag: str | None = None


def asked(row: Values, where: str, columns: AlpacaColumns) -> Turns:
    """System, history, and the instruction with its input on the next line, as LLaMA-Factory joins them."""
    parts = [row.get(key) for key in (columns.prompt, columns.query) if key is not None]
    if columns.prompt is not None and all(part is None for part in parts):
        raise DataError(f"{where}: missing {columns.prompt}, the column of the prompt (columns: {', '.join(row)})")
    texts = [text_of(part, where, columns.prompt or "prompt") for part in parts if part is not None and part != ""]
    question = [{"role": "user", "content": "\n".join(texts)}]
    return after_history(row, where, question, columns.system, columns.history)


def _answer(row: Values, where: str, key: str) -> Turns:
    required(row, where, [key], f"the row needs an answer there (columns: {', '.join(row)})")
    return [{"role": "assistant", "content": text_of(row[key], where, key)}]


def alpaca(columns: AlpacaColumns) -> Format:
    """The format with these columns: labelled answers where there is a `kto_tag`, else rankings.

    A ranking has two columns of answers, or, as before version 0.8, a list of two in the column of the response.
    """
    used = tuple(filter(None, vars(columns).values()))
    if columns.kto_tag is not None:

        def answered(row: Values, where: str) -> Answered:
            return asked(row, where, columns), _answer(row, where, columns.response or "output")

        return Format(
            "alpaca-kto",
            "LLaMA-Factory alpaca, labelled answers",
            f"{columns.prompt}, {columns.response}, {columns.kto_tag}",
            lambda row: (
                isinstance(row.get(columns.prompt or ""), str) and isinstance(row.get(columns.kto_tag or ""), bool)
            ),
            paired(answered, columns.kto_tag),
            used,
        )

    response = columns.response or "output"

    def parse(row: Values, where: str) -> Comparison:
        ranked, keys = row.get(response), (columns.chosen, columns.rejected)
        if isinstance(ranked, list) and not any(key in row for key in keys):
            if len(ranked) < 2:
                said = f"'{response}' has {len(ranked)} of the two answers of a ranking; remove the row"
                raise NoPreferenceError(f"{where}: {said}", "one_answer")
            if len(ranked) > 2:
                raise DataError(
                    f"{where}: '{response}' has {len(ranked)} answers; a ranking has two, the better one first"
                )
            row = {**row, **dict(zip(keys, ranked, strict=True))}
        chosen, rejected = (_answer(row, where, key) for key in keys)
        return Comparison(asked(row, where, columns), chosen, rejected, optional(row, "id"), optional(row, "group"))

    return Format(
        "alpaca-ranking",
        "LLaMA-Factory alpaca ranking",
        f"{columns.prompt}, {columns.query}, {columns.chosen}, {columns.rejected}",
        lambda row: (
            isinstance(row.get(columns.prompt or ""), str)
            and (
                isinstance(row.get(response), list)
                or all(isinstance(row.get(key), str) for key in (columns.chosen, columns.rejected))
            )
        ),
        rowwise(parse),
        (*used, response),
    )


ALPACA = alpaca(AlpacaColumns())

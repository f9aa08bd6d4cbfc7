"""LLaMA-Factory's sharegpt formats: a conversation with two last messages to choose from, or with a label."""

from dataclasses import dataclass, replace
from typing import Any

from trainers.common.turns import DataError, Turns, after_history, as_turns, messages, optional, required
from trainers.formats.readers.kto import Answered, paired
from trainers.formats.registry import Comparison, Format, Values, rowwise


@dataclass(frozen=True)
class ShareGptColumns:
    """Which column holds what; None for a column the data set does not have."""

    messages: str = "conversations"
    chosen: str = "chosen"
    rejected: str = "rejected"
    system: str | None = "system"
    kto_tag: str | None = None


@dataclass(frozen=True)
class Tags:
    """The keys of a message, and the names of the speakers."""

    role_tag: str = "from"
    content_tag: str = "value"
    user_tag: str = "human"
    assistant_tag: str = "gpt"
    observation_tag: str = "observation"
    function_tag: str = "function_call"
    system_tag: str = "system"

    @property
    def roles(self) -> dict[str, str]:
        """Role of each speaker in chat templates."""
        return {
            self.user_tag: "user",
            self.assistant_tag: "assistant",
            self.observation_tag: "tool",
            self.function_tag: "assistant",
            self.system_tag: "system",
        }


OPENAI = Tags("role", "content", "user", "assistant", "tool", "function_call", "system")


def _turns(value: Any, where: str, key: str, tags: Tags) -> Turns:
    if tags in (Tags(), OPENAI):  # nobody renamed anything: messages as they are usually spelt
        return messages(value, where, key)
    return messages(value, where, key, tags.role_tag, tags.content_tag, tags.roles)


def conversation(row: Values, where: str, columns: ShareGptColumns, tags: Tags) -> Turns:
    """The turns, after the text of the system column where the conversation has no system message of its own."""
    if columns.messages not in row:
        raise DataError(
            f"{where}: missing {columns.messages}, the column of the conversation (columns: {', '.join(row)})"
        )
    turns = _turns(row[columns.messages], where, columns.messages, tags)
    turns = after_history(row, where, turns, columns.system, None)
    spoken = [turn["role"] for turn in turns if turn["role"] != "system"]
    for i, role in enumerate(spoken):
        if (role == "assistant") != (i % 2 == 1):
            raise DataError(
                f"{where}: '{columns.messages}' has two turns of one side in a row (turn {i + 1} is by {role}); "
                "questions and answers must alternate, beginning with a question"
            )
    return turns


def sharegpt(columns: ShareGptColumns, tags: Tags) -> Format:
    """The format with these columns and tags: labelled answers where there is a `kto_tag`, else rankings."""
    used = tuple(filter(None, vars(columns).values()))
    if columns.kto_tag is not None:

        def answered(row: Values, where: str) -> Answered:
            turns = conversation(row, where, columns, tags)
            if turns[-1]["role"] != "assistant" or len(turns) < 2:
                raise DataError(f"{where}: '{columns.messages}' must end with the answer that is labelled")
            return turns[:-1], turns[-1:]

        return Format(
            "sharegpt-kto",
            "LLaMA-Factory sharegpt, labelled answers",
            f"{columns.messages}, {columns.kto_tag}",
            lambda row: columns.messages in row and columns.kto_tag in row,
            paired(answered, columns.kto_tag),
            used,
        )

    def parse(row: Values, where: str) -> Comparison:
        prompt = conversation(row, where, columns, tags)
        if prompt[-1]["role"] not in ("user", "tool"):
            raise DataError(
                f"{where}: '{columns.messages}' ends with a turn of the {prompt[-1]['role']}; it must end with the question"
            )
        answers = []
        for key in (columns.chosen, columns.rejected):
            required(row, where, [key], f"the row needs an answer there (columns: {', '.join(row)})")
            value = [row[key]] if isinstance(row[key], dict) else row[key]
            answers.append(
                as_turns(value, "assistant", where, key) if isinstance(value, str) else _turns(value, where, key, tags)
            )
        return Comparison(prompt, answers[0], answers[1], optional(row, "id"), optional(row, "group"))

    return Format(
        "sharegpt-ranking",
        "LLaMA-Factory sharegpt ranking",
        f"{columns.messages}, {columns.chosen}, {columns.rejected} (messages)",
        lambda row: columns.messages in row and (columns.chosen in row or columns.rejected in row),
        rowwise(parse),
        used,
    )


SHAREGPT = sharegpt(ShareGptColumns(), Tags())
MESSAGES = replace(
    sharegpt(ShareGptColumns("messages"), OPENAI), name="messages-ranking", title="messages with two answers"
)

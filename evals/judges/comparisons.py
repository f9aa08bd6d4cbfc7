"""Which of two policies answers better: judges over pairs of policies, written as one row per comparison.

Rows of `comparisons/<benchmark>.jsonl`:
    benchmark, judge (its name), prompt_id, sample, group (prompts that belong together, or null), first, second (policies),
    preference (for first in [0, 1], a tie 0.5, null without a verdict), forward, backward (the same preference from each
    order of the answers, null for judges that see one answer at a time), reason (why null, or "identical answers"),
    words (what the judge wrote with the answers in this order and in the other one; of a judge that sees one answer at a time,
    on the first and on the second; null where it wrote nothing, cut at WORDS characters), length_first, length_second
    (characters).
`comparisons/<benchmark>.json` says for each judge what it is (identity), what it was asked and what went wrong.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from evals.judges.base import Judging, Question
from trainers.common import Json, read_jsonl, scores_schema, write_jsonl

SCHEMA_VERSION = 1
COMPARISONS = "comparisons"
#: Characters of a judge's reply in a row; the whole reply is in the cache of judgements.
WORDS = 2000

#: One policy's answers by (prompt id, sample).
Answers = Mapping[tuple[str, int], str]


class WinRateError(ValueError):
    """Answers that cannot be compared; the message names the policy and the prompt."""


def read_answers(path: Path) -> dict[tuple[str, int], str]:
    """Answers of a `generations/<benchmark>.jsonl`, by (prompt id, sample). WinRateError for a repeated one."""
    answers: dict[tuple[str, int], str] = {}
    for number, row in read_jsonl(path):
        try:
            key = str(row["prompt_id"]), int(row.get("sample", 0))
            text = transcript(row)
        except KeyError as error:
            raise WinRateError(f"{path}:{number}: the row has no {error}; generate again") from error
        if key in answers:
            raise WinRateError(f"{path}:{number}: prompt {key[0]!r} has sample {key[1]} twice; generate again")
        answers[key] = text
    return answers


def transcript(row: Mapping[str, Any]) -> str:
    """The text of a row of generations; in a later turn everything after the first question, so that it can be judged."""
    said = [*row.get("messages", [])[1:]]
    if not said:
        return str(row["text"])
    turns = [*said, {"role": "user", "content": row["prompt"]}, {"role": "assistant", "content": row["text"]}]
    return "\n\n".join(f"[{turn['role']}]\n{turn['content']}" for turn in turns)


def compare_policies(
    name: str,
    judging: Judging,
    benchmark: str,
    questions: Mapping[str, Question],
    answers: Mapping[str, Answers],
    pairs: Sequence[tuple[str, str]],
    groups: Mapping[str, str] | None = None,
) -> list[Json]:
    """Rows of all comparisons of one judge (see the module); only prompts and samples that both policies answered.

    Args:
        name: of the judge, as the rows will call it.
        questions: by prompt id. answers: by policy. groups: by prompt id.

    Raises:
        WinRateError: a pair without a common prompt, or answers to an unknown prompt.
    """
    keys: list[tuple[str, str, str, int]] = []
    for first, second in pairs:
        shared = sorted(answers[first].keys() & answers[second].keys())
        if not shared:
            raise WinRateError(f"policies {first!r} and {second!r} answered no common prompt")
        keys += [(first, second, prompt_id, sample) for prompt_id, sample in shared]
    unknown = next((key[2] for key in keys if key[2] not in questions), None)
    if unknown is not None:
        raise WinRateError(f"answers to prompt {unknown!r}, which is not in the prompts of {benchmark!r}")
    one = [answers[first][prompt_id, sample] for first, _, prompt_id, sample in keys]
    two = [answers[second][prompt_id, sample] for _, second, prompt_id, sample in keys]
    # One call for all pairs: a scoring judge then scores each answer once, an endpoint is kept busy throughout.
    compared = judging.compare([questions[prompt_id] for _, _, prompt_id, _ in keys], one, two)
    return [
        {
            "benchmark": benchmark,
            "judge": name,
            "prompt_id": prompt_id,
            "sample": sample,
            "group": None if groups is None else groups.get(prompt_id),
            "first": first,
            "second": second,
            "preference": result.preference,
            "forward": result.forward,
            "backward": result.backward,
            "reason": result.reason,
            "words": [_writable(said) for said in result.words],
            "length_first": len(a),
            "length_second": len(b),
        }
        for (first, second, prompt_id, sample), result, a, b in zip(keys, compared, one, two, strict=True)
    ]


def _writable(words: str | None) -> str | None:
    if words is None:
        return None
    if len(words) > WORDS:  # the verdict mostly comes last
        words = f"{words[: WORDS // 2]} [...] {words[-WORDS // 2 :]}"
    return words.encode("utf-8", "replace").decode("utf-8")  # a server may send lone surrogates


def record_path(out: Path, cell: str) -> Path:
    """Where the account of a cell lies; it is written last."""
    return Path(out) / COMPARISONS / f"{cell}.json"


def write_comparisons(
    out: Path,
    benchmark: str,
    rows: Sequence[Mapping[str, Any]],
    judges: Mapping[str, Judging],
    name: str | None = None,
    more: Mapping[str, Any] | None = None,
) -> Path:
    """Write rows, then the account of the judges, under `out`; returns the path of the rows.

    Args:
        name: of the two files; None for the benchmark's. more: further keys of the account.
    """
    account = {
        name: {"identity": judging.identity, "digest": judging.digest, "tally": judging.tally.as_dict()}
        for name, judging in judges.items()
    }
    record = {"schema_version": SCHEMA_VERSION, "benchmark": benchmark, "rows": len(rows), "judges": account}
    path = record_path(out, name or benchmark)
    if rows or judges:
        write_jsonl(path.with_suffix(".jsonl"), rows)
    scores_schema.write_json(path, record | {**(more or {})})
    return path.with_suffix(".jsonl")

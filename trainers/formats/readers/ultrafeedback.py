"""UltraFeedback (arXiv 2310.01377): an instruction with several scored completions, or the pairs made from them.

Of scored completions the best is compared with the worst; between equal scores the earlier completion is taken. The score
is the first of `overall_score`, `score`, `fine-grained_score`, or else the mean of the ratings in `annotations`.
"""

import math
from collections.abc import Mapping
from typing import Any

from trainers.common.turns import (
    DataError,
    NoPreferenceError,
    Turns,
    after_history,
    is_messages,
    messages,
    optional,
    required,
    shared_start,
    text_of,
)
from trainers.formats.registry import Comparison, Format, Values, rowwise

_SCORES = ("overall_score", "score", "fine-grained_score")


def _number(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        found = float(value)
    except ValueError:  # "N/A" is how UltraFeedback writes a rating that was not given
        return None
    return found if math.isfinite(found) else None


def _score(completion: Mapping[str, Any]) -> float | None:
    own = [found for key in _SCORES if (found := _number(completion.get(key))) is not None]
    annotations = completion.get("annotations")
    each = annotations.values() if isinstance(annotations, Mapping) else ()
    ratings = [_number(one.get("Rating")) for one in each if isinstance(one, Mapping)]
    known = own[:1] or [rating for rating in ratings if rating is not None]
    return sum(known) / len(known) if known else None


def _parse_scored(row: Values, where: str) -> Comparison:
    key = "instruction" if "instruction" in row else "prompt"
    completions = row.get("completions")
    required(row, where, [key], "a row with scored completions has an instruction")
    if completions and not is_messages(completions):
        raise DataError(f"{where}: 'completions' must be a list of {{response, overall_score}}")
    scored = [
        (score, text_of(completion["response"], where, f"completions[{i}].response"))
        for i, completion in enumerate(completions or ())
        if (score := _score(completion)) is not None and completion.get("response") is not None
    ]
    unscored = len(completions or ()) - len(scored)
    if len(scored) < 2:
        raise NoPreferenceError(
            f"{where}: {len(scored)} of {len(scored) + unscored} completions have a response and a score ({', '.join(_SCORES)} "
            "or rated annotations), and a preference needs two; remove the row",
            "one_answer",
        )
    best, worst = max(scored, key=lambda one: one[0]), min(scored, key=lambda one: one[0])
    if best[0] == worst[0]:
        raise NoPreferenceError(
            f"{where}: all {len(scored)} completions have the score {best[0]:g}, so none is preferred; remove the row",
            "tied",
        )
    prompt = after_history(row, where, [{"role": "user", "content": text_of(row[key], where, key)}])
    note = "completions without a response or a score" if unscored else None
    answers = (_answer(best[1]), _answer(worst[1]))
    return Comparison(prompt, *answers, optional(row, "id"), optional(row, "group"), note=note)


def _answer(text: str) -> Turns:
    return [{"role": "assistant", "content": text}]


def _parse_binarized(row: Values, where: str) -> Comparison:
    chosen, rejected = (messages(row.get(key), where, key) for key in ("chosen", "rejected"))
    prompt, chosen, rejected = shared_start(chosen, rejected, where)
    prompt = after_history(row, where, prompt)
    asked = [turn["content"].strip() for turn in prompt]
    if text_of(row.get("prompt"), where, "prompt").strip() not in asked:
        raise DataError(
            f"{where}: 'prompt' is not among the turns that chosen and rejected begin with; make them agree, or remove 'prompt'"
        )
    return Comparison(prompt, chosen, rejected, optional(row, "id"), optional(row, "group"))


def _is_binarized(row: Values) -> bool:
    """A prompt as text beside whole conversations: TRL, too, then takes the prompt from the conversations."""
    chosen = row.get("chosen")
    return (
        isinstance(row.get("prompt"), str)
        and is_messages(chosen)
        and chosen[0].get("role", chosen[0].get("from")) in ("user", "system", "human")
    )


SCORED = Format(
    "ultrafeedback",
    "UltraFeedback, scored completions",
    "instruction, completions [{response, overall_score}]",
    lambda row: "completions" in row and ("instruction" in row or "prompt" in row),
    rowwise(_parse_scored),
    ("instruction", "prompt", "completions", "system", "history"),
)
BINARIZED = Format(
    "ultrafeedback-binarized",
    "UltraFeedback, binarized",
    "prompt (text), chosen, rejected (whole conversations)",
    _is_binarized,
    rowwise(_parse_binarized),
    ("prompt", "chosen", "rejected", "system", "history"),
)

"""Kind `ifeval`: instructions that code can check (Zhou et al., arXiv 2311.07911), by lm-eval's copy of IFEval's checkers.

Two things may be missing. Without the packages langdetect and immutabledict the checkers do not import: that is an error with
the command that installs them. Without nltk's `punkt_tab` data (lm-eval fetches it on first use) the checkers that need it
are left out and counted in the score file; a prompt with such an instruction has no prompt-level score.
"""

import contextlib
import importlib
import importlib.util
import io
import random
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from evals.benchmarks.answers import AnswerBenchmark
from evals.benchmarks.base import BenchmarkError, Row, Visit
from evals.benchmarks.rows import read, text_of
from evals.estimates import estimate
from trainers.common.errors import refuse

PACKAGES = ("langdetect", "immutabledict", "nltk")
_PROBE = "This is a first sentence. HERE is a second one."


def checkers() -> Any:
    """lm-eval's module of IFEval checks, its language detection made repeatable.

    Raises:
        BenchmarkError: a package that it imports is not installed.
    """
    missing = [name for name in PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        raise BenchmarkError(
            f"kind ifeval uses IFEval's own checkers, which need {', '.join(missing)}; pip install 'lm-eval[ifeval]'"
        )
    with contextlib.redirect_stdout(io.StringIO()):  # it tries to fetch punkt_tab on import, and says so
        module = importlib.import_module("lm_eval.tasks.ifeval.utils")
    importlib.import_module("langdetect").DetectorFactory.seed = 0
    return module


class IfEval(AnswerBenchmark):
    """Rows as google-research publishes them: `key`, `prompt`, `instruction_id_list`, `kwargs`. Decoding is greedy."""

    kind = "ifeval"
    by_rule = True
    metrics: ClassVar[Mapping[str, bool | None]] = {
        "prompt_level_strict_acc": True,
        "prompt_level_loose_acc": True,
        "instruction_share_strict": True,
        "instruction_share_loose": True,
        "truncated": None,
    }
    takes = ("max_new_tokens",)
    defaults: ClassVar[Mapping[str, Any]] = {"max_new_tokens": 1280}

    def load(self, path: Path, limit: int | None) -> list[Row]:
        known = checkers().instructions_registry.INSTRUCTION_DICT
        found = []
        for where, row in read(path, limit):
            prompt, ids, kwargs = text_of(row, ("prompt",), where), row.get("instruction_id_list"), row.get("kwargs")
            if not isinstance(ids, list) or not ids:
                raise BenchmarkError(f"{where}: 'instruction_id_list' must be a non-empty list, got {ids!r:.80}")
            unknown = [one for one in ids if one not in known]
            given = isinstance(kwargs, list) and len(kwargs) == len(ids) and all(isinstance(k, dict) for k in kwargs)
            refuse(
                BenchmarkError,
                (
                    unknown,
                    f"{where}: unknown instruction {''.join(map(str, unknown[:1]))!r}; known: {', '.join(sorted(known))}",
                ),
                (not given, f"{where}: 'kwargs' must be a list with one object for each of {len(ids)} instructions"),
            )
            found.append({"id": row["id"], "prompt": prompt, "instruction_id_list": ids, "kwargs": kwargs})
        return found

    def values(self, row: Row, answer: Mapping[str, Any]) -> dict[str, float | None]:
        checks = check(row, answer["text"])
        known = [one for one in checks if one["strict"] is not None]
        complete = len(known) == len(checks)
        values: dict[str, float | None] = {"truncated": float(answer["finish_reason"] == "length")}
        for mode in ("strict", "loose"):
            passed = [one[mode] for one in known]
            values[f"prompt_level_{mode}_acc"] = float(all(passed)) if complete else None
            values[f"instruction_share_{mode}"] = sum(passed) / len(passed) if passed else None
        return values

    def details(self, row: Row, answer: Mapping[str, Any]) -> Row:
        return {"instructions": check(row, answer["text"])}

    def score(self, visit: Visit, rows: list[Row], fingerprint: str) -> Row:
        """Adds `instruction_level` (IFEval's own average over instructions) and `left_out`."""
        scores = super().score(visit, rows, fingerprint)
        checks = [(item["id"], one) for item in scores["items"] for one in item["instructions"]]
        known = [(prompt, one) for prompt, one in checks if one["strict"] is not None]
        left_out = Counter(one["instruction"] for _, one in checks if one["strict"] is None)
        return scores | {
            "instruction_level": {
                f"inst_level_{mode}_acc": estimate([float(c[mode]) for _, c in known], True, [p for p, _ in known])
                for mode in ("strict", "loose")
            },
            "left_out": {
                "instructions": dict(sorted(left_out.items())),
                "prompts": sum(any(one["strict"] is None for one in item["instructions"]) for item in scores["items"]),
                "reason": "nltk's punkt_tab data is not on this machine; run: python -m nltk.downloader punkt_tab"
                if left_out
                else None,
            },
        }


def check(row: Row, text: str) -> list[Row]:
    """For each instruction of a row whether `text` follows it, strictly and loosely; None where its checker lacks data."""
    found: list[Row] = []
    module, state = checkers(), random.getstate()
    for name, kwargs in zip(row["instruction_id_list"], row["kwargs"], strict=True):
        one = module.InputExample(row["id"], [name], row["prompt"], [kwargs])
        strict = loose = None
        with contextlib.suppress(LookupError):  # what nltk raises where its data is missing
            module.test_instruction_following_strict(one, _PROBE)  # an empty answer would not reach the checker
            random.seed(f"{row['id']}/{name}")  # where a row asks for a letter that is none, the checker draws one
            strict = bool(module.test_instruction_following_strict(one, text).follow_all_instructions)
            random.seed(f"{row['id']}/{name}")
            loose = bool(module.test_instruction_following_loose(one, text).follow_all_instructions)
        found.append({"instruction": name, "strict": strict, "loose": loose})
    random.setstate(state)
    return found

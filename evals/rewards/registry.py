"""Rewards by name; every judge that scores single answers is one too.

A reward from outside the package is reached as `path/to/file.py:ClassName` or through the entry-point group
`dpo_beta_harness.rewards`; its parameters are the keyword arguments of its `__init__`.
"""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from evals.judges.base import Judge
from evals.judges.registry import JUDGES
from evals.rewards.base import Reward, RewardError
from evals.rewards.judge import JudgeReward
from trainers.common.plugins import Registry

REWARDS = Registry(
    "reward",
    {
        **JUDGES.builtin,
        "sentiment": "evals.rewards.sentiment:Sentiment",
        "constraints": "evals.rewards.constraints:Constraints",
        "length": "evals.rewards.length:Length",
    },
    ("dpo_beta_harness.rewards", *JUDGES.groups),
    (Reward, Judge),
    RewardError,
)
available, source_file = REWARDS.available, REWARDS.source_file


def build(reward: str, params: Mapping[str, Any] | None = None) -> Reward:
    """The reward of that name (or `path/to/file.py:ClassName`), its parameters checked.

    Raises:
        RewardError: an unknown reward, parameter or value, with the nearest known name or what was expected.
    """
    built = REWARDS.build(reward, params)
    found: Reward = JudgeReward(built) if isinstance(built, Judge) else built
    if not isinstance(built, Judge) and not found.rule:
        raise RewardError(f"reward {reward!r}: set 'rule', a text that names and describes what it measures")
    found.code = code_of(reward)
    return found


def code_of(spec: Any) -> str | None:
    """SHA-256 of the file that the reward of a matrix file comes from; None for one with a name, or where there is no file."""
    file = source_file(str(spec.get("kind") if isinstance(spec, Mapping) else spec))
    return hashlib.sha256(file.read_bytes()).hexdigest() if file is not None and file.is_file() else None


def from_spec(spec: str | Mapping[str, Any]) -> Reward:
    """The reward of a matrix file: a name, or a mapping of `kind` and its parameters.

    Raises:
        RewardError: as `build`; also another type, or no kind.
    """
    if isinstance(spec, str):
        return build(spec)
    params = dict(spec) if isinstance(spec, Mapping) else {}
    kind = params.pop("kind", None)
    if not isinstance(kind, str):
        raise RewardError(
            f"reward is {spec!r}; give a name, or a mapping with kind, as in {{kind: length, target: 20}}"
        )
    return build(kind, params)


def placed(spec: Any, base: Path) -> Any:
    """The same reward with the paths of its file and of its `model` absolute; `base` is the folder they are relative to."""
    if isinstance(spec, str):
        file = source_file(spec)
        return spec if file is None else f"{(base / file.expanduser()).resolve()}:{spec.rpartition(':')[2]}"
    if not isinstance(spec, Mapping):
        return spec
    found = {**spec, "kind": placed(spec.get("kind"), base)}
    model = spec.get("model")
    if isinstance(model, str) and (folder := (base / Path(model).expanduser()).resolve()).is_dir():
        found["model"] = str(folder)
    return found

"""Learnability of preference data: held-out reward accuracy of a short standard DPO run, kept by data and model."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from harness.plan.references import TRAIN_VERSION
from trainers.common import cache_dir, fingerprint, read_json, write_json
from trainers.formats.pairs import PreferencePair

#: Raise when the standard run changes in more than its settings: older records are then unknown.
VERSION = 1
#: An upper bound below this says that the run did not learn the preferences.
LEARNABLE = 0.55


@dataclass(frozen=True)
class Settings:
    """The standard run. Pairs of more than `max_tokens` (prompt and longer answer, without template) are left out of it."""

    steps: int = 16
    pairs_per_step: int = 4
    learning_rate: float = 1e-3
    lr_scheduler_type: str = "linear"
    beta: float = 0.1
    lora_r: int = 16
    lora_alpha: int = 32
    max_tokens: int = 512
    max_heldout_pairs: int = 400
    seed: int = 0


@dataclass(frozen=True)
class Named:
    """Preference pairs and the source they are from."""

    source: str
    pairs: Sequence[PreferencePair]


@dataclass(frozen=True)
class Learnability:
    """Held-out reward accuracy of the standard run, with its 95 % interval.

    Attributes:
        accuracy: share of held-out pairs with beta * [log(policy / reference) of chosen - of rejected] above 0, ties counted one
            half (Rafailov et al., arXiv 2305.18290). The reference itself has .5.
        method: of the interval; clustered where held-out pairs share a prompt group.
        n_pairs: held-out pairs. n_train: pairs trained on.
        data, heldout, model: names, for people; heldout is None where the held-out pairs are split off the data.
        measured: when (UTC, ISO 8601).
    """

    accuracy: float
    ci_low: float
    ci_high: float
    method: str
    n_pairs: int
    n_train: int
    steps: int
    data: str
    data_hash: str
    heldout: str | None
    heldout_hash: str | None
    model: str
    model_hash: str
    settings: Settings
    measured: str
    version: int = VERSION

    @property
    def text(self) -> str:
        """Accuracy and interval in words."""
        interval = f"95 % interval {self.ci_low:.3f} to {self.ci_high:.3f}"
        return f"held-out reward accuracy {self.accuracy:.3f} ({interval}, {self.n_pairs} pairs)"

    @property
    def warning(self) -> str | None:
        """What to tell who trains this model on this data; None where the upper bound is not below `LEARNABLE`."""
        if self.ci_high >= LEARNABLE:
            return None
        return (
            f"warning: a short DPO run did not learn these preferences: {self.text}, upper bound below {LEARNABLE}; "
            "expect no difference between methods on this data and model"
        )


def pairs_hash(pairs: Sequence[PreferencePair]) -> str:
    """Identity of preference pairs."""
    return fingerprint([list(pair.content()) for pair in pairs])


def _folder(model_hash: str) -> Path:
    return cache_dir() / "learnability" / model_hash[:16]


def _name(data_hash: str) -> str:
    identity = {"version": VERSION, "settings": Settings(), "train_version": TRAIN_VERSION, "data": data_hash}
    return f"{fingerprint(identity)[:16]}.json"


def keep(found: Learnability) -> None:
    """Write the record into the user's cache directory, over an earlier one of this data and model."""
    write_json(_folder(found.model_hash) / _name(found.data_hash), asdict(found))


def of_data_card(file: Path, model: str) -> Learnability | None:
    """What the record beside a file of pairs says of it and of the model that wrote them; None where it says nothing.

    The data that ships with the project has such a record (`*.build.json`), so that its learnability is known at once.
    """
    card = read_json(file.with_suffix(".build.json"))
    if not isinstance(card, dict) or card.get("policy") != model or "learnability" not in card:
        return None
    told, settings = card["learnability"], Settings()
    return Learnability(
        **{key: told[key] for key in ("accuracy", "ci_low", "ci_high")},
        method="as the data card says",
        n_pairs=told["pairs"],
        n_train=settings.steps * settings.pairs_per_step,
        steps=settings.steps,
        data=file.name,
        data_hash="",
        heldout=None,
        heldout_hash=None,
        model=model,
        model_hash="",
        settings=settings,
        measured="",
    )


def recall(pairs: Sequence[PreferencePair], model_hash: str) -> Learnability | None:
    """The last measurement of exactly these pairs with this model, or None."""
    folder = _folder(model_hash)
    if not folder.is_dir():  # the hash of many pairs takes seconds
        return None
    kept: Any = read_json(folder / _name(pairs_hash(pairs)))
    try:
        return Learnability(**{**kept, "settings": Settings(**kept["settings"])})
    except (TypeError, KeyError):
        return None

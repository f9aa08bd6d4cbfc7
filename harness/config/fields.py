"""Fields of trl.DPOConfig and peft.LoraConfig: their names and the YAML types they take.

Importing TRL takes seconds, so what was found is kept in the user's cache directory under the installed versions.
"""

import dataclasses
import importlib.metadata
import math
import re

from harness.config.source import Path_, Source, dotted, refuse
from trainers.common import Json, cache_dir, nearest, read_json, write_json
from trainers.run.objectives import OBJECTIVES

#: DPOConfig fields the harness sets itself, with what to write instead.
OWNED = {
    "output_dir": "give --output on the command line",
    "run_name": "it is the run's id",
    "seed": "use the matrix's seeds: [...]",
    "data_seed": "use the matrix's seeds: [...]",
    "beta": "use the method's pref_beta",
    "loss_type": "use the method's pref_loss",
    "disable_tqdm": "progress is shown by the harness",
    "resume_from_checkpoint": "run the same command again: unfinished runs resume by themselves",
    "remove_unused_columns": "the trainer needs its own columns",
    "model_init_kwargs": "use the matrix's model: section",
}
_KINDS = ("bool", "int", "float", "str", "dict", "list", "Literal")


def _kinds(annotation: str) -> list[str]:
    found = ["str" if kind == "Literal" else kind for kind in _KINDS if re.search(rf"\b{kind}\b", annotation)]
    return list(dict.fromkeys(found)) + (["none"] if "None" in annotation or "Optional" in annotation else [])


def known_fields() -> dict[str, dict[str, list[str]]]:
    """{"dpo" | "kto" | "orpo" | "lora": {field: accepted kinds}} for the installed versions."""
    versions = "-".join(importlib.metadata.version(name) for name in ("trl", "peft", "transformers"))
    path = cache_dir() / f"fields-3-{versions}.json"
    cached: dict[str, dict[str, list[str]]] | None = read_json(path)
    if cached is not None:
        return cached
    from peft import LoraConfig

    classes = {name: objective.load_config_class() for name, objective in OBJECTIVES.items()}
    found = {
        section: {field.name: _kinds(str(field.type)) for field in dataclasses.fields(cls) if field.init}
        for section, cls in (*classes.items(), ("lora", LoraConfig))
    }
    write_json(path, found)
    return found


def check_objective_fields(objective: str, training: Json, source: Source) -> None:
    """Refuse settings of the matrix's `training` that a method's objective does not have.

    Raises:
        UserError: the first such field, with where it can go instead.
    """
    refuse(
        *(
            (
                name not in known_fields()[objective],
                f"{source.where(('training', name))}: training.{name} (value {value!r}) is not a field of "
                f"{OBJECTIVES[objective].config_class}, which objective {objective} uses; move it "
                "into the training of the other methods",
            )
            for name, value in training.items()
        )
    )


def check_fields(section: str, values: Json, source: Source, prefix: Path_, objective: str = "dpo") -> None:
    """Check names and types of `training` (fields of the objective's TRL configuration) or `lora` settings.

    Raises:
        UserError: an unknown field (with the nearest), one the harness owns, or a value of the wrong type.
    """
    fields = known_fields()[objective if section == "training" else section]
    owner = OBJECTIVES[objective].config_class if section == "training" else "peft.LoraConfig"
    for name, value in values.items():
        where, key = source.where((*prefix, name)), dotted((*prefix, name))
        accepted, kind = fields.get(name, []), "none" if value is None else type(value).__name__
        good = not accepted or kind in accepted or (kind == "int" and "float" in accepted)
        kinds = " or ".join("null" if one == "none" else one for one in accepted)
        refuse(
            (
                section == "training" and name in OWNED,
                f"{where}: {key} (value {value!r}) is set by the harness; {OWNED.get(name)}",
            ),
            (
                name not in fields,
                f"{where}: unknown key {key} (value {value!r}) of {owner}; {nearest(name, fields)}",
            ),
            (
                isinstance(value, float) and not math.isfinite(value),
                f"{where}: {key} is {value!r}; give a finite number",
            ),
            (not good, f"{where}: {key} is {value!r}; {owner} takes {kinds} here"),
        )

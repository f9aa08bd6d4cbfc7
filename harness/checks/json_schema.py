"""JSON Schema (2020-12) of matrix files, for editors: made from the same models, fields and rules that check them."""

import json
from collections.abc import Iterable, Sequence

from evals.benchmarks import registry as benchmark_kinds
from harness.config import BenchmarkConfig, MatrixConfig, MethodConfig
from harness.config.fields import OWNED, known_fields
from harness.plan.benchmarks import COMMON
from trainers.common import Json
from trainers.rules import catalogue
from trainers.rules.parameters import LOSSES_EXPECTED, PREF_LOSSES
from trainers.run.objectives import OBJECTIVES, Objective

DIALECT = "https://json-schema.org/draft/2020-12/schema"
_PYTHON_FILE = r"\.py:[A-Za-z_][A-Za-z0-9_]*$"
_TYPES = {
    "bool": "boolean",
    "int": "integer",
    "float": "number",
    "str": "string",
    "dict": "object",
    "list": "array",
    "none": "null",
}
#: What a parameter's check says it expects -> the same as a schema.
_EXPECTED: dict[str, Json] = {
    "a number above 0": {"type": "number", "exclusiveMinimum": 0},
    "a finite number": {"type": "number"},
    "a number of at least 0": {"type": "number", "minimum": 0},
    "true or false": {"type": "boolean"},
    "a whole number above 0": {"type": "integer", "exclusiveMinimum": 0},
    "a number above 0, at most 1": {"type": "number", "exclusiveMinimum": 0, "maximum": 1},
    "a number of at least 0, below 1": {"type": "number", "minimum": 0, "exclusiveMaximum": 1},
    "a number of at least 0, below 0.5": {"type": "number", "minimum": 0, "exclusiveMaximum": 0.5},
    "the name of a column of numbers": {"type": "string", "pattern": r"\S"},
    LOSSES_EXPECTED: {
        "anyOf": [
            {"enum": list(PREF_LOSSES)},
            {"type": "array", "minItems": 1, "uniqueItems": True, "items": {"enum": [*PREF_LOSSES, "sft"]}},
        ]
    },
    "a number above 0, or null": {"type": ["number", "null"], "exclusiveMinimum": 0},
}


def matrix_schema() -> Json:
    """The schema of a whole matrix file.

    Rules and kinds of installed packages are known by name too, so a schema with them is written by `python -m harness schema`.
    """
    schema = {"$schema": DIALECT, **MatrixConfig.model_json_schema()}
    definitions, fields = schema["$defs"], known_fields()
    training = {
        name: kinds for objective in OBJECTIVES for name, kinds in fields[objective].items() if name not in OWNED
    }
    definitions["Training"] = _settings(
        training, "Fields of trl.DPOConfig, and of KTOConfig or ORPOConfig for such methods."
    )
    definitions["Lora"] = _settings(fields["lora"], "Fields of peft.LoraConfig.")
    schema["properties"]["training"] = {"$ref": "#/$defs/Training"}
    schema["properties"]["lora"] = {"anyOf": [{"$ref": "#/$defs/Lora"}, {"type": "null"}], "default": None}
    method, benchmark = definitions["MethodConfig"], definitions["BenchmarkConfig"]
    method["properties"]["training"] = {"$ref": "#/$defs/Training"}
    method["properties"]["rule"] = _named(catalogue.available(), "A beta rule, or path/to/file.py:ClassName.")
    method["allOf"] = [_rule_case(name, info) for name, info in catalogue.BUILTIN.items()]
    method["allOf"] += [
        _objective_case(name, one, one.rules) for name, one in OBJECTIVES.items() if one.rules is not None
    ]
    benchmark["properties"]["kind"] = {
        **_named(benchmark_kinds.available(), "A kind of benchmark, or path/to/file.py:ClassName."),
        "default": BenchmarkConfig.model_fields["kind"].default,
    }
    benchmark["allOf"] = [_kind_case(kind) for kind in benchmark_kinds.BUILTIN]
    return schema


def schema_text() -> str:
    """The schema as it is written to a file."""
    return json.dumps(matrix_schema(), indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def _settings(fields: dict[str, list[str]], description: str) -> Json:
    properties = {
        name: {"type": [_TYPES[kind] for kind in kinds]} if kinds else {} for name, kinds in sorted(fields.items())
    }
    return {"type": "object", "description": description, "properties": properties, "additionalProperties": False}


def _named(names: Iterable[str], description: str) -> Json:
    known = [{"enum": sorted(names)}, {"type": "string", "pattern": _PYTHON_FILE}, {"type": "null"}]
    return {"anyOf": known, "description": description}


def _parameter(param: catalogue.Param) -> Json:
    expected = param.check(object())
    assert expected is not None  # no check takes any object
    choices = expected.removeprefix("one of ")
    known = _EXPECTED.get(expected)
    found: Json = {"enum": choices.split(", ")} if known is None else dict(known)
    return {**found, "default": param.default, "description": param.help}


def _has_rule(name: str) -> Json:
    """A method with this rule, which its name stands for where no rule is written."""
    written = {"required": ["rule"], "properties": {"rule": {"const": name}}}
    meant = {"not": {"required": ["rule"]}, "required": ["name"], "properties": {"name": {"const": name}}}
    return {"anyOf": [written, meant]}


_DPO = {"properties": {"objective": {"const": "dpo"}}}


def _rule_case(name: str, info: catalogue.RuleInfo) -> Json:
    params = {key: _parameter(param) for key, param in info.params.items()}
    grid = {
        "properties": {key: {"items": value} for key, value in params.items()},
        "propertyNames": {"enum": [*params]},
    }
    names = {"enum": [*MethodConfig.model_fields, *params]}
    return {
        "if": {"allOf": [_has_rule(name), _DPO]},
        "then": {"propertyNames": names, "properties": {**params, "grid": grid}},
    }


def _objective_case(name: str, objective: Objective, rules: Sequence[str]) -> Json:
    params = {key: _parameter(param) for rule in rules for key, param in catalogue.BUILTIN[rule].params.items()}
    params["pref_loss"] = {"enum": list(objective.pref_losses), "default": objective.pref_losses[0]}
    then = {
        "propertyNames": {"enum": [*MethodConfig.model_fields, *params]},
        "properties": {**params, "rule": {"enum": list(rules)}},
    }
    return {"if": {"required": ["objective"], "properties": {"objective": {"const": name}}}, "then": then}


def _kind_case(kind: str) -> Json:
    cls = benchmark_kinds.find(kind)
    names = dict.fromkeys([*COMMON, *cls.takes, *benchmark_kinds.parameters(cls)])
    condition: Json = {"properties": {"kind": {"const": kind}}}
    if kind != BenchmarkConfig.model_fields["kind"].default:
        condition["required"] = ["kind"]
    return {"if": condition, "then": {"propertyNames": {"enum": list(names)}}}

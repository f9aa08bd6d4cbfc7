"""The matrix file: typed, strict, and every error names the file, the line, the key, the value and the fix."""

import types
import typing
from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel, BeforeValidator, Discriminator, Field, Tag, ValidationError

from harness.config.evaluation import (
    ONE,
    SEVERAL,
    EvaluationConfig,
    Name,
    Seed,
    Strict,
    WithParams,
    one_or_several,
)
from harness.config.source import Path_, Source, dotted
from trainers.common import Json, UserError, nearest


class QuantizationConfig(Strict):
    """Weights loaded in 4 or 8 bits by bitsandbytes (with `lora`); keys as in transformers.BitsAndBytesConfig."""

    load_in_4bit: bool = False
    load_in_8bit: bool = False
    bnb_4bit_quant_type: Literal["nf4", "fp4"] = "nf4"
    bnb_4bit_use_double_quant: bool = False
    bnb_4bit_compute_dtype: Literal["bfloat16", "float16", "float32"] = "bfloat16"


class ModelConfig(Strict):
    """The starting policy and, unless `reference` names another, the reference: a hub id, a directory, or `embedded:<name>`.

    `adapter` (a PEFT adapter: a directory or hub id) is merged into the weights first, so policy and reference both start from
    the merged model. `chat_template` (a Jinja file, relative to the matrix file) replaces the tokenizer's own. `template_date`
    (YYYY-MM-DD) is today for templates that write the date; by default the day the matrix was first run. `reference` is a model
    with the same vocabulary that runs are trained against, and that KL and win rates are measured against.
    """

    name_or_path: str
    revision: str | None = None
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    attn_implementation: str = "sdpa"
    trust_remote_code: bool = False
    adapter: str | None = None
    adapter_revision: str | None = None
    chat_template: str | None = None
    template_date: typing.Annotated[str, BeforeValidator(str)] | None = None
    quantization: QuantizationConfig | None = None
    reference: str | None = None
    reference_revision: str | None = None


class DataSource(Strict):
    """One source of a mixture: its proportion among the sources (all have a weight, or none), and how much of it is taken.

    `share` is a part of its pairs, `limit` the most of them.
    """

    source: str
    weight: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    limit: int | None = Field(default=None, gt=0)
    share: float | None = Field(default=None, gt=0, le=1, allow_inf_nan=False)


_Train = typing.Annotated[
    typing.Annotated[str, Tag(ONE)] | typing.Annotated[list[DataSource], Field(min_length=1), Tag(SEVERAL)],
    Discriminator(one_or_several),
]
_Share = typing.Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
_Flip = typing.Annotated[
    typing.Annotated[float, Field(gt=0, lt=1, allow_inf_nan=False), Tag(ONE)]
    | typing.Annotated[list[_Share], Field(min_length=3, max_length=3), Tag(SEVERAL)],
    Discriminator(one_or_several),
]


class DataConfig(Strict):
    """Preference pairs, in any format of `trainers.formats`.

    A source is a file or folder relative to the matrix file (`folder#split`), an entry of a LLaMA-Factory
    `dataset_info.json#name`, `hub:owner/name@revision#split`, or `embedded:<set>/<split>`. `train` is one, or a list of them.
    `without_preference` says what to do with rows without a preference (identical, tied or empty answers, one answer only,
    a prompt that leaves no room for an answer). `heldout_share` takes the held-out pairs from `train` instead of a source of
    their own: whole prompt groups, so that no prompt is on both sides. With `streaming` the sources are read row by row, and
    no further than `max_train_pairs` or each source's `limit` asks for. With `resample: per_seed` every seed draws its own
    `max_train_pairs` of the pairs, the same for all methods; with `subsets: K` the seeds share K draws in turn (seed modulo K).
    `flip` exchanges chosen and rejected in that share of the training pairs, by lot; three shares are for the low, middle and
    high tercile of the column `log_prompt_perplexity`. `gap_blocks: N` orders the pairs in blocks of N with similar score gaps
    (columns `score_chosen` and `score_rejected`), the blocks by lot, and needs `train_sampling_strategy: sequential`.
    """

    train: _Train
    heldout: str | None = None
    heldout_share: float | None = Field(None, gt=0, lt=1, allow_inf_nan=False)
    streaming: bool = False
    max_train_pairs: int | None = Field(None, gt=0)
    seed: int = 0
    without_preference: Literal["error", "drop"] = "error"
    resample: Literal["per_seed"] | None = None
    subsets: int | None = Field(None, ge=2)
    flip: _Flip | None = None
    gap_blocks: int | None = Field(None, ge=2)

    @property
    def sources(self) -> list[DataSource]:
        """`train` as a list."""
        return [DataSource(source=self.train)] if isinstance(self.train, str) else self.train


class OracleConfig(Strict):
    """Betas of rule dataset_beta from which labels were flipped: a clean pair has `clean_over_flipped` times the beta of a
    flipped one, and the mean is the method's pref_beta. `permuted` hands the same betas out by lot, over the whole data set."""

    clean_over_flipped: float = Field(gt=0, allow_inf_nan=False)
    permuted: bool = False


class MethodConfig(WithParams):
    """One method. Keys beside the ones below are parameters of its rule (pref_beta, pref_beta_scale, ...).

    `parent` names the method a control belongs to: the control has a run for each of the parent's runs, with its seed,
    hyper-parameters and training settings. `oracle` makes the betas of rule dataset_beta.
    """

    name: Name
    rule: str | None = None
    objective: Literal["dpo", "kto", "orpo"] = "dpo"
    parent: Name | None = None
    oracle: OracleConfig | None = None
    grid: dict[str, list[Any]] = Field(default_factory=dict)
    seeds: list[Seed] | None = None
    training: Json = Field(default_factory=dict)


class ReportConfig(Strict):
    """Which method is the baseline, which `benchmark/metric` the verdict is about, and the output of a finished pilot, whose
    spread `run-matrix --dry-run` sizes this matrix by."""

    baseline: str | None = None
    primary: str | None = None
    pilot: str | None = None


_Window = typing.Annotated[list[float], Field(min_length=2, max_length=2)]


class SensitivityConfig(Strict):
    """Methods that show whether the matrix can see an effect (ICH E10: assay sensitivity).

    `positive` has an effect that is known, `weak` a smaller one, `negative` none; each is compared with `against` at the same
    mean beta, on `metric` (default: the report's primary), at equal KL where KL is measured at checkpoints: at the largest that
    both reach, or on average over `window` (nats an answer). The negative control must not be better by more than `margin`.
    With `flip` these methods alone, and controls of theirs, train on pairs of which that share is flipped.
    """

    positive: Name
    negative: Name
    against: Name
    margin: float = Field(gt=0, allow_inf_nan=False)
    weak: Name | None = None
    metric: str | None = None
    flip: float | None = Field(None, gt=0, lt=1, allow_inf_nan=False)
    window: _Window | None = None

    @property
    def roles(self) -> dict[str, str]:
        """What each method is for, by its name."""
        named = {self.positive: "positive", self.negative: "negative", self.against: "against"}
        return named if self.weak is None else {**named, self.weak: "weak"}


class ClaimConfig(Strict):
    """What the matrix is to show, judged after correction over all claims; see reports.verdict.claims.Claim."""

    name: Name
    method: str
    against: str
    metric: str
    asserts: Literal["gain", "variation", "perplexity"] = "gain"
    at: Literal["final", "matched_kl"] = "final"
    min_effect: float = Field(0.0, ge=0)
    window: _Window | None = Field(
        None,
        description="With at: matched_kl, the range of KL (nats an answer) over which the mean difference is taken.",
    )


class PushConfig(Strict):
    """Where finished policies are uploaded, if told to by `run-matrix --push`: one repository `prefix-<run id>` each."""

    prefix: typing.Annotated[str, Field(pattern=r"^[\w.-]+/[\w.-]+$")]
    private: bool = True


class ExecutorConfig(WithParams):
    """Where runs are trained; no part of any identity. Keys beside `kind` are settings of the executor.

    `kind` is a name of harness.executors.registry or `path/to/file.py:ClassName`, relative to the matrix file.
    """

    kind: str = "local"


class MatrixConfig(Strict):
    """A matrix: methods x hyper-parameters x seeds, trained alike and measured alike.

    `save` says what LoRA runs keep: the merged weights, the adapter (merged again whenever it is measured), or both. It is
    not part of a run's identity.
    """

    name: Name
    model: ModelConfig
    data: DataConfig
    training: Json = Field(default_factory=dict)
    lora: Json | None = None
    save: Literal["merged", "adapter", "both"] = "both"
    prefix_sharing: bool = True
    methods: list[MethodConfig] = Field(min_length=1)
    seeds: list[Seed] = Field(default_factory=lambda: [0], min_length=1)
    evaluation: EvaluationConfig = EvaluationConfig()
    report: ReportConfig = ReportConfig()
    sensitivity: SensitivityConfig | None = None
    claims: list[ClaimConfig] = Field(default_factory=list)
    looks: list[int] = Field(
        default_factory=list,
        description="Numbers of seeds, rising, at which the claims may be judged; frozen with them. Empty: once, at `seeds`.",
    )
    executor: ExecutorConfig = ExecutorConfig()
    push_to_hub: PushConfig | None = None


def _model_at(loc: Path_, model: type[BaseModel] | None) -> type[BaseModel] | None:
    """The pydantic model whose field the last part of `loc`, a place in `model`, is."""
    for part in loc[:-1]:
        if model is not None and isinstance(part, str):
            model = _nested(model.model_fields[part].annotation) if part in model.model_fields else None
    return model


def _nested(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and not isinstance(annotation, types.GenericAlias):
        return annotation if issubclass(annotation, BaseModel) else None
    return next(filter(None, map(_nested, typing.get_args(annotation))), None)


_EXPECTED = {
    "string_type": "a text",
    "int_type": "a whole number",
    "float_type": "a number, without quotes",
    "bool_type": "true or false",
    "list_type": "a list",
    "dict_type": "a mapping",
    "model_type": "a mapping",
}


def explain(error: Mapping[str, Any], source: Source, model: type[BaseModel] = MatrixConfig, prefix: Path_ = ()) -> str:
    """One line about a mistake in a `model` that stands under `prefix` of the matrix file: file, line, key, value, fix."""
    within: Path_ = tuple(part for part in error["loc"] if part not in (ONE, SEVERAL))
    loc = (*prefix, *within)
    at, kind, value = source.at(*loc), error["type"], error["input"]
    known = _model_at(within, model) if kind == "extra_forbidden" else None
    hint = nearest(str(loc[-1]), known.model_fields) if known else "remove it"
    letters = "letters, digits, '.', '_' and '-', at most 64, starting with a letter or digit"
    said = {
        "missing": f"{at} is missing; add it",
        "extra_forbidden": f"{source.where(loc)}: unknown key {dotted(loc)} (value {value!r}); {hint}",
        "value_error": f"{at}: {error.get('ctx', {}).get('error')}",
        "string_pattern_mismatch": f"{at} is {value!r}; use {letters}",
        **{name: f"{at} is {value!r}; it must be {expected}" for name, expected in _EXPECTED.items()},
    }
    return said.get(kind, f"{at} is {value!r}; {error['msg'].replace('Input should', 'it should')}")


def parse(source: Source) -> MatrixConfig:
    """Check the shape of a matrix file.

    Raises:
        UserError: with one line per mistake.
    """
    try:
        return MatrixConfig.model_validate(source.value)
    except ValidationError as error:
        # a misspelt key first: the key it stands for is then missing, which is only its shadow
        mistakes = sorted(error.errors(), key=lambda one: one["type"] != "extra_forbidden")
        raise UserError("\n".join(explain(one, source) for one in mistakes)) from None

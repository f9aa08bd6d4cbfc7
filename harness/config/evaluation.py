"""The `evaluation` part of a matrix file."""

import typing
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag, model_validator

from trainers.common import Json

Name = typing.Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]
Seed = typing.Annotated[int, Field(ge=0, lt=2**32)]  # what numpy and torch both take


class Strict(BaseModel):
    """A mapping of the matrix file with no keys but its fields."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class WithParams(BaseModel):
    """A mapping of the matrix file whose further keys are parameters of what it names."""

    model_config = ConfigDict(extra="allow", strict=True, frozen=True)

    @property
    def params(self) -> Json:
        """The parameters as written."""
        return dict(self.model_extra or {})


#: Tags of unions of a value and a list: they keep a mistake in one from being reported as a mistake in the other.
ONE, SEVERAL = "(one)", "(several)"


def one_or_several(value: Any) -> str:
    """The tag of a value of such a union."""
    return SEVERAL if isinstance(value, list | tuple) else ONE


_Step = typing.Annotated[int, Field(gt=0)]
_Checkpoints = typing.Annotated[
    typing.Annotated[bool, Tag(ONE)] | typing.Annotated[list[_Step], Field(min_length=1), Tag(SEVERAL)],
    Discriminator(one_or_several),
]


class EngineSettings(Strict):
    """The generation engine; see evals.engine.base.EngineConfig.

    On `parity_prompts` prompts of the first benchmark vLLM's greedy answers are compared with transformers' (0: on none).
    """

    backend: Literal["auto", "vllm", "transformers"] = "auto"
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    max_model_len: int = Field(1024, gt=0)
    kv_cache_gib: int = Field(2, gt=0)
    max_num_seqs: int = Field(256, gt=0)
    seed: int = 0
    tensor_parallel_size: int = Field(1, gt=0)
    data_parallel_size: int = Field(1, gt=0)
    gpu_memory_utilization: float = Field(0.85, gt=0, le=1)
    parity_prompts: int = Field(8, ge=0)
    lora: Literal["merge", "adapters"] = "merge"


class BenchmarkConfig(WithParams):
    """Rows that every policy is measured on. Keys beside the ones below are parameters of its kind (beta0, ...).

    `kind` is a name of evals.benchmarks.registry or `path/to/file.py:ClassName`, relative to the matrix file. Kind
    preference takes data.heldout where `prompts` is not said. With `noise`, the reference is evaluated twice.
    """

    name: Name
    kind: str = "constraints"
    prompts: str | None = None
    limit: int | None = Field(None, gt=0)
    max_new_tokens: int = Field(128, gt=0)
    temperature: float = Field(0.0, ge=0)
    top_p: float = Field(1.0, gt=0, le=1)
    samples: int = Field(1, gt=0)
    seed: int = 0
    noise: bool = False


class LmEvalConfig(Strict):
    """An lm-eval task, by name or from `include_path`, with as many examples as the task asks for, or `num_fewshot`.

    With `apply_chat_template` the task's texts become turns of the model's chat template, each example a separate turn unless
    `fewshot_as_multiturn` is false; `system_instruction` comes first, all as in lm-eval. With `noise`, the reference is evaluated
    twice.
    """

    task: str
    limit: int | None = Field(None, gt=0)
    num_fewshot: int | None = Field(None, ge=0)
    include_path: str | None = None
    apply_chat_template: bool = False
    fewshot_as_multiturn: bool = True
    system_instruction: str | None = None
    noise: bool = False


class JudgeConfig(WithParams):
    """A judge of the answers. Keys beside the ones below are parameters of its kind (model, base_url, template, ...).

    `kind` is a name of evals.judges.registry or `path/to/file.py:ClassName`, relative to the matrix file. It judges the answers
    to `benchmarks` (all that have some): every policy against the reference, and with pairs `all` every two methods with
    one seed; with `checkpoints` also the intermediate checkpoints, each against the reference. No judge is part of a run's
    identity.
    """

    name: Name
    kind: str
    benchmarks: typing.Annotated[list[str], Field(min_length=1)] | None = None
    pairs: Literal["all", "reference"] = "all"
    checkpoints: bool = False


#: Tasks that ask for knowledge and skills preference training is not about: those of this package, or a choice of the hub's.
FORGETTING = {
    "embedded": ("capitals", "word_arithmetic"),
    "hub": ("arc_challenge", "gsm8k", "hellaswag", "truthfulqa_mc2", "winogrande"),
}


class EvaluationConfig(Strict):
    """What every policy, the reference included, is measured on.

    `forgetting` adds lm-eval tasks that show what training cost: `embedded` (capitals, word_arithmetic) or `hub` (arc_challenge,
    gsm8k, hellaswag, truthfulqa_mc2, winogrande). A task that `lm_eval` lists keeps its settings there.

    With `checkpoints`, intermediate checkpoints are kept and measured too: after these steps, or (true) where the trainer saves;
    of the runs with a seed in `checkpoint_seeds`, or of all; on the benchmarks named in `checkpoint_benchmarks`, or on all.
    """

    engine: EngineSettings = Field(default_factory=lambda: EngineSettings.model_validate({}))
    benchmarks: list[BenchmarkConfig] = Field(default_factory=list)
    lm_eval: list[LmEvalConfig] = Field(default_factory=list)
    judges: list[JudgeConfig] = Field(default_factory=list)
    checkpoints: _Checkpoints = False
    checkpoint_seeds: typing.Annotated[list[int], Field(min_length=1)] | None = None
    checkpoint_benchmarks: typing.Annotated[list[str], Field(min_length=1)] | None = None
    forgetting: Literal["embedded", "hub"] | None = None

    @model_validator(mode="after")
    def _with_forgetting(self) -> Self:
        listed = {one.task for one in self.lm_eval}
        for task in FORGETTING.get(self.forgetting or "", ()):
            if task not in listed:
                self.lm_eval.append(LmEvalConfig.model_validate({"task": task}))
        return self

    @property
    def benchmark_names(self) -> list[str]:
        """Names of all benchmarks, lm-eval tasks last."""
        return [*(one.name for one in self.benchmarks), *(one.task for one in self.lm_eval)]

    def checkpoints_of(self, seed: int) -> bool | list[int]:
        """`checkpoints` for a run with this seed: False where other seeds are asked for."""
        return self.checkpoints if self.checkpoint_seeds is None or seed in self.checkpoint_seeds else False

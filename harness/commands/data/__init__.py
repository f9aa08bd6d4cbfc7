"""Verbs that make, show and import data and settings."""

from collections.abc import Sequence
from pathlib import Path

from harness.commands.options import DEFAULT_MODEL, JSON, Argument, Verb, argument, examples, whole


def _of_build_preferences() -> Sequence[Argument]:
    from harness.commands.data.preference_arguments import ARGUMENTS

    return ARGUMENTS


_IMPORT = """The original becomes the baseline, with the methods to compare it with at equal
settings. What cannot be taken over is listed here and at the head of the file.

"""
_IMPORT_ARGUMENTS = (
    argument("file", type=Path, metavar="FILE.yaml", help="the training configuration"),
    argument("--output", type=Path, metavar="FILE", help="default: FILE.matrix.yaml in this folder"),
    argument("--force", action="store_true", help="replace the output if it exists"),
)

VERBS = {
    "build-preferences": Verb(
        "harness.commands.data.build_preferences",
        "sample, score and pair answers into preference data",
        """SOURCE is a file of prompts (jsonl, json, csv, tsv, parquet), folder#split,
dataset_info.json#name, hub:owner/name@revision#split or embedded:set/name.
A row has prompt, or instruction (and input), or messages; topic and style go
into the pairs. A column `split` names the file that a row belongs to; all but
train get a file of benchmark prompts too.

examples:
  the constraint pairs that ship with the project:
    python -m harness build-preferences --out trainers/data/constraint_pairs
  pairs of your own prompts, the more positive answer preferred:
    python -m harness build-preferences --prompts-from prompts.jsonl \\
        --reward sentiment --k 6 --min-gap 0.4 --split-by topic --out my-pairs
  a reward of yours, or a judge:
    ... --reward mine.py:MyReward
    ... --reward reward_model --reward-param model=path/to/checkpoint
  label noise, with columns that tell the truth:
    python -m harness build-preferences --pairs embedded:sentiment/train \\
        --flip 0.3 --seed 1 --out noisy.jsonl
    ... --flip 0.4,0.2,0 --flip-by perplexity
  rows with only a chosen answer, rejected ones made by a strategy:
    python -m harness build-preferences --chosen-only answers.jsonl \\
        --strategy corrupted --out pairs.jsonl
A row there has prompt and chosen (or completion), instruction and output, or
messages that end with the answer.""",
        _of_build_preferences,
    ),
    "inspect-data": Verb(
        "harness.commands.data.inspect_data",
        "show what preference data holds: format, lengths, bias, doubles",
        """a SOURCE is
  pairs.jsonl               a file: jsonl, json, csv, tsv (also .gz), parquet
  folder#split              a folder of data files laid out as on the hub
  dataset_info.json#name    an entry of LLaMA-Factory
  hub:owner/name@rev#split  a data set of the hub; /FOLDER, :SUBSET before @
  embedded:set/split        data that ships with the project
With several, prompts found in more than one are counted.

examples:
  python -m harness inspect-data pairs.jsonl
  python -m harness inspect-data train.jsonl test.jsonl --samples 0
  python -m harness inspect-data hub:Anthropic/hh-rlhf#test --first 1000
  python -m harness inspect-data data/dataset_info.json#dpo_zh_demo --json
  python -m harness inspect-data embedded:constraint-pairs/train \\
    --model embedded:smollm2-135m-instruct
  python -m harness inspect-data pairs.jsonl --learnability --samples 0

--learnability trains 16 DPO steps of 4 pairs (LoRA r16, beta 0.1) and gives the
reward accuracy on held-out pairs, with its interval. The figure is kept by data
and model: run-matrix warns where its upper bound is below .55.""",
        (
            argument("sources", metavar="SOURCE", nargs="+", help="see below"),
            argument(
                "--model",
                metavar="MODEL",
                help="directory, hub id or embedded:...: lengths in tokens, prompt perplexity",
            ),
            argument("--learnability", action="store_true", help=f"see below (default model: {DEFAULT_MODEL})"),
            argument(
                "--heldout",
                metavar="SOURCE",
                help="pairs for --learnability to evaluate on (default: split off each SOURCE)",
            ),
            argument("--first", type=whole(1), metavar="N", help="read N rows of each source and no further"),
            argument("--samples", type=whole(0), default=3, metavar="N", help="pairs shown (default: %(default)s)"),
            argument("--seed", type=whole(0), default=0, help="of the samples (default: %(default)s)"),
            JSON,
        ),
    ),
    "import-llamafactory": Verb(
        "harness.commands.data.import_config",
        "turn a training YAML of LLaMA-Factory into a matrix file",
        _IMPORT
        + examples(
            "import-llamafactory llama3_lora_dpo.yaml",
            "import-llamafactory dpo.yaml --output study.yaml",
            "import-llamafactory dpo.yaml --dataset-dir ../data",
        ),
        (
            *_IMPORT_ARGUMENTS,
            argument("--dataset-dir", type=Path, metavar="DIR", help="the folder that holds dataset_info.json"),
        ),
    ),
    "import-trl": Verb(
        "harness.commands.data.import_config",
        "turn a YAML of TRL or alignment-handbook into a matrix file",
        _IMPORT + examples("import-trl dpo_config.yaml", "import-trl dpo_config.yaml --output study.yaml --force"),
        (
            *_IMPORT_ARGUMENTS,
            argument(
                "--method",
                choices=("dpo", "simpo", "orpo", "kto"),
                help="the trainer it is for (default: as it says, else dpo)",
            ),
        ),
    ),
}

__all__ = ["learnability"]

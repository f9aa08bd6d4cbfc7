"""TRL's collator with the columns that the loss needs beside TRL's own."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from trl.trainer.dpo_trainer import DataCollatorForPreference

#: TRL's collated tensors by name.
Batch = dict[str, Tensor]
#: Columns of the dataset that go with a pair into the loss, beside TRL's own.
PAIR_COLUMNS = ("example_index", "pair_beta", "rule_columns", "ref_entropy", "prompt_words")


@dataclass
class PairCollator:
    """TRL's collator plus what `PAIR_COLUMNS` names: example_index and pair_beta (B,), rule_columns (B, k), ref_entropy (B, 2)
    and prompt_words (B, L)."""

    inner: DataCollatorForPreference

    @classmethod
    def around(cls, collator: Any) -> "PairCollator":
        """`collator` itself where it is a `PairCollator`, else one around it."""
        return collator if isinstance(collator, cls) else cls(collator)

    def __call__(self, examples: Sequence[Mapping[str, Any]]) -> Batch:
        batch: Batch = self.inner(examples)
        given = [name for name in PAIR_COLUMNS if name in examples[0] and name != "prompt_words"]
        batch |= {name: torch.tensor([example[name] for example in examples]) for name in given}
        if "prompt_words" in examples[0]:
            words = torch.zeros(len(examples), batch["input_ids"].size(1), dtype=torch.bool)
            for row, example in zip(words, examples, strict=True):
                if len(example["prompt_words"]) != len(example["prompt_ids"]):
                    raise ValueError("the prompt's words do not line up with its tokens; set ppl_tokens: all")
                flags = torch.tensor(example["prompt_words"][: len(row)], dtype=torch.bool)
                row[: len(flags)] = flags
            batch["prompt_words"] = words
        return batch

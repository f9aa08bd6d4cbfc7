"""Preference data as it is found: formats, sources, mixtures and splits. Nothing here imports torch."""

from __future__ import annotations

from trainers.formats.load import Loaded, Part, load_mixture, load_source, to_jsonl
from trainers.formats.readers.alpaca import ALPACA
from trainers.formats.readers.hh_rlhf import HH_RLHF
from trainers.formats.readers.kto import KTO
from trainers.formats.readers.sharegpt import MESSAGES, SHAREGPT
from trainers.formats.readers.trl import TRL
from trainers.formats.readers.ultrafeedback import BINARIZED, SCORED
from trainers.formats.registry import Format, detect, formats, register_format
from trainers.formats.split import split_by_prompt

__all__ = [
    "Format",
    "Loaded",
    "Part",
    "detect",
    "formats",
    "load_mixture",
    "load_source",
    "register_format",
    "split_by_prompt",
    "to_jsonl",
]

# The more specific first: where several formats match a row, the first one reads it.
for _form in (HH_RLHF, SCORED, BINARIZED, KTO, SHAREGPT, MESSAGES, ALPACA, *TRL):
    register_format(_form)

"""Preference data as it is found: formats, sources, mixtures and splits. Nothing here imports torch."""

from __future__ import annotations

from trainers.formats.load import Loaded, Part, load_mixture, load_source, to_jsonl
from trainers.formats.readers import alpaca, hh_rlhf, kto, sharegpt, trl, ultrafeedback
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

# The more specific first: where several formats recognise a row, the first one reads it.
for _module in (hh_rlhf, ultrafeedback, kto, sharegpt, alpaca, trl):
    _module.register()

"""Preference data as it is found: formats, sources, mixtures and splits. Nothing here imports torch."""

from trainers.formats.load import Loaded, Part, load_mixture, load_pairs, load_source, to_jsonl
from trainers.formats.pairs import PreferencePair, subset
from trainers.formats.registry import Format
from trainers.formats.source import FORMATS, detect
from trainers.formats.split import split_by_prompt

__all__ = [
    "FORMATS",
    "Format",
    "Loaded",
    "Part",
    "PreferencePair",
    "detect",
    "inspect",
    "load_mixture",
    "load_pairs",
    "load_source",
    "prompt_words",
    "single",
    "split_by_prompt",
    "subset",
    "to_jsonl",
    "tokens",
]

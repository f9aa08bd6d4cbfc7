"""Constraints that count: sentences, words, paragraphs, bullets, repetitions of a word."""

from __future__ import annotations

import re
from typing import ClassVar

from evals.constraints.registry import Args, Arguments, Constraint, choice_arg, count_arg, register, text_arg
from evals.constraints.text import count_phrase, lines, paragraphs, sentences, words

_BULLET = re.compile(r"^[-*] +\S")
_PHRASES = {"at_least": "at least", "at_most": "at most", "exactly": "exactly"}


def _holds(found: int, args: Args) -> bool:
    relation, n = args["relation"], args["n"]
    return bool(found >= n if relation == "at_least" else found <= n if relation == "at_most" else found == n)


def _plural(n: int, noun: str) -> str:
    return f"{n} {noun}" if n == 1 else f"{n} {noun}s"


@register("number_sentences")
class NumberSentences(Constraint):
    """At least, at most or exactly n sentences."""

    arguments: ClassVar[Arguments] = {"relation": choice_arg("at_least", "at_most", "exactly"), "n": count_arg()}

    def describe(self, args: Args) -> str:
        return f"Answer in {_PHRASES[args['relation']]} {_plural(args['n'], 'sentence')}."

    def check(self, text: str, args: Args) -> bool:
        return _holds(len(sentences(text)), args)


@register("number_words")
class NumberWords(Constraint):
    """At least or at most n words; a Han character or kana counts as one word."""

    arguments: ClassVar[Arguments] = {"relation": choice_arg("at_least", "at_most"), "n": count_arg()}

    def describe(self, args: Args) -> str:
        return f"Use {_PHRASES[args['relation']]} {_plural(args['n'], 'word')}."

    def check(self, text: str, args: Args) -> bool:
        return _holds(len(words(text)), args)


@register("number_paragraphs")
class NumberParagraphs(Constraint):
    """Exactly n paragraphs, separated by blank lines."""

    arguments: ClassVar[Arguments] = {"n": count_arg()}

    def describe(self, args: Args) -> str:
        return f"Write exactly {_plural(args['n'], 'paragraph')}, separated by blank lines."

    def check(self, text: str, args: Args) -> bool:
        return bool(len(paragraphs(text)) == args["n"])


@register("bullets")
class Bullets(Constraint):
    """Exactly n lines that start with "- " or "* "; other lines are allowed."""

    arguments: ClassVar[Arguments] = {"n": count_arg()}

    def describe(self, args: Args) -> str:
        return f'Include exactly {_plural(args["n"], "bullet point")}, each on a line that starts with "- " or "* ".'

    def check(self, text: str, args: Args) -> bool:
        return bool(sum(_BULLET.match(line) is not None for line in lines(text)) == args["n"])


@register("word_frequency")
class WordFrequency(Constraint):
    """A word occurs at least n times, as a whole word, ignoring case."""

    arguments: ClassVar[Arguments] = {"word": text_arg(), "n": count_arg()}

    def describe(self, args: Args) -> str:
        return f'Use the word "{args["word"]}" at least {_plural(args["n"], "time")}.'

    def check(self, text: str, args: Args) -> bool:
        return bool(count_phrase(text, args["word"]) >= args["n"])

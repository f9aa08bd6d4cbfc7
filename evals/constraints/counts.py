"""Constraints that count: sentences, words, paragraphs, bullets, repetitions of a word."""

import re
from typing import ClassVar

from evals.constraints.registry import Args, Arguments, Constraint, choice_arg, count_arg, register, text_arg
from evals.constraints.text import count_phrase, lines, paragraphs, sentences, words

_BULLET = re.compile(r"^[-*] +\S")


def _holds(found: int, args: Args) -> bool:
    relation, n = args["relation"], args["n"]
    return bool(found >= n if relation == "at_least" else found <= n if relation == "at_most" else found == n)


@register("number_sentences")
class NumberSentences(Constraint):
    """At least, at most or exactly n sentences."""

    arguments: ClassVar[Arguments] = {"relation": choice_arg("at_least", "at_most", "exactly"), "n": count_arg()}
    instruction = "Answer in {relation} {n} sentence{s}."

    def check(self, text: str, args: Args) -> bool:
        return _holds(len(sentences(text)), args)


@register("number_words")
class NumberWords(Constraint):
    """At least or at most n words; a Han character or kana counts as one word."""

    arguments: ClassVar[Arguments] = {"relation": choice_arg("at_least", "at_most"), "n": count_arg()}
    instruction = "Use {relation} {n} word{s}."

    def check(self, text: str, args: Args) -> bool:
        return _holds(len(words(text)), args)


@register("number_paragraphs")
class NumberParagraphs(Constraint):
    """Exactly n paragraphs, separated by blank lines."""

    arguments: ClassVar[Arguments] = {"n": count_arg()}
    instruction = "Write exactly {n} paragraph{s}, separated by blank lines."

    def check(self, text: str, args: Args) -> bool:
        return bool(len(paragraphs(text)) == args["n"])


@register("bullets")
class Bullets(Constraint):
    """Exactly n lines that start with "- " or "* "; other lines are allowed."""

    arguments: ClassVar[Arguments] = {"n": count_arg()}
    instruction = 'Include exactly {n} bullet point{s}, each on a line that starts with "- " or "* ".'

    def check(self, text: str, args: Args) -> bool:
        return bool(sum(_BULLET.match(line) is not None for line in lines(text)) == args["n"])


@register("word_frequency")
class WordFrequency(Constraint):
    """A word occurs at least n times, as a whole word, ignoring case."""

    arguments: ClassVar[Arguments] = {"word": text_arg(), "n": count_arg()}
    instruction = 'Use the word "{word}" at least {n} time{s}.'

    def check(self, text: str, args: Args) -> bool:
        return bool(count_phrase(text, args["word"]) >= args["n"])

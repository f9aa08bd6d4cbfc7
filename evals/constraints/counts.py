"""Constraints that count: sentences, words, paragraphs, bullets, repetitions of a word."""

import re

from evals.constraints.registry import Args, builtin, choice_arg, count_arg, text_arg
from evals.constraints.text import count_phrase, lines, paragraphs, sentences, words

_BULLET = re.compile(r"^[-*] +\S")


def _holds(found: int, args: Args) -> bool:
    relation, n = args["relation"], args["n"]
    return bool(found >= n if relation == "at_least" else found <= n if relation == "at_most" else found == n)


@builtin("Answer in {relation} {n} sentence{s}.", relation=choice_arg("at_least", "at_most", "exactly"), n=count_arg())
def number_sentences(text: str, args: Args) -> bool:
    """At least, at most or exactly n sentences."""
    return _holds(len(sentences(text)), args)


@builtin("Use {relation} {n} word{s}.", relation=choice_arg("at_least", "at_most"), n=count_arg())
def number_words(text: str, args: Args) -> bool:
    """At least or at most n words; a Han character or kana counts as one word."""
    return _holds(len(words(text)), args)


@builtin("Write exactly {n} paragraph{s}, separated by blank lines.", n=count_arg())
def number_paragraphs(text: str, args: Args) -> bool:
    """Exactly n paragraphs, separated by blank lines."""
    return bool(len(paragraphs(text)) == args["n"])


@builtin('Include exactly {n} bullet point{s}, each on a line that starts with "- " or "* ".', n=count_arg())
def bullets(text: str, args: Args) -> bool:
    """Exactly n lines that start with "- " or "* "; other lines are allowed."""
    return bool(sum(_BULLET.match(line) is not None for line in lines(text)) == args["n"])


@builtin('Use the word "{word}" at least {n} time{s}.', word=text_arg(), n=count_arg())
def word_frequency(text: str, args: Args) -> bool:
    """A word occurs at least n times, as a whole word, ignoring case."""
    return bool(count_phrase(text, args["word"]) >= args["n"])

"""Constraints on wording: words that must or must not occur, commas, letters, digits, first and last words."""

import re
import unicodedata

from evals.constraints.registry import Args, builtin, text_arg, texts_arg
from evals.constraints.text import contains_phrase, normalise


def _words(args: Args) -> str:
    """`the word "a"`, or `the words "a", "b" and "c"`."""
    *first, last = (f'"{word}"' for word in args["words"])
    return f"the words {', '.join(first)} and {last}" if first else f"the word {last}"


@builtin(lambda args: f"Use {_words(args)}.", words=texts_arg())
def required_words(text: str, args: Args) -> bool:
    """Every given word occurs as a whole word, ignoring case ("dogs" is not "dog")."""
    return all(contains_phrase(text, word) for word in args["words"])


@builtin(lambda args: f"Do not use {_words(args)}.", words=texts_arg())
def forbidden_words(text: str, args: Args) -> bool:
    """None of the given words occurs as a whole word, ignoring case."""
    return not any(contains_phrase(text, word) for word in args["words"])


@builtin("Do not use any commas.")
def no_commas(text: str, args: Args) -> bool:
    """No comma of any script ("," "，" "、" "،" ...), also not inside numbers."""
    return not any(
        unicodedata.category(character) == "Po" and "COMMA" in unicodedata.name(character, "").split()
        for character in text
    )


def _letters(args: Args) -> str:
    noun = "letter" if len(args["sequence"]) == 1 else "letter sequence"
    return f'Do not use the {noun} "{args["sequence"]}" anywhere.'


@builtin(_letters, sequence=text_arg())
def no_letter_sequence(text: str, args: Args) -> bool:
    """The given letter or letter sequence occurs nowhere, not even inside a word, ignoring case."""
    return normalise(args["sequence"]).casefold() not in normalise(text).casefold()


@builtin("Include at least one number written in digits.")
def contains_digit(text: str, args: Args) -> bool:
    """At least one decimal digit of any script."""
    return any(character.isdecimal() for character in text)


@builtin("Do not use any digits.")
def no_digits(text: str, args: Args) -> bool:
    """No decimal digit of any script."""
    return not any(character.isdecimal() for character in text)


def _folded(text: str) -> str:
    return normalise(text).strip().casefold()


@builtin('Start your answer with "{text}".', text=text_arg())
def start_with(text: str, args: Args) -> bool:
    """The answer begins with the given text, ignoring case and leading white space; a word must end there."""
    wanted = _folded(args["text"])
    boundary = r"(?!\w)" if re.search(r"[A-Za-z0-9]$", wanted) else ""
    return re.match(re.escape(wanted) + boundary, _folded(text)) is not None


@builtin('End your answer with "{text}" and nothing after it.', text=text_arg())
def end_with(text: str, args: Args) -> bool:
    """The answer ends with the given text, ignoring case and trailing white space; nothing may follow it."""
    wanted = _folded(args["text"])
    boundary = r"(?<!\w)" if re.match(r"[A-Za-z0-9]", wanted) else ""
    return re.search(boundary + re.escape(wanted) + r"\Z", _folded(text)) is not None

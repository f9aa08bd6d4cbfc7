"""Constraints on wording: words that must or must not occur, commas, letters, digits, first and last words."""

import re
import unicodedata
from collections.abc import Sequence
from typing import ClassVar

from evals.constraints.registry import Args, Arguments, Constraint, register, text_arg, texts_arg
from evals.constraints.text import contains_phrase, normalise


def _quoted(items: Sequence[str]) -> str:
    names = [f'"{item}"' for item in items]
    return names[0] if len(names) == 1 else ", ".join(names[:-1]) + " and " + names[-1]


@register("required_words")
class RequiredWords(Constraint):
    """Every given word occurs as a whole word, ignoring case ("dogs" is not "dog")."""

    arguments: ClassVar[Arguments] = {"words": texts_arg()}

    def describe(self, args: Args) -> str:
        return f"Use the word{'s' if len(args['words']) > 1 else ''} {_quoted(args['words'])}."

    def check(self, text: str, args: Args) -> bool:
        return all(contains_phrase(text, word) for word in args["words"])


@register("forbidden_words")
class ForbiddenWords(Constraint):
    """None of the given words occurs as a whole word, ignoring case."""

    arguments: ClassVar[Arguments] = {"words": texts_arg()}

    def describe(self, args: Args) -> str:
        return f"Do not use the word{'s' if len(args['words']) > 1 else ''} {_quoted(args['words'])}."

    def check(self, text: str, args: Args) -> bool:
        return not any(contains_phrase(text, word) for word in args["words"])


@register("no_commas")
class NoCommas(Constraint):
    """No comma of any script ("," "，" "、" "،" ...), also not inside numbers."""

    instruction = "Do not use any commas."

    def check(self, text: str, args: Args) -> bool:
        return not any(
            unicodedata.category(character) == "Po" and "COMMA" in unicodedata.name(character, "").split()
            for character in text
        )


@register("no_letter_sequence")
class NoLetterSequence(Constraint):
    """The given letter or letter sequence occurs nowhere, not even inside a word, ignoring case."""

    arguments: ClassVar[Arguments] = {"sequence": text_arg()}

    def describe(self, args: Args) -> str:
        noun = "letter" if len(args["sequence"]) == 1 else "letter sequence"
        return f'Do not use the {noun} "{args["sequence"]}" anywhere.'

    def check(self, text: str, args: Args) -> bool:
        return normalise(args["sequence"]).casefold() not in normalise(text).casefold()


@register("contains_digit")
class ContainsDigit(Constraint):
    """At least one decimal digit of any script."""

    instruction = "Include at least one number written in digits."

    def check(self, text: str, args: Args) -> bool:
        return any(character.isdecimal() for character in text)


@register("no_digits")
class NoDigits(Constraint):
    """No decimal digit of any script."""

    instruction = "Do not use any digits."

    def check(self, text: str, args: Args) -> bool:
        return not any(character.isdecimal() for character in text)


@register("start_with")
class StartWith(Constraint):
    """The answer begins with the given text, ignoring case and leading white space; a word must end there."""

    arguments: ClassVar[Arguments] = {"text": text_arg()}
    instruction = 'Start your answer with "{text}".'

    def check(self, text: str, args: Args) -> bool:
        wanted = normalise(args["text"]).strip().casefold()
        answer = normalise(text).strip().casefold()
        boundary = r"(?!\w)" if re.search(r"[A-Za-z0-9]$", wanted) else ""
        return re.match(re.escape(wanted) + boundary, answer) is not None


@register("end_with")
class EndWith(Constraint):
    """The answer ends with the given text, ignoring case and trailing white space; nothing may follow it."""

    arguments: ClassVar[Arguments] = {"text": text_arg()}
    instruction = 'End your answer with "{text}" and nothing after it.'

    def check(self, text: str, args: Args) -> bool:
        wanted = normalise(args["text"]).strip().casefold()
        answer = normalise(text).strip().casefold()
        boundary = r"(?<!\w)" if re.match(r"[A-Za-z0-9]", wanted) else ""
        return re.search(boundary + re.escape(wanted) + r"\Z", answer) is not None

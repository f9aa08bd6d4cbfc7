"""How answers are cut into words, sentences, lines and paragraphs, for Latin and Chinese or Japanese text alike.

Words: maximal runs of letters, marks and digits, joined across an inner apostrophe, hyphen, or a point or comma between
digits ("don't", "well-known", "3.5" are one word each). Every Han character and kana is a word of its own, as scripts
without spaces have no cheaper exact rule.

Sentences: closed by . ! ? … or their full-width forms 。！？｡．, also followed by closing quotes or brackets. An ASCII
terminator needs white space or the end after it ("3.5", "example.com" close nothing); a full-width one does not.
Abbreviations ("e.g.", "Dr."), initials ("J. Doe") and list numbers ("1. ") close nothing. A blank line, and a line
break before a list item, close a sentence too. A last fragment without terminator counts; pieces without a word do not.
"""

import re
import unicodedata

_LONE = "぀-ヿㇰ-ㇿ㐀-䶿一-鿿豈-﫿\U00020000-\U0003ffff"
_LETTER = rf"[^\W_{_LONE}]"
# Combining marks (Devanagari vowels, decomposed accents) are not \w but belong to the word they modify.
_MARK = "[̀-ͯऀ-ःऺ-ॏًْ-ٰٟ]"
_RUN = rf"{_LETTER}(?:{_LETTER}|{_MARK})*"
_WORD = re.compile(rf"[{_LONE}]|{_RUN}(?:(?:['’ʼ‐‑-]|(?<=\d)[.,](?=\d)){_RUN})*")

_TERMINATOR = re.compile(r"[.!?…。！？｡．]+[\"'”’»)\]」』）】*_]*")
_FULL_WIDTH = frozenset("。！？｡．")
_BLOCK = re.compile(r"\n[^\S\n]*\n|\n(?=[^\S\n]*(?:[-*•]|\d{1,3}[.)])[^\S\n])")
_LIST_NUMBER = re.compile(r"^\s*\d{1,3}$")
# Never the last word of a sentence.
_ABBREVIATIONS = frozenset(
    {
        "e.g",
        "i.e",
        "cf",
        "vs",
        "mr",
        "mrs",
        "ms",
        "dr",
        "prof",
        "st",
        "sr",
        "sra",
        "no",
        "nr",
        "fig",
        "eq",
        "vol",
        "approx",
        "bzw",
        "z.b",
        "d.h",
        "u.a",
        "p.ej",
        "p.ex",
    }
)
# Close a sentence only where the next one visibly begins.
_MAYBE_LAST = frozenset(
    {
        "etc",
        "a.m",
        "p.m",
        "u.s",
        "u.k",
        "u.s.a",
        "u.n",
        "ph.d",
        "inc",
        "ltd",
        "co",
        "corp",
        "jr",
        "usw",
        "al",
        "b.c",
        "a.d",
        "b.c.e",
        "c.e",
    }
)


def normalise(text: str) -> str:
    """NFC with Unix line ends, so that composed and decomposed accents compare equal."""
    return unicodedata.normalize("NFC", text.replace("\r\n", "\n").replace("\r", "\n"))


def is_empty(text: str) -> bool:
    """True for an answer without any letter or digit (white space, punctuation and emoji alone say nothing)."""
    return not any(character.isalnum() for character in text)


def words(text: str) -> list[str]:
    """The words in order; see the module docstring for the rule."""
    return _WORD.findall(normalise(text))


def word_spans(text: str) -> list[tuple[int, int]]:
    """Start and end of every word in ``text`` as given (not normalised)."""
    return [match.span() for match in _WORD.finditer(text)]


def lines(text: str) -> list[str]:
    """Lines that hold something visible, stripped."""
    return [line.strip() for line in normalise(text).split("\n") if line.strip()]


def paragraphs(text: str) -> list[str]:
    """Blocks separated by blank lines, empty ones left out."""
    return [block.strip() for block in re.split(r"\n[^\S\n]*\n", normalise(text)) if block.strip()]


def sentences(text: str) -> list[str]:
    """The sentences in order, stripped; see the module docstring for the rule."""
    found: list[str] = []
    for block in _BLOCK.split(normalise(text)):
        start = 0
        for match in _TERMINATOR.finditer(block):
            if _closes(block, start, match):
                found.append(block[start : match.end()])
                start = match.end()
        found.append(block[start:])
    return [piece.strip() for piece in found if not is_empty(piece)]


def _closes(block: str, start: int, match: re.Match[str]) -> bool:
    mark, rest = match.group(), block[match.end() :]
    if not any(character in _FULL_WIDTH for character in mark) and rest and not rest[0].isspace():
        return False
    following = rest.lstrip()
    if not mark.startswith(".") or mark.startswith(".."):
        # "Wait… what" and "wait... what" go on; a capital, an opening mark or the end closes.
        dots = mark.startswith(("..", "…"))
        return not (dots and following[:1].islower())
    before = block[start : match.start()]
    if _LIST_NUMBER.match(before):
        return False
    last = before.split()[-1].lstrip("\"'“‘«([*_") if before.split() else ""
    folded = last.casefold()
    if folded in _ABBREVIATIONS:
        # "no. 5" is an abbreviation, "I said no." is not.
        return folded == "no" and not following[:1].isdigit()
    if folded in _MAYBE_LAST:
        return not following or not (following[0].islower() or following[0].isdigit())
    initial = len(last) == 1 and last.isupper() and last != "I" and last.isascii()
    return not (initial and following and following[0].isupper())


def contains_phrase(text: str, phrase: str) -> bool:
    """Whether ``phrase`` occurs as whole words, ignoring case; next to Han or kana no boundary is asked for."""
    return count_phrase(text, phrase) > 0


def count_phrase(text: str, phrase: str) -> int:
    """How often ``phrase`` occurs as whole words, ignoring case (see ``contains_phrase``)."""
    folded = normalise(phrase).strip().casefold()
    left = r"(?<!\w)" if re.match(_LETTER, folded) else ""
    right = r"(?!\w)" if re.search(rf"{_LETTER}$", folded) else ""
    # Latin words may touch Han characters without a space ("使用Python编程"), which \w would refuse.
    left = left.replace(r"\w", _LETTER)
    right = right.replace(r"\w", _LETTER)
    return len(re.findall(left + re.escape(folded) + right, normalise(text).casefold()))

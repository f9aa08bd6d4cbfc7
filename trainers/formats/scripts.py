"""What a text is made of: words, writing systems, and signs that its encoding went wrong."""

import re
import unicodedata
from collections import Counter
from functools import lru_cache

# Han and kana, and the scripts of South-East Asia that write without spaces: each character counts as a word.
_LONE = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff"
    "\u3040-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
)
_WORD = re.compile(
    rf"[{_LONE}]|(?:(?![{_LONE}])[\w\u0300-\u036f\u0900-\u0dff\u064b-\u0652])+(?:['’](?:(?![{_LONE}])\w)+)*"
)
_NAMES = {"CJK": "Han", "IDEOGRAPHIC": "Han", "FULLWIDTH": "Latin", "HALFWIDTH": "Katakana"}
#: A byte of UTF-8 that begins a character, then its other bytes, all shown as Windows-1252 or Latin-1 letters.
_MOJIBAKE = re.compile(r"[\u00c2-\u00f4][^\x00-\x7f]{1,3}")
#: What UTF-8's replacement character becomes when it is read as GBK: a well-known sight in Chinese data.
_GBK_REPLACED = "锟斤拷"
#: Characters spelt as HTML, left over from a web page.
_ENTITY = re.compile(r"&(?:amp|lt|gt|quot|apos|nbsp|#[0-9]{2,6}|#x[0-9a-fA-F]{2,5});")

#: Marks of turns and of the beginning and end of texts: ChatML, Llama 2 and 3, Gemma, Phi, DeepSeek, Alpaca, HH-RLHF, Vicuna.
MARKUP = re.compile(
    r"<\|[a-z][a-z0-9_]*\|>|<｜[^<>｜]{1,40}｜>|\[/?INST\]|<</?SYS>>|</?s>|<(?:start|end)_of_turn>|<(?:bos|eos)>"
    r"|^###\s?(?:Instruction|Response|Human|Assistant)\b|^(?:Human|Assistant|USER|ASSISTANT): ",
    re.MULTILINE,
)


def count_words(text: str) -> int:
    """Runs of letters and digits; characters of scripts without spaces count one each."""
    return sum(1 for _ in _WORD.finditer(text))


@lru_cache(maxsize=65536)
def _script(character: str) -> str | None:
    if not unicodedata.category(character).startswith("L"):
        return None
    name = unicodedata.name(character, "UNKNOWN").split()[0].split("-")[0]
    return _NAMES.get(name, name.capitalize())


def count_scripts(text: str) -> Counter[str]:
    """Letters by writing system (Latin, Han, Cyrillic, Arabic ...), by the first word of their Unicode names."""
    letters: Counter[str] = Counter()
    for character, n in Counter(text).items():
        script = _script(character)
        if script is not None:
            letters[script] += n
    return letters


def encoding_trouble(text: str) -> set[str]:
    """Which of `markup`, `replacement`, `mojibake`, `control`, `invisible` and `entity` a text shows.

    `markup`: what a chat template or a dialogue in one text puts around turns (see `MARKUP`).
    `replacement`: U+FFFD, where a decoder gave up. `mojibake`: UTF-8 that was read as Windows-1252, or GBK's trace of U+FFFD.
    `control`: control characters other than tab and line ends. `invisible`: byte-order marks, zero-width spaces, and
    characters that turn the direction of text (joiners are part of some scripts and of emoji). `entity`: characters spelt as
    HTML, such as &amp; (where a text is about HTML, that is no trouble).
    """
    found = {"entity"} if "&" in text and _ENTITY.search(text) else set[str]()
    if MARKUP.search(text):
        found.add("markup")
    if text.isascii() and text.isprintable():
        return found
    if "\ufffd" in text:
        found.add("replacement")
    if _GBK_REPLACED in text or any(map(_decodes, _MOJIBAKE.findall(text))):
        found.add("mojibake")
    for character in set(text):
        kind = unicodedata.category(character)
        if kind == "Cc" and character not in "\t\n\r":
            found.add("control")
        elif kind == "Cf" and character not in "\u200c\u200d\u00ad" and not "\U000e0000" <= character <= "\U000e007f":
            found.add("invisible")
    return found


def _decodes(run: str) -> bool:
    """Whether letters are the bytes of one character of UTF-8 (the run may be followed by letters of its own)."""
    for end in range(len(run), 1, -1):
        for encoding in ("cp1252", "latin-1"):
            try:
                run[:end].encode(encoding).decode("utf-8")
            except UnicodeError:
                continue
            return True
    return False

"""Product and documentation say things as the field does: phrases that read as translated, and what to say instead."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
#: Where people read: the four packages and the pages. The changelog tells of earlier versions in their own words.
PLACES = ("trainers", "evals", "reports", "harness")
SUFFIXES = {".py", ".md", ".yaml", ".yml", ".j2", ".html", ".js", ".css", ".json"}
#: Reports and data that commands made, and schemas made from docstrings that are read here themselves.
MADE = (
    "reports/example/",
    "trainers/data/",
    "evals/tasks/data/",
    "matrix.schema.json",
    "summary.schema.json",
    "harness/locks/",
)

#: A regular expression, and the direction to go. A space stands for any white space, also a line break with a comment mark.
INSTEAD = {
    "(made|begun|counted|written|built) anew": "regenerated, restarted",
    "made again": "regenerated, rewritten",
    "(damaged, )set aside (and|as)|damaged, set aside": "is corrupt: moved to FILE.corrupt, regenerating",
    "[Pp]olic(y|ies) on the way": "intermediate checkpoints",
    "(runs?|steps?|one) in work|was in work": "running, the interrupted run",
    "go(es|ing)? on (from|where|with the|under)|gone on (from|with)|[Gg]o on with": "resume, continue",
    "prefers? nothing": "rows without a preference",
    "stands? twice": "duplicate",
    "name of (its|their|your) own|own name of": "unique name",
    "told apart|tells? apart": "distinguishable",
    "spread to go by|nothing to go by": "all differences are equal; no interval",
    "have an inside": "so that the best one is not at the edge",
    "[Ss]eeds? by (itself|themselves)": "single seeds",
    "of no use any more": "has died; restarting it",
    "(loss of its node|of its node or process|failures?|failure that) may pass": "transient: will retry",
    "nothing is lost": "stopped safely",
    "The way in": "Getting started",
    "What comes out": "Output",
    "What it costs": "Performance",
    "Where do the disks go": "Why does it use so much disk space?",
    "[Tt]he price is plain": "name the limitation",
    "Because that announces": "reports effects that do not exist",
    "not attainable": "cannot reach p = 0.05",
    "least p\\b": "minimum possible p",
    "settles? nothing": "is not enough evidence",
    "nothing (here )?differs": "no method differs from another",
    "holds? (that|this|it|them) to account": "tests this",
    "says? nothing sensible": "untrained, meaningless output",
    "teach(es)? nothing": "has no training signal",
    "(is|are) no part of": "is not part of",
    "(is|are|was|were|be) mended": "fixed",
    "not taken over": "not imported",
    "are so no more": "are no longer",
    "came of it": "the result",
}


def texts() -> list[Path]:
    files = [*ROOT.glob("*.md"), *ROOT.glob(".github/*.md")]
    files += [path for place in PLACES for path in (ROOT / place).rglob("*") if path.suffix in SUFFIXES]
    names = {path: path.relative_to(ROOT).as_posix() for path in files if "node_modules" not in path.parts}
    answers = "reports/studies/"  # the reports there show what models wrote
    ours = {p: n for p, n in names.items() if not (n.startswith(answers) and n.endswith(".html"))}
    return sorted(p for p, name in ours.items() if name != "CHANGELOG.md" and not any(m in name for m in MADE))


def hits(text: str) -> list[tuple[int, str, str]]:
    """Line (from 1), what stands there, and the direction to go."""
    found = []
    for phrase, instead in INSTEAD.items():
        pattern = rf"(?<!\w)(?:{phrase})".replace(" ", r"(?:\s|\n\s*#|\"\s+f?\")+")
        for match in re.finditer(pattern, text):
            found.append((text[: match.start()].count("\n") + 1, " ".join(match[0].split()), instead))
    return sorted(found)


def test_phrases_are_found_across_lines_and_nothing_else() -> None:
    said = 'x = "damaged, set "\n    f"aside"; rows that prefer\n  nothing\n# made\n# anew'
    assert [(line, text) for line, text, _ in hits(said)] == [
        (1, 'damaged, set " f"aside'),
        (2, "prefer nothing"),
        (4, "made # anew"),
    ]
    assert not hits("Set aside an hour. It goes on. At least pairs. Regenerated; resumes from its last checkpoint.")
    assert len(texts()) > 200


@pytest.mark.parametrize("place", [*PLACES, ""], ids=[*PLACES, "pages"])
def test_no_phrase_that_reads_as_translated(place: str) -> None:
    left = []
    for path in texts():
        name = path.relative_to(ROOT).as_posix()
        if (name.split("/")[0] if name.split("/")[0] in PLACES else "") == place:
            left += [f"{name}:{n}: {t!r}; say: {say}" for n, t, say in hits(path.read_text(encoding="utf-8"))]
    assert not left, "\n" + "\n".join(left)

"""Claims: what a matrix file says it will show, written down and hashed before anything is trained.

Freezing has one purpose: the reader can tell a claim that could have failed from one that was chosen among the results.
"""

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainers.common.files import Json, now

if TYPE_CHECKING:
    from reports.schema.verdict import Assertion

#: What a claim asserts -> the comparisons that must all favour the method. "baseline" is the claim's `against`.
ASSERTIONS: dict["Assertion", tuple[str, ...]] = {
    "gain": ("baseline",),
    "variation": ("baseline", "matched_mean"),
    "perplexity": ("baseline", "matched_mean", "permuted"),
}
POINTS = ("final", "matched_kl")
_TEXTS = ("name", "method", "against", "metric")
#: Version 1 had no seeds and no looks, and its hash was that of the claims alone; version 2 had no `plan`.
SCHEMA_VERSION = 3
#: What a hash is over, by version.
_HASHED = {2: ("claims", "seeds", "looks"), 3: ("claims", "seeds", "looks", "plan")}
CLAIMS = "claims.json"


class ClaimError(ValueError):
    """A claim, or the file of frozen claims, does not say what it must."""


@dataclass(frozen=True, slots=True)
class Claim:
    """`method` is better than `against` on `metric` ("benchmark/metric") by an amount worth having.

    asserts: `gain` (it beats the baseline), `variation` (and a fixed beta of the same average), or `perplexity` (and its
        own betas shuffled over prompts).
    at: the trained policies as they are (`final`), or compared at equal KL to the reference (`matched_kl`).
    window: with `matched_kl`, the range of KL (nats an answer) over which the mean difference is taken, on the axis sqrt(KL) and
        only where both runs have been; without it the difference is that at the largest KL both reach.
    min_effect: smallest difference worth having, in the metric's unit; 0 asks for any difference.
    """

    name: str
    method: str
    against: str
    metric: str
    asserts: "Assertion" = "gain"
    at: str = "final"
    min_effect: float = 0.0
    window: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        if isinstance(self.window, list):  # as JSON and YAML have it
            object.__setattr__(self, "window", tuple(self.window))
        stated: dict[str, Any] = asdict(self)
        effect, known = stated["min_effect"], {"asserts": tuple(ASSERTIONS), "at": POINTS}
        number = isinstance(effect, (int, float)) and not isinstance(effect, bool) and math.isfinite(effect)
        problems = [
            *(
                f"{k} is {stated[k]!r}; it must be a text"
                for k in _TEXTS
                if not stated[k] or not isinstance(stated[k], str)
            ),
            *([] if "/" in str(self.metric) else [f"metric is {self.metric!r}; write it as benchmark/metric"]),
            *([f"method and against are both {self.method!r}; name two"] if self.method == self.against else []),
            *(
                f"{k} is {stated[k]!r}; known: {', '.join(names)}"
                for k, names in known.items()
                if stated[k] not in names
            ),
            *([] if self.window is None else self._window_problems()),
            *([] if number and effect >= 0 else [f"min_effect is {effect!r}; give a number of at least 0"]),
        ]
        if problems:
            raise ClaimError(f"claim {self.name!r}: {problems[0]}")

    @property
    def place(self) -> str:
        """Where the two are compared, in words."""
        window = " over {:g} to {:g} nats".format(*self.window) if self.window else ""
        return f"{self.metric} at matched KL{window}" if self.at == "matched_kl" else self.metric

    def _window_problems(self) -> list[str]:
        ends: Any = self.window
        numbers = isinstance(ends, tuple) and len(ends) == 2 and all(isinstance(v, (int, float)) for v in ends)
        if not numbers or not 0 <= ends[0] < ends[1] < math.inf:
            return [f"window is {ends!r}; give two rising numbers of nats, of at least 0"]
        return [] if self.at == "matched_kl" else [f"window is {ends!r} and at is {self.at!r}; set at: matched_kl"]


def measures_kl(evaluation: Mapping[str, Any], benchmark: str) -> bool:
    """Whether `evaluation` of a matrix file has KL and the benchmark at checkpoints of every run, so that runs can be matched."""
    kl = [one["name"] for one in evaluation.get("benchmarks") or [] if one.get("kind") == "kl"]
    kept = evaluation.get("checkpoint_benchmarks") or [*kl, benchmark]
    along = evaluation.get("checkpoints") and evaluation.get("checkpoint_seeds") is None
    return bool(along and benchmark.partition("@")[0] in kept and set(kl) & set(kept))


def parse_claims(rows: Sequence[Mapping[str, Any]]) -> list[Claim]:
    """Claims from the mappings of a matrix file.

    Raises:
        ClaimError: an unknown or missing key, a bad value, or a name used twice.
    """
    known = [f.name for f in fields(Claim)]
    claims: dict[str, Claim] = {}
    for number, row in enumerate(rows):
        where = f"claims[{number}]"
        if not isinstance(row, Mapping):
            raise ClaimError(f"{where} is {row!r}; it must be a mapping with {', '.join(known)}")
        if unknown := [key for key in row if key not in known]:
            raise ClaimError(f"{where}: unknown key {unknown[0]!r}; known: {', '.join(known)}")
        if lacking := [key for key in _TEXTS if key not in row]:
            raise ClaimError(f"{where}: {lacking[0]} is missing; add it")
        claim = Claim(**row)
        if claim.name in claims:
            raise ClaimError(f"{where}: duplicate claim name {claim.name!r}; names must be unique")
        claims[claim.name] = claim
    return list(claims.values())


def _row(claim: Claim) -> Json:
    return {**asdict(claim), "min_effect": float(claim.min_effect)}


def _hash(plan: Any) -> str:
    text = json.dumps(plan, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
    return hashlib.sha256(text.encode("ascii")).hexdigest()


def freeze(
    claims: Sequence[Claim],
    seeds: Sequence[int] = (),
    looks: Sequence[int] = (),
    plan: Mapping[str, str] | None = None,
) -> Json:
    """The content of claims.json: the claims, the seeds, at which numbers of seeds they are looked at, the rest of the
    analysis plan (a text by key), the sha256 of all that, and the time (UTC, whole seconds). Without `seeds` any are taken as
    declared."""
    rest = {"seeds": list(seeds), "looks": list(looks), "plan": dict(plan or {})}
    hashed = {"claims": [_row(claim) for claim in claims]} | rest
    return {"schema_version": SCHEMA_VERSION, "frozen": now(), "sha256": _hash(hashed), **hashed}


def undeclared(frozen: Mapping[str, Any], found: Sequence[int]) -> str | None:
    """Why claims of claims.json, whose hash `thaw` has checked, are exploratory on these seeds; None where they are as declared.

    Version 1 declared neither seeds nor looks.
    """
    declared, looks = frozen.get("seeds"), frozen.get("looks")
    if looks:
        planned = ", ".join(map(str, looks))
        return None if len(found) in looks else f"{len(found)} seeds is none of the declared looks ({planned} seeds)"
    added = [s for s in found if s not in declared] if declared else []
    if not added:
        return None
    return f"seed{'' if len(added) == 1 else 's'} {', '.join(map(str, added))} added after freezing, without declared looks"


def thaw(frozen: Mapping[str, Any]) -> tuple[list[Claim], datetime]:
    """The claims of claims.json, of either version, and when they were frozen.

    Raises:
        ClaimError: the file was changed after it was written, or is not such a file.
    """
    try:
        rows, digest = frozen["claims"], frozen["sha256"]
        time = datetime.fromisoformat(frozen["frozen"])
        version = frozen.get("schema_version", 1)
        same = _hash(list(rows) if version == 1 else {key: frozen[key] for key in _HASHED[version]}) == digest
    except (KeyError, TypeError, ValueError) as error:
        raise ClaimError(f"claims.json: not a file of frozen claims ({type(error).__name__}: {error})") from error
    if not same:
        raise ClaimError("claims.json: what it holds does not have the hash it states; it was changed after freezing")
    if time.tzinfo is None:
        raise ClaimError(f"claims.json: frozen is {frozen['frozen']!r}; a time without a zone says too little")
    return parse_claims(rows), time


def read_claims(root: Path) -> Json | None:
    """The content of a matrix's claims.json, or None if it has none.

    Raises:
        ClaimError: the file is not JSON.
    """
    path = root / CLAIMS
    if not path.is_file():
        return None
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, TypeError) as error:
        raise ClaimError(
            f"{path}: not JSON ({error}); restore it, or delete it and its runs to declare new claims"
        ) from None


def verify(frozen: Mapping[str, Any], claims: Sequence[Claim]) -> list[str]:
    """What has changed since freezing, one line each; empty when the claims are the frozen ones."""
    try:
        before, time = thaw(frozen)
    except ClaimError as error:
        return [str(error)]
    old, new = {c.name: _row(c) for c in before}, {c.name: _row(c) for c in claims}
    when = f"the claims were frozen at {time.isoformat()}"
    lines = [f"claim {name!r} was removed after {when}; it is judged as frozen" for name in old if name not in new]
    lines += [f"claim {name!r} was added after {when}; it is exploratory" for name in new if name not in old]
    for name in (name for name in old if name in new and old[name] != new[name]):
        keys = [f"{k} {v!r} -> {new[name][k]!r}" for k, v in old[name].items() if v != new[name][k]]
        lines.append(f"claim {name!r} was changed after {when} ({', '.join(keys)}); it is judged as frozen")
    return lines

"""A campaign: seeded kills and faults over a fast matrix; after each, a restart must end with the undisturbed results."""

from __future__ import annotations

import json
import random
import shutil
import time
from collections import Counter
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from tests.faults import compare, warm
from tests.faults.points import Fault

MATRIX = """\
name: faults
model: {name_or_path: "MODEL"}
data: {train: pairs.jsonl}
training:
  per_device_train_batch_size: 2
  max_steps: 4
  save_steps: 2
  learning_rate: 1e-3
  max_length: 128
  bf16: false
  gradient_checkpointing: false
methods:
  - {name: foodpo}
  - {name: mean, rule: matched_mean, parent: foodpo}
evaluation:
  engine: {backend: transformers, dtype: float32, max_model_len: 256}
  benchmarks: [{name: constraints, prompts: prompts.jsonl, max_new_tokens: 4}]
report: {baseline: mean, primary: constraints/gold_reward}
"""
#: Files damaged after a run, by kind.
ARTIFACTS = {
    "policy weights": "runs/*/policy/model.safetensors",
    "example metrics": "runs/*/example_metrics.parquet",
    "log history": "runs/*/log_history.json",
    "scores": "*/*/scores/*.json",
    "reference scores": "reference/scores/*.json",
    "generations": "runs/*/generations/*.jsonl",
    "status": "runs/*/status.json",
    "run record": "runs/*/run.json",
    "training pairs": "train_pairs-*.jsonl",
    "matrix record": "matrix.json",
}
DAMAGES = ("truncated", "emptied", "flipped", "zeroed", "deleted")


@dataclass
class Outcome:
    """One fault: what was done, where it struck, how both calls ended, and what differs from the undisturbed results."""

    number: int
    kind: str
    start: str
    what: str
    where: str = ""
    codes: tuple[int, int] | None = None
    differs: list[str] = field(default_factory=list)
    error: str = ""
    seconds: float = 0.0

    @property
    def good(self) -> bool:
        return not self.error and not self.differs and self.codes is not None and self.codes[1] == 0


class Campaign:
    """Undisturbed results, starting points, and the faults drawn from `seed`.

    Args:
        root: an empty folder to work in.
    """

    def __init__(self, root: Path, seed: int) -> None:
        from trainers.tiny import build_tiny_model

        self.root, self.seed = root, seed
        self.output = root / "out"  # always the same place, so that paths in files are alike
        model = root / "model"
        if not model.is_dir():
            _in_a_fork(lambda: build_tiny_model(model))
        self.config = root / "matrix.yaml"
        self.config.write_text(MATRIX.replace("MODEL", str(model)), encoding="utf-8")
        pairs = [{"id": f"p{i}", "prompt": f"say {i}", "chosen": "yes " * (1 + i), "rejected": "no"} for i in range(4)]
        prompts = [
            {"id": f"b{i}", "prompt": f"Say {i}.", "constraints": [{"kind": "no_commas", "args": {}}]} for i in range(3)
        ]
        for name, rows in (("pairs", pairs), ("prompts", prompts)):
            (root / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        self.points: dict[str, Counter[str]] = {}

    def prepare(self) -> None:
        """The undisturbed results, and the two states faults start from: nothing, and everything trained."""
        (self.root / "empty").mkdir()
        code, points = self._undisturbed("empty")
        assert code == 0, f"the undisturbed run failed; see {self.root}/undisturbed.log"
        self.points["empty"] = points
        self.expected = compare.results(self.output)
        shutil.copytree(self.output, self.root / "complete")
        self._undisturbed("empty")
        differs = compare.differences(self.expected, compare.results(self.output))
        assert not differs, f"the same matrix a second time gives other results: {differs}"
        self._begin("empty")
        self._run("trained", Fault("evaluate", 0, "crash"))
        shutil.copytree(self.output, self.root / "trained")
        code, points = self._undisturbed("trained")
        assert code == 0, f"the run from the trained state failed; see {self.root}/undisturbed.log"
        differs = compare.differences(self.expected, compare.results(self.output))
        assert not differs, f"evaluation on its own gives other results: {differs}"
        self.points["trained"] = points

    def _undisturbed(self, start: str) -> tuple[int, Counter[str]]:
        self._begin(start)
        code = self._run("undisturbed")
        lines = (self.root / "undisturbed.points").read_text(encoding="utf-8").splitlines()
        return code, Counter(line.split()[0] for line in lines)

    def _begin(self, start: str) -> None:
        shutil.rmtree(self.output, ignore_errors=True)
        shutil.copytree(self.root / start, self.output)

    def _run(self, name: str, fault: Fault | None = None, limit: int | None = None) -> int:
        for suffix in (".log", ".points", ".fired"):
            (self.root / name).with_suffix(suffix).unlink(missing_ok=True)
        arguments = ["run-matrix", str(self.config), "--output", str(self.output)]
        return warm.harness(arguments, self.output, self.root / f"{name}.log", fault, limit)

    def run(self, number: int) -> Outcome:
        """Fault `number`: disturb, start again, compare. A draw that strikes nothing is drawn anew."""
        random_ = random.Random(f"{self.seed}/{number}")
        while True:
            started = time.monotonic()
            outcome, struck = self._try(number, random_)
            outcome.seconds = time.monotonic() - started
            if struck or not outcome.good:
                return outcome

    def _try(self, number: int, random_: random.Random) -> tuple[Outcome, bool]:
        kind = random_.choices(("kill", "term", "int", "disk error", "size limit", "damage"), (34, 16, 16, 14, 6, 14))[
            0
        ]
        if kind == "damage":
            outcome, struck = self._damage(number, random_), True
        elif kind == "size limit":
            limit = int(2 ** random_.uniform(8, 16))
            start = random_.choice(("empty", "trained"))
            outcome = Outcome(number, kind, start, f"no file over {limit} bytes")
            self._begin(start)
            struck = self._disturb(outcome, None, limit) != 0
        else:
            outcome, fault = self._draw(number, kind, random_)
            self._begin(outcome.start)
            self._disturb(outcome, fault, None)
            struck = (self.root / "disturbed.fired").exists()
            points = (self.root / "disturbed.points").read_text(encoding="utf-8").splitlines()
            places = [line.split(" ", 2)[2] for line in points if line.startswith(f"{fault.role} {fault.point} ")]
            outcome.where = places[0] if places else "not reached"
        if not outcome.error:
            self._restart(outcome)
        return outcome, struck

    def _draw(self, number: int, kind: str, random_: random.Random) -> tuple[Outcome, Fault]:
        start = random_.choice(("empty", "trained"))
        role = random_.choice([role for role, count in sorted(self.points[start].items()) if count])
        act = {"disk error": random_.choice(("ENOSPC", "EIO")), "int": random_.choice(("int", "int", "int2"))}.get(
            kind, kind
        )
        # a worker gets SIGINT from a terminal only, and ignores it; SIGTERM and kills reach any process
        target = "main" if kind == "int" else random_.choice(("self", "main"))
        fault = Fault(role, random_.randrange(self.points[start][role]), act, target)
        to = "" if kind == "disk error" or act == "crash" else f" to {'main' if target == 'main' else role}"
        return Outcome(number, kind, start, f"{act}{to} at {role} {fault.point}"), fault

    def _disturb(self, outcome: Outcome, fault: Fault | None, limit: int | None) -> int:
        code = -1
        try:
            code = self._run("disturbed", fault, limit)
        except TimeoutError as error:
            outcome.error = str(error)
        outcome.codes = (code, -1)
        return code

    def damage_each(self) -> list[Outcome]:
        """Every kind of artifact, damaged once: found, and made anew."""
        outcomes = []
        for number, artifact in enumerate(ARTIFACTS):
            outcome = self._damage(number, random.Random(f"{self.seed}/{artifact}"), artifact)
            self._restart(outcome)
            outcomes.append(outcome)
        return outcomes

    def _damage(self, number: int, random_: random.Random, artifact: str | None = None) -> Outcome:
        self._begin("complete")
        artifact, damage = artifact or random_.choice(list(ARTIFACTS)), random_.choice(DAMAGES)
        path = random_.choice(sorted(self.output.glob(ARTIFACTS[artifact])))
        outcome = Outcome(
            number, "damage", "complete", f"{artifact} {damage}", str(path.relative_to(self.output)), (0, -1)
        )
        data = bytearray(path.read_bytes())
        at = random_.randrange(len(data))
        if damage == "deleted":
            path.unlink()
            return outcome
        if damage == "truncated":
            del data[at:]
        elif damage == "emptied":
            data.clear()
        elif damage == "flipped":
            data[at] ^= 1 << random_.randrange(8)
        else:
            data[at : at + 512] = bytes(len(data[at : at + 512]))
        path.write_bytes(data)
        return outcome

    def _restart(self, outcome: Outcome) -> None:
        first = outcome.codes[0] if outcome.codes else -1
        try:
            outcome.codes = (first, self._run("restarted"))
        except TimeoutError as error:
            outcome.error = str(error)
            return
        if outcome.codes[1] == 0:
            outcome.differs = compare.differences(self.expected, compare.results(self.output))
        if not outcome.good:
            for name in ("disturbed", "restarted"):
                log = self.root / f"{name}.log"
                if log.exists():
                    shutil.copy(log, self.root / f"fault-{outcome.number}-{name}.log")


def table(outcomes: list[Outcome]) -> str:
    """Faults and survivors by kind and start, as plain text."""
    lines = [f"{'fault':<12} {'start':<9} {'struck':>6} {'same results':>12}"]
    groups = sorted({(o.kind, o.start) for o in outcomes})
    for kind, start in groups:
        part = [o for o in outcomes if (o.kind, o.start) == (kind, start)]
        lines.append(f"{kind:<12} {start:<9} {len(part):>6} {sum(o.good for o in part):>12}")
    lines.append(f"{'all':<12} {'':<9} {len(outcomes):>6} {sum(o.good for o in outcomes):>12}")
    return "\n".join(lines)


def describe(outcome: Outcome) -> str:
    """One line about an outcome."""
    ended = outcome.error or (
        f"differs: {', '.join(outcome.differs[:4])}" if outcome.differs else f"exit {outcome.codes}"
    )
    mark = "ok  " if outcome.good else "FAIL"
    place = f" ({outcome.where})" if outcome.where else ""
    return f"{mark} {outcome.number:>4} {outcome.start:<8} {outcome.what}{place}: {ended} [{outcome.seconds:.0f}s]"


def as_record(outcome: Outcome) -> dict[str, Any]:
    return {**asdict(outcome), "good": outcome.good}


def _in_a_fork(work: Any) -> None:
    """Run `work` in a child, so that this process, which is forked from all the time, starts no threads."""
    import os

    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            work()
            code = 0
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0

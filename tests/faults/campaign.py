"""A campaign: seeded kills and faults over a fast matrix; after each, a restart must end with the undisturbed results."""

import random
import shutil
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.faults import compare, warm
from tests.faults.damage import ARTIFACTS, LOST, NEEDED_TO_TRAIN, damage
from tests.faults.outcome import Outcome
from tests.faults.points import Fault, stage_of
from tests.harness.small_matrix import PROMPTS, write_matrix

#: A learned head, its control, adapters, an intermediate checkpoint, answers and log-probs, a judge, and a claim.
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
lora: {r: 2, target_modules: all-linear}
methods:
  - {name: beta_head}
  - {name: mean, rule: matched_mean, parent: beta_head}
evaluation:
  engine: {backend: transformers, dtype: float32, max_model_len: 256}
  benchmarks:
    - {name: constraints, prompts: prompts.jsonl, max_new_tokens: 4}
    - {name: kl, kind: kl, prompts: prompts.jsonl, max_new_tokens: 4, samples: 1}
  checkpoints: [2]
  checkpoint_benchmarks: [constraints]
  judges: [{name: gold, kind: verifiable, checkpoints: true}]
report: {baseline: mean, primary: constraints/gold_reward}
claims: [{name: head-helps, method: beta_head, against: mean, metric: constraints/gold_reward}]
"""
#: Where a call starts from: nothing; a run in the middle, with a checkpoint; all trained; all evaluated.
STARTS = ("empty", "halfway", "trained", "evaluated")
#: Numbers of damage that is not drawn begin here.
FIRST_ARTIFACT = 10000
#: Kinds of faults and how often each is drawn.
KINDS = {"kill": 34, "term": 16, "int": 16, "disk error": 14, "size limit": 6, "damage": 14}


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
        prompts = [{**PROMPTS[0], "id": f"b{i}", "prompt": f"Say {i}."} for i in range(3)]
        self.config = write_matrix(root, MATRIX, model, prompts=prompts)
        self.points: dict[str, Counter[str]] = {}

    def prepare(self) -> None:
        """The undisturbed results, and the states faults start from; each of these must lead to the same results."""
        (self.root / "empty").mkdir()
        points = self._undisturbed("empty")
        self.expected = compare.results(self.output)
        shutil.copytree(self.output, self.root / "complete")
        self._undisturbed("empty")
        self._check("the same matrix a second time")
        sealed = next(
            int(p.split()[1]) for p in points if p.startswith("train ") and "/checksums.json" in p.replace("/.", "/")
        )
        late = 2
        while not list((self.root / "halfway").glob("runs/*/checkpoints/checkpoint-2/checksums.json")):
            shutil.rmtree(self.root / "halfway", ignore_errors=True)  # status files are written by the clock as well
            self._crash("empty", "halfway", Fault("train", sealed + late, "crash"))
            late += 2
        self._crash("halfway", "trained", Fault("evaluate", 0, "crash"))
        self._crash("trained", "evaluated", Fault("judge", 0, "crash"))
        for start in ("halfway", "trained", "evaluated"):
            self._undisturbed(start)
            self._check(f"the matrix from where it was {start}")

    def _crash(self, start: str, name: str, fault: Fault) -> None:
        self._begin(start)
        self._run("prepared", fault)
        shutil.copytree(self.output, self.root / name)

    def _check(self, what: str) -> None:
        differs = compare.differences(self.expected, compare.results(self.output))
        assert not differs, f"{what} gives other results: {differs}"

    def _undisturbed(self, start: str) -> list[str]:
        """A call without a fault; returns its points, a line each."""
        self._begin(start)
        code = self._run("undisturbed")
        assert code == 0, f"the undisturbed run from {start} failed; see {self.root}/undisturbed.log"
        lines = self._points("undisturbed")
        self.points[start] = Counter(line.split()[0] for line in lines)
        return lines

    def _points(self, name: str) -> list[str]:
        return (self.root / f"{name}.points").read_text(encoding="utf-8").splitlines()

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
        kind = random_.choices(list(KINDS), list(KINDS.values()))[0]
        if kind == "damage":
            outcome, struck = self._damage(number, random_, random_.choice(list(ARTIFACTS))), True
        elif kind == "size limit":
            limit = int(2 ** random_.uniform(8, 16))
            outcome = Outcome(number, kind, random_.choice(STARTS), f"no file over {limit} bytes", "any", "any")
            self._begin(outcome.start)
            struck = self._disturb(outcome, None, limit) != 0
        else:
            outcome, fault = self._draw(number, kind, random_)
            self._begin(outcome.start)
            self._disturb(outcome, fault, None)
            struck = (self.root / "disturbed.fired").exists()
            outcome.stage, outcome.where = stage_of(self._points("disturbed"), fault)
        if not outcome.error:
            self._restart(outcome)
        return outcome, struck

    def _draw(self, number: int, kind: str, random_: random.Random) -> tuple[Outcome, Fault]:
        """Every process is struck as often as any other, wherever the call starts from."""
        role = random_.choice(sorted({role for points in self.points.values() for role in points}))
        start = random_.choice([start for start in STARTS if self.points[start][role]])
        act = {"disk error": random_.choice(("ENOSPC", "EIO")), "int": random_.choice(("int", "int", "int2"))}.get(
            kind, kind
        )
        # a worker gets SIGINT from a terminal only, and ignores it; SIGTERM and kills reach any process
        target = "main" if kind == "int" else random_.choice(("self", "main"))
        fault = Fault(role, random_.randrange(self.points[start][role]), act, target)
        to = "" if kind == "disk error" or act == "crash" else f" to {'main' if target == 'main' else role}"
        return Outcome(number, kind, start, f"{act}{to} at {role} {fault.point}", role), fault

    def _disturb(self, outcome: Outcome, fault: Fault | None, limit: int | None) -> int:
        code = -1
        try:
            code = self._run("disturbed", fault, limit)
        except TimeoutError as error:
            outcome.error = str(error)
        outcome.codes = (code, -1)
        return code

    def damage_each(self, most: int) -> Iterator[Outcome]:
        """Every kind of artifact (`most` of them, drawn), damaged once: found, and made anew."""
        kinds = sorted(random.Random(self.seed).sample(list(ARTIFACTS), min(most, len(ARTIFACTS))))
        for number, artifact in enumerate(kinds, start=FIRST_ARTIFACT):
            started = time.monotonic()
            outcome = self._damage(number, random.Random(f"{self.seed}/{artifact}"), artifact)
            self._restart(outcome)
            outcome.seconds = time.monotonic() - started
            yield outcome

    def _damage(self, number: int, random_: random.Random, artifact: str) -> Outcome:
        start = "halfway" if artifact in NEEDED_TO_TRAIN else "complete"
        self._begin(start)
        path, how = damage(self.output, artifact, random_)
        where = str(path.relative_to(self.output))
        return Outcome(number, "damage", start, f"{artifact} {how}", "files", artifact, where, (0, -1))

    def _restart(self, outcome: Outcome) -> None:
        first = outcome.codes[0] if outcome.codes else -1
        try:
            outcome.codes = (first, self._run("restarted"))
        except TimeoutError as error:
            outcome.error = str(error)
            return
        if outcome.codes[1] == 0:
            outcome.differs = compare.differences(self.expected, compare.results(self.output))
            if outcome.stage in LOST:
                outcome.differs = [name for name in outcome.differs if name != outcome.where]
        if not outcome.good:
            for name in ("disturbed", "restarted"):
                log = self.root / f"{name}.log"
                if log.exists():
                    shutil.copy(log, self.root / f"fault-{outcome.number}-{name}.log")


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

"""Memory that runs out, and numbers that run away."""

import json
from pathlib import Path

import pytest
from safetensors.torch import load_file

from tests.trainers.helpers import make_job, make_pairs, rows_of, trained, weights_of
from trainers.run.job import Progress
from trainers.run.train import train
from trainers.trainer.recorded import DivergedError

HUNGRY = """
import torch
from trainers.rules.base import BetaRule
class Hungry(BetaRule):
    def __init__(self, hidden_size, pref_beta=0.1, most=2, from_step=1):
        super().__init__(pref_beta)
        self.most, self.from_step = most, from_step
    def beta(self, batch):
        if len(batch.log_ppl) > self.most and batch.step >= self.from_step:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return self.pref_beta + 0 * batch.log_ppl
"""

WILD = """
import torch
from trainers.rules.base import BetaRule
class Wild(BetaRule):
    def beta(self, batch):
        beta = torch.full_like(batch.log_ppl, self.pref_beta)
        return beta * float("{value}") if batch.step == 6 else beta
    def __init__(self, hidden_size, pref_beta=0.1):
        super().__init__(pref_beta)
"""


@pytest.mark.parametrize("from_step", [1, 4])
def test_out_of_memory_halves_the_micro_batch_and_keeps_the_global_batch(
    tiny_model: Path, tmp_path: Path, from_step: int
) -> None:
    path = tmp_path / "hungry.py"
    path.write_text(HUNGRY)
    notes: list[str] = []

    def watch(progress: Progress) -> None:
        if progress.note:
            notes.append(progress.note)

    training = {"per_device_train_batch_size": 8, "max_steps": 6, "save_steps": 2, "num_train_epochs": 3}
    params = {"pref_beta": 0.1, "most": 3, "from_step": from_step}
    job = make_job(tiny_model, tmp_path / "hungry", f"{path}:Hungry", params=params, run_id="hungry", training=training)
    result = train(job, make_pairs(), watch)
    assert (result["micro_batch"], result["gradient_accumulation_steps"]) == (2, 4)
    assert result["resumed_from_step"] == (0 if from_step == 1 else 2)
    assert [note.split(":")[0] for note in notes] == ["out of memory"] * 2
    assert "1/4" in notes[-1]

    plain = trained(tiny_model, tmp_path / "plain", training=training)
    frames = [rows_of(run).sort_values(["step", "example_id"]).reset_index(drop=True) for run in (job, plain)]
    assert frames[0][["step", "example_id"]].equals(frames[1][["step", "example_id"]])
    assert frames[0].delta.to_numpy() == pytest.approx(frames[1].delta.to_numpy(), abs=2e-2)
    left, right = weights_of(job), weights_of(plain)
    assert max(float((left[key] - right[key]).abs().max()) for key in left) < 1e-3


def test_out_of_memory_with_single_pairs_says_what_to_do(tiny_model: Path, tmp_path: Path) -> None:
    path = tmp_path / "hungry.py"
    path.write_text(HUNGRY)
    job = make_job(
        tiny_model, tmp_path / "run", f"{path}:Hungry", params={"pref_beta": 0.1, "most": 0}, run_id="hungry"
    )
    with pytest.raises(MemoryError, match=r"one pair in a micro-batch .*max_length"):
        train(job, make_pairs(), lambda _: None)


@pytest.mark.parametrize("value", ["nan", "inf"])
@pytest.mark.parametrize("logging_steps", [1, 5])
def test_divergence_stops_with_the_last_good_checkpoint(
    tiny_model: Path, tmp_path: Path, value: str, logging_steps: int
) -> None:
    path = tmp_path / "wild.py"
    path.write_text(WILD.format(value=value))
    training = {"max_steps": 12, "num_train_epochs": 3, "save_steps": 3, "logging_steps": logging_steps}
    job = make_job(tiny_model, tmp_path / "run", f"{path}:Wild", run_id="wild", training=training)
    with pytest.raises(
        DivergedError, match="at step 6; the last good checkpoint is from step 3; lower the learning rate"
    ):
        train(job, make_pairs(), lambda _: None)
    kept = sorted((job.run_dir / "checkpoints").glob("checkpoint-*"))
    assert [folder.name for folder in kept] == ["checkpoint-3"]
    weights = load_file(kept[0] / "model.safetensors")
    assert all(bool(value.isfinite().all()) for value in weights.values())
    state = json.loads((kept[0] / "trainer_state.json").read_text())
    assert state["global_step"] == 3 and not (job.run_dir / "train_result.json").exists()


def test_a_memory_that_is_really_limited(tiny_model: Path, tmp_path: Path) -> None:
    """An allocation of the CPU's allocator that fails is understood too."""
    import torch

    from trainers.run.memory import is_out_of_memory

    try:
        torch.empty(2**60)
    except RuntimeError as error:
        assert is_out_of_memory(error)
    else:
        pytest.skip("this machine grants any allocation")
    assert not is_out_of_memory(RuntimeError("shape mismatch"))

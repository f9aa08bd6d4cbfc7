"""Artifacts of a matrix, by kind, and ways to damage one."""

import random
from pathlib import Path

#: Kind -> files that are such. claims.json is not among them: what was declared before training must not be made anew.
ARTIFACTS = {
    "policy weights": "runs/*/policy/model.safetensors",
    "adapter": "runs/*/adapter/adapter_model.safetensors",
    "beta head": "runs/*/beta_head.safetensors",
    "beta probe": "runs/*/beta_probe.parquet",
    "checkpoint": "runs/*/checkpoints/checkpoint-2/*",
    "policy on the way": "runs/*/snapshots/step-2/adapter/adapter_model.safetensors",
    "example metrics": "runs/*/example_metrics.parquet",
    "log history": "runs/*/log_history.json",
    "training result": "runs/*/train_result.json",
    "scores": "runs/*/scores/constraints.json",
    "scores on the way": "runs/*/snapshots/step-2/scores/constraints.json",
    "reference scores": "reference/scores/*.json",
    "generations": "runs/*/generations/*.jsonl",
    "generations on the way": "runs/*/snapshots/step-2/generations/*.jsonl",
    "log-probs": "reference/logprobs/*.jsonl",
    "log-probs of a policy": "runs/*/logprobs/*.jsonl",
    "comparisons": "comparisons/*.jsonl",
    "judge record": "comparisons/*.json",
    "judge scores": "runs/*/scores/*@gold.json",
    "judgements": "shared/judgements.jsonl",
    "reference log-probs": "shared/reference/*/[!.]*",
    "status": "runs/*/status.json",
    "status on the way": "runs/*/snapshots/step-2/status.json",
    "run record": "runs/*/run.json",
    "training pairs": "train_pairs-*.jsonl",
    "matrix record": "matrix.json",
    "matrix file": "matrix.yaml",
}
#: Kinds damaged in the middle of a run, which goes on from them.
NEEDED_TO_TRAIN = ("checkpoint", "reference log-probs", "training pairs")
#: Kinds that nothing in a finished matrix reads, unless these files have to be made again; so they are removed as well.
READ_FOR = {"log-probs": "*/scores/*.json", "log-probs of a policy": "runs/*/scores/kl.json"}
#: Kinds that a finished matrix does not need any more and cannot make anew: it must do without them.
LOST = ("policy on the way", "judgements")
DAMAGES = ("truncated", "emptied", "flipped", "zeroed", "deleted")


def damage(output: Path, artifact: str, random_: random.Random) -> tuple[Path, str]:
    """Damage one file of a kind in one way; returns the file and what was done."""
    found = sorted(path for path in output.glob(ARTIFACTS[artifact]) if path.is_file() and path.stat().st_size)
    path = random_.choice(found)
    how, data = random_.choice(DAMAGES), bytearray(path.read_bytes())
    at = random_.randrange(len(data))
    for reader in output.glob(READ_FOR.get(artifact, "nothing")):
        reader.unlink()
    if how == "deleted":
        path.unlink()
        return path, how
    if how == "truncated":
        del data[at:]
    elif how == "emptied":
        data.clear()
    elif how == "flipped":
        data[at] ^= 1 << random_.randrange(8)
    else:
        data[at : at + 512] = bytes(len(data[at : at + 512]))
    path.write_bytes(data)
    return path, how

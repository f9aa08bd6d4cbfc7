"""One engine for six policies against six vLLM processes; generation against transformers' own generate.

`python -m tests.benchmarks.evals_engine HOW MODEL PROMPTS OUT` is what the processes of the comparison run.
"""

from __future__ import annotations

import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.benchmarks.measure import Measurement, finish
from trainers.common.jsonl import read_jsonl, write_jsonl

NAMES = ("evals.engine_vs_processes", "evals.engine_vs_tuned_processes", "evals.generate_vs_transformers")
_POLICIES, _PROMPTS, _NEW_TOKENS = 6, 64, 64
_MAX_MODEL_LEN = 512


def benchmark_prompts() -> list[dict[str, Any]]:
    import trainers

    path = Path(trainers.__path__[0]) / "data" / "constraint_pairs" / "benchmark_prompts.jsonl"
    return [{"id": row["id"], "prompt": row["prompt"]} for _, row in read_jsonl(path)[:_PROMPTS]]


def _write_prompts(path: Path) -> Path:
    write_jsonl(path, benchmark_prompts())
    return path


def _perturbed(base: Path, out: Path, seed: int) -> Path:
    """The checkpoint in `base` with every matrix moved by 1 % of its spread: six policies that answer differently."""
    import shutil

    import torch
    from safetensors.torch import load_file, save_file

    shutil.copytree(base, out, ignore=shutil.ignore_patterns("*.safetensors"))
    noise = torch.Generator().manual_seed(seed)
    weights = load_file(base / "model.safetensors")
    for name, weight in weights.items():
        if weight.ndim == 2:
            step = torch.randn(weight.shape, generator=noise) * 0.01 * weight.float().std()
            weights[name] = (weight.float() + step).to(weight.dtype)
    save_file(weights, out / "model.safetensors", metadata={"format": "pt"})
    return out


def _child(how: str, model: Path, prompts: Path, out: Path) -> None:
    """One process; what vLLM compiles is kept beside `out`, so the first of several compiles and the others find it."""
    command = [sys.executable, "-m", "tests.benchmarks.evals_engine", how, str(model), str(prompts), str(out)]
    finish(command, out.with_suffix(".log"), env=os.environ | {"VLLM_CACHE_ROOT": str(out.parent / "vllm-cache")})


def _shared_engine(policies: Sequence[Path], prompts: Path, out: Path) -> tuple[float, dict[str, list[str]]]:
    """Seconds of an evaluation job as the harness runs it, swap checks and all, and the answers of every policy."""
    from evals.supervise import run_job
    from trainers.common import scores_schema

    benchmark = {
        "name": "bench",
        "kind": "prompts",
        "prompts": str(prompts),
        "fingerprint": "bench",
        "limit": None,
        "max_new_tokens": _NEW_TOKENS,
        "temperature": 0.0,
        "top_p": 1.0,
        "samples": 1,
        "seed": 0,
    }
    job = {
        "schema_version": scores_schema.SCHEMA_VERSION,
        "engine": {"backend": "vllm", "max_model_len": _MAX_MODEL_LEN},
        "base_model": str(policies[0]),
        "events": str(out / "events.jsonl"),
        "policies": [
            {"run_id": path.name, "path": str(path), "fingerprint": path.name, "out": str(out / path.name)}
            for path in policies
        ],
        "benchmarks": [benchmark],
    }
    started = time.perf_counter()
    result = run_job(job, out / "job.json", lambda event: None)
    seconds = time.perf_counter() - started
    if result.failed or len(result.done) != len(policies):
        raise RuntimeError(f"the shared engine failed: {result.failed}")
    found = {}
    for path in policies:
        rows = scores_schema.read_rows(scores_schema.generations_path(out / path.name, "bench"))
        found[path.name] = [row["text"] for row in sorted(rows, key=lambda row: str(row["prompt_id"]))]
    return seconds, found


def _separate(how: str, policies: Sequence[Path], prompts: Path, out: Path) -> tuple[list[float], dict[str, list[str]]]:
    """Seconds of each of the vLLM processes, one after another, and the answers of every policy."""
    seconds = []
    for path in policies:
        started = time.perf_counter()
        _child(how, path, prompts, out / f"{path.name}.json")
        seconds.append(time.perf_counter() - started)
    return seconds, {path.name: json.loads((out / f"{path.name}.json").read_text())["texts"] for path in policies}


def _engine_vs_processes(root: Path, how: str) -> Measurement:
    """Against processes with vLLM's defaults (`default`), or with this engine's own settings for CPUs (`process`)."""
    from trainers.models.embedded import prepare_model

    base = prepare_model("smollm2-135m-instruct")
    policies = [_perturbed(base, root / f"policy-{i}", i) for i in range(_POLICIES)]
    prompts = _write_prompts(root / "prompts.jsonl")
    for name in ("ours", "theirs"):
        (root / name).mkdir()
    ours, answers = _shared_engine(policies, prompts, root / "ours")
    processes, other = _separate(how, policies, prompts, root / "theirs")
    theirs = sum(processes)
    equal = sum(a == b for name in answers for a, b in zip(answers[name], other[name], strict=True))
    total = sum(map(len, answers.values()))
    each = ", ".join(f"{value:.0f}" for value in processes)
    detail = (
        f"shared engine {ours:.0f} s, six processes {theirs:.0f} s ({theirs / ours:.2f} times as long; {each} s each), start-up "
        f"and swap checks included; {_PROMPTS} prompts, at most {_NEW_TOKENS} new tokens, greedy; "
        f"{equal} of {total} answers equal"
    )
    settings = "with vLLM's defaults" if how == "default" else "with this engine's settings for CPUs"
    return Measurement([ours / theirs], "ratio", f"six vLLM processes {settings}, one after another", detail)


def _generate_vs_transformers(root: Path) -> Measurement:
    from trainers.models.embedded import prepare_model

    base, prompts = prepare_model("smollm2-135m-instruct"), _write_prompts(root / "prompts.jsonl")
    values, speeds = [], []
    for i in range(3):
        pair = []
        for how in ("vllm", "transformers"):
            out = root / f"{how}-{i}.json"
            _child(how, base, prompts, out)
            found = json.loads(out.read_text())
            pair.append(found["tokens"] / found["seconds"])
        values.append(pair[1] / pair[0])
        speeds.append(pair)
    ours, theirs = (statistics.median(column) for column in zip(*speeds, strict=True))
    detail = (
        f"seconds a token, engine already up: {ours:.0f} against {theirs:.0f} tokens/s ({ours / theirs:.2f} times); {_PROMPTS} "
        f"chats in one batch (transformers: left-padded, key-value cache, SDPA), at most {_NEW_TOKENS} new tokens, greedy"
    )
    return Measurement(values, "ratio", "transformers generate", detail)


def _dtype() -> str:
    from evals.engine.base import EngineConfig, choose_dtype

    return choose_dtype(EngineConfig())


def _ids(tokenizer: Any, prompts: Path) -> list[list[int]]:
    from evals.engine.chat import chat_ids

    rows = sorted((json.loads(line) for line in prompts.read_text().splitlines()), key=lambda row: str(row["id"]))
    return [chat_ids(tokenizer, row["prompt"]) for row in rows]


def _with_vllm(model: str, prompts: Path, warm_up: bool) -> tuple[float, list[list[int]], list[str]]:
    """One vLLM process as a user would write it, with the settings that were found to be fast on CPUs."""
    import torch

    os.environ.setdefault("VLLM_LOGGING_LEVEL", "WARNING")
    cpu: dict[str, Any] = {}
    if not torch.cuda.is_available():
        os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "2")
        os.environ.setdefault("VLLM_CPU_OMP_THREADS_BIND", ",".join(map(str, sorted(os.sched_getaffinity(0)))))
        cpu = {"enforce_eager": True}
    from vllm import LLM, SamplingParams
    from vllm.inputs import TokensPrompt

    llm = LLM(model, dtype=_dtype(), max_model_len=_MAX_MODEL_LEN, disable_log_stats=True, **cpu)
    ids = _ids(llm.get_tokenizer(), prompts)
    params = SamplingParams(temperature=0.0, max_tokens=_NEW_TOKENS)
    if warm_up:
        llm.generate([TokensPrompt(prompt_token_ids=ids[0])], params, use_tqdm=False)
    started = time.perf_counter()
    outputs = llm.generate([TokensPrompt(prompt_token_ids=row) for row in ids], params, use_tqdm=False)
    seconds = time.perf_counter() - started
    return seconds, [list(one.outputs[0].token_ids) for one in outputs], [one.outputs[0].text for one in outputs]


def _with_defaults(model: str, prompts: Path) -> tuple[float, list[list[int]], list[str]]:
    """One vLLM process as its documentation shows it.

    Said are the precision, so that answers can be compared, and the KV cache: by default vLLM asks for 92 % of the memory of a
    machine without GPUs, and does not start where something else runs.
    """
    import torch

    if not torch.cuda.is_available():
        os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "2")
    from vllm import LLM, SamplingParams

    llm = LLM(model, dtype=_dtype())
    rows = sorted((json.loads(line) for line in prompts.read_text().splitlines()), key=lambda row: str(row["id"]))
    chats = [[{"role": "user", "content": row["prompt"]}] for row in rows]
    started = time.perf_counter()
    outputs = llm.chat(chats, SamplingParams(temperature=0.0, max_tokens=_NEW_TOKENS))
    seconds = time.perf_counter() - started
    return seconds, [list(one.outputs[0].token_ids) for one in outputs], [one.outputs[0].text for one in outputs]


def _with_transformers(model: str, prompts: Path) -> tuple[float, list[list[int]], list[str]]:
    """All prompts in one left-padded batch."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(model, padding_side="left")
    policy = AutoModelForCausalLM.from_pretrained(model, dtype=getattr(torch, _dtype())).eval()
    if torch.cuda.is_available():
        policy.to("cuda")
    batch = tokenizer.pad({"input_ids": _ids(tokenizer, prompts)}, return_tensors="pt").to(policy.device)
    with torch.inference_mode():
        policy.generate(**{key: value[:1] for key, value in batch.items()}, max_new_tokens=4, do_sample=False)
        started = time.perf_counter()
        output = policy.generate(**batch, max_new_tokens=_NEW_TOKENS, do_sample=False)
        seconds = time.perf_counter() - started
    ends = policy.generation_config.eos_token_id
    ends = set(ends if isinstance(ends, list) else [ends])
    answers = []
    for row in output[:, batch["input_ids"].shape[1] :].tolist():
        stop = next((i + 1 for i, token in enumerate(row) if token in ends), len(row))
        answers.append(row[:stop])
    return seconds, answers, [tokenizer.decode(row, skip_special_tokens=True) for row in answers]


def run(name: str) -> Measurement:
    """The six-policy matrix once (some minutes), generation in three interleaved pairs of processes."""
    with tempfile.TemporaryDirectory() as folder:
        if name.startswith("evals.engine_vs"):
            return _engine_vs_processes(Path(folder), "process" if "tuned" in name else "default")
        return _generate_vs_transformers(Path(folder))


def main(how: str, model: str, prompts: str, out: str) -> None:
    """Generate in this process; writes seconds (of generation), tokens and texts as JSON."""
    if how == "transformers":
        seconds, ids, texts = _with_transformers(model, Path(prompts))
    elif how == "default":
        seconds, ids, texts = _with_defaults(model, Path(prompts))
    else:  # process: end to end, so without a warm-up
        seconds, ids, texts = _with_vllm(model, Path(prompts), how == "vllm")
    Path(out).write_text(json.dumps({"seconds": seconds, "tokens": sum(map(len, ids)), "texts": texts}))


if __name__ == "__main__":
    main(*sys.argv[1:])

"""A reward model: any sequence-classification checkpoint, through transformers."""

import hashlib
import json
import math
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, PositiveInt

from evals.judges.base import Judge, JudgeError, Request
from evals.judges.cache import Cost, Reply
from evals.progress import batches
from trainers.common import Json, checked, file_hash, parameter_count, refuse

#: Tokens read with an answer, roughly.
_READ_TOKENS = 150
#: The day that chat templates are told, whenever an answer is judged: the one that Llama's templates fall back to.
_DAY = datetime(2024, 7, 26)
_HASHED = (".safetensors", ".bin", ".json", ".jinja", ".model", ".txt")


class RewardModelJudge(Judge):
    """Scores an answer with a sequence-classification head: its logit, or one class's probability where it has several.

    Prompt and answer go through the checkpoint's chat template; without one they are encoded as a pair of texts, which is
    what encoder reward models are trained on. A template that writes the date always writes 26 July 2024. An answer that does
    not fit is not cut: it gets no verdict.

    Args:
        model: directory of a checkpoint, or a name on the hub.
        revision: of a hub model; name a commit, since a branch can move.
        label: class whose probability is the score, by name or index; only for heads with several classes.
        batch_size: answers per forward pass.
        max_length: longest prompt with answer, tokens; None for the model's own limit.
        dtype: auto is float32 on CPUs and bfloat16 on GPUs.
    """

    @checked
    def __init__(
        self,
        model: Annotated[str, Field(min_length=1)],
        revision: str | None = None,
        label: str | int | None = None,
        batch_size: PositiveInt = 16,
        max_length: PositiveInt | None = None,
        dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto",
    ) -> None:
        self._name, self._revision, self._label = model, revision, label
        self._batch_size, self._max_length, self._dtype = batch_size, max_length, dtype
        self._loaded: tuple[Any, Any] | None = None

    @classmethod
    def placed(cls, params: Json, base: Path) -> tuple[Json, dict[str, str]]:
        model = params.get("model")
        if not isinstance(model, str):
            return params, {}
        folder = (base / Path(model).expanduser()).resolve()
        there, on_the_hub = folder.is_dir(), not model.startswith((".", "/", "~")) and model.count("/") == 1
        refuse(
            JudgeError,
            (
                not there and not on_the_hub,
                f"model is {model!r}; no such folder: {folder} (paths are relative to the matrix file); give a "
                "checkpoint folder, or a name on the hub (owner/name)",
            ),
            (
                there and not (folder / "config.json").is_file(),
                f"model is {model!r}; {folder} has no config.json, so it is not a checkpoint",
            ),
        )
        return ({**params, "model": str(folder)}, {"model": _stamp(folder)}) if there else (params, {})

    def seconds_each(self, flops: Callable[[], float]) -> float | None:
        folder = Path(self._name)
        return 2.0 * parameter_count(folder) * _READ_TOKENS / flops() if folder.is_dir() else None

    def identity(self) -> Json:
        folder = Path(self._name)
        model = None if folder.is_dir() else self._load()[0]
        # On the hub the commit that the revision stands for now, so that a moved branch is another judge.
        weights = (
            {"content": _content_hash(folder)}
            if model is None
            else {"name": self._name, "commit": getattr(model.config, "_commit_hash", None) or self._revision}
        )
        settings = {"label": self._label, "max_length": self._max_length, "dtype": self._dtype_name()}
        day = {"template_date": f"{_DAY:%Y-%m-%d}"} if self._asks_for_the_day(folder) else {}
        return {"kind": "reward_model", **weights, **settings, **day}

    def _asks_for_the_day(self, folder: Path) -> bool:
        """Whether a chat template of the checkpoint writes the date."""
        files = [*folder.glob("*.jinja"), folder / "tokenizer_config.json", folder / "chat_template.json"]
        texts = [path.read_text(encoding="utf-8") for path in files if path.is_file()]
        return any("strftime_now" in text for text in texts or [str(self._load()[1].chat_template)])

    def _dtype_name(self) -> str:
        if self._dtype != "auto":
            return self._dtype
        import torch

        return "bfloat16" if torch.cuda.is_available() else "float32"

    def _load(self) -> tuple[Any, Any]:
        if self._loaded is None:
            import torch
            from transformers import AutoModelForSequenceClassification, AutoTokenizer

            try:
                tokenizer = AutoTokenizer.from_pretrained(self._name, revision=self._revision)
                model, report = AutoModelForSequenceClassification.from_pretrained(
                    self._name,
                    revision=self._revision,
                    dtype=getattr(torch, self._dtype_name()),
                    output_loading_info=True,
                )
            except (OSError, ValueError) as error:
                raise JudgeError(f"model {self._name!r} did not load: {' '.join(str(error).split())[:300]}") from error
            # transformers makes up a random head for a checkpoint without one; its scores would mean nothing.
            missing = sorted(report["missing_keys"])
            if missing:
                raise JudgeError(f"model {self._name!r} has no weights for {missing[0]}; it is not a reward model")
            self._class_index(model.config)
            device = "cuda" if torch.cuda.is_available() else "cpu"
            self._loaded = model.to(device).eval(), tokenizer
        return self._loaded

    def _class_index(self, config: Any) -> int:
        labels = {int(i): str(name) for i, name in config.id2label.items()}
        single, wanted = config.num_labels == 1, None if isinstance(self._label, bool) else self._label
        found = [index for index, name in labels.items() if single or wanted in (index, name)]
        refuse(
            JudgeError,
            (
                single and self._label is not None,
                f"label is {self._label!r}, but {self._name!r} has a single output; leave label out",
            ),
            (
                not found,
                f"label is {self._label!r}; {self._name!r} has the classes {', '.join(labels.values())}: name one",
            ),
        )
        return found[0]

    def ask(self, requests: Sequence[Request], spent: Cost) -> Iterator[tuple[int, Reply]]:
        model, tokenizer = self._load()
        rows = [_encode(tokenizer, request) for request in requests]
        positions = getattr(model.config.get_text_config(), "max_position_embeddings", None)
        # RoBERTa's two first positions hold no token: its tokenizer knows how many fit
        limit = self._max_length or min(positions or math.inf, tokenizer.model_max_length)
        lengths = [len(row["input_ids"]) for row in rows]
        order = sorted(range(len(rows)), key=lengths.__getitem__)
        for index in (i for i in order if lengths[i] > limit):
            yield index, Reply(None, "prompt and answer are longer than max_length", f"{lengths[index]} tokens")
        for part in batches([i for i in order if lengths[i] <= limit], self._batch_size):
            for index, score in zip(part, self._scores(model, tokenizer, [rows[i] for i in part]), strict=True):
                yield index, Reply(score) if math.isfinite(score) else Reply(None, "the model's score is not finite")

    def _scores(self, model: Any, tokenizer: Any, rows: list[dict[str, list[int]]]) -> list[float]:
        import torch
        from torch.nn.utils.rnn import pad_sequence

        pad = _unused_pad(tokenizer, rows, model.config.get_text_config().vocab_size)
        # Decoder classifiers score the last token that is not this one.
        model.config.pad_token_id = model.config.get_text_config().pad_token_id = pad
        batch = {
            key: pad_sequence([torch.tensor(row[key]) for row in rows], True, pad if key == "input_ids" else 0)
            for key in rows[0]
        }
        with torch.inference_mode():
            logits = model(**{key: rows.to(model.device) for key, rows in batch.items()}).logits.float()
        index = self._class_index(model.config)
        values = logits[:, 0] if model.config.num_labels == 1 else logits.softmax(-1)[:, index]
        return [float(value) for value in values]


def _encode(tokenizer: Any, request: Request) -> dict[str, list[int]]:
    prompt, answer = request.question.prompt, request.answers[0]
    if tokenizer.chat_template is None:
        return dict(tokenizer(prompt, answer))
    chat = [{"role": "user", "content": prompt}, {"role": "assistant", "content": answer}]
    # The template writes the special tokens itself.
    text = tokenizer.apply_chat_template(chat, tokenize=False, strftime_now=_DAY.strftime)
    return dict(tokenizer(text, add_special_tokens=False))


def _unused_pad(tokenizer: Any, rows: list[dict[str, list[int]]], vocabulary: int) -> int:
    """A token id no row contains: with the end token as padding, a decoder would not score the end token itself."""
    used = {token for row in rows for token in row["input_ids"]} | {None}
    return next(token for token in (tokenizer.pad_token_id, *range(vocabulary)) if token not in used)


def _stamp(folder: Path) -> str:
    """Names, sizes and times of a checkpoint's files. When they change the judge is asked again, and its cache, which knows the
    content, answers what has stayed the same."""
    stats = [(path.name, path.stat()) for path in sorted(folder.iterdir()) if path.is_file()]
    return ", ".join(f"{name} {stat.st_size} {stat.st_mtime_ns}" for name, stat in stats)


def _content_hash(folder: Path) -> str:
    """SHA-256 over weights, configuration and tokenizer files, by name and content."""
    files = [path for path in sorted(folder.iterdir()) if path.is_file() and path.suffix in _HASHED]
    entries = {path.name: file_hash(path) for path in files}
    if not entries:
        raise JudgeError(f"model {str(folder)!r} holds no checkpoint files; give a checkpoint directory")
    return hashlib.sha256(json.dumps(entries, sort_keys=True).encode()).hexdigest()

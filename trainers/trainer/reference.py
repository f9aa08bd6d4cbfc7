"""The reference's side of a DPO step: scores computed once through the store, or in every step."""

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from accelerate.utils import gather_object
from datasets import Dataset
from torch import Tensor
from trl import DPOTrainer
from trl.trainer.utils import add_fused_lm_head, use_adapter

from trainers.common.errors import first_fault
from trainers.loss.forward import ForwardPass, run_forward, sequence_logps
from trainers.loss.pair_rows import add_pair_scoring, unsupported_reason
from trainers.run.memory import first_line, is_out_of_memory
from trainers.trainer.collator import Batch
from trainers.trainer.recorded import RecordedWithReference, is_sharded
from trainers.trainer.reference_store import ReferenceScore, ReferenceStore, content_key

#: Pairs of the first batch that are scored twice before training, at most.
_CHECKED = 4
#: Largest difference of a token's log-prob (root mean square over an answer, nats) that passes for float noise: where weights or
#: arithmetic are in 16 bits, and in float32.
_TOLERANCE = (5e-2, 1e-4)


class ReferenceTrainer(RecordedWithReference, DPOTrainer):
    """The reference side of `DynamicBetaDPOTrainer`, and how its passes are laid out.

    Before training the first batch is scored with rows that share the prompt and with separate ones, and against the store. What
    differs by more than float noise is not used, and `sharing_reason` or `store_reason` says so.

    Args:
        store: reference scores by content, used where `precompute_ref_log_probs` is on; else the reference runs in every step.
        prefix_sharing: run prompt + chosen + rejected as one row where the model allows it. `sharing_reason` says why
            it is off, if it is.

    Attributes:
        noise: log-ratios (nats) up to here are float noise: four times the largest difference between a stored score and the same
            score in the first batch. Not used where policy and reference run on the same batch: equal weights then give 0.
    """

    def __init__(self, *args: Any, store: ReferenceStore, prefix_sharing: bool = True, **kwargs: Any) -> None:
        self.store = store
        self.prefix_sharing = prefix_sharing
        self.sharing_reason = None if prefix_sharing else "switched off"
        self.store_reason: str | None = None
        self.noise = 0.0
        self.reference_scores: list[ReferenceScore] = []
        self._prepared = False
        super().__init__(*args, **kwargs)

    def _prepare_scoring(self) -> None:
        """Decide on prefix sharing once TRL has patched the model's forward (it does so in its `__init__`)."""
        if self._prepared:
            return
        self._prepared = True
        model = self._causal_lm()
        if self.ref_model is not None and (self.rule.needs_reference_entropy or not self.reference_in_loop):
            # TRL asks its reference for log-probs only; the store keeps entropies too
            add_fused_lm_head(self._causal_lm(self.ref_model), outputs=("log_probs", "entropy"))
        if self.prefix_sharing:
            self.sharing_reason = first_fault(
                (is_sharded(self), "sharded weights (FSDP, DeepSpeed): not tried with rows that share the prompt"),
                (self.use_weighting, "WPO weighting needs scores that rows with a shared prompt do not carry"),
                (self.aux_loss_enabled, "the router's auxiliary loss counts tokens of the two-row layout"),
            ) or unsupported_reason(model)
            self.prefix_sharing = self.sharing_reason is None
        if self.prefix_sharing:
            add_pair_scoring(model)
            if self.ref_model is not None:
                add_pair_scoring(self._causal_lm(self.ref_model))
            self.sharing_reason = self._sharing_fault()
            self.prefix_sharing = self.sharing_reason is None

    def _first_batch(self) -> Batch:
        size = min(self.args.per_device_train_batch_size, len(self.train_dataset), _CHECKED)
        return self.collate(self.train_dataset, range(size))

    @property
    def _tolerance(self) -> float:
        low = self.args.bf16 or self.args.fp16 or self._causal_lm().dtype != torch.float32
        return _TOLERANCE[0] if low else _TOLERANCE[1]

    def _sharing_fault(self) -> str | None:
        """Why rows that share the prompt give other log-probs than separate rows, by the first batch; None if they do not."""
        batch = self._first_batch()
        mask = batch["completion_mask"][:, 1:]
        plain = self._reference_pass(batch, shared=False).outputs.log_probs
        try:
            together = self._reference_pass(batch, shared=True).outputs.log_probs
        except Exception as error:  # whatever the model's code raises on a mask or positions it does not know
            if is_out_of_memory(error):
                raise
            return f"the model does not take rows that share the prompt ({type(error).__name__}: {first_line(error)})"
        gap = (((together - plain) ** 2 * mask).sum(1) / mask.sum(1).clamp_min(1)).sqrt().max().item()
        said = f"log-probs of the first batch differ from those of separate rows by {gap:.2g} nats a token"
        return None if gap <= self._tolerance else said

    def _check_store(self, scores: list[ReferenceScore]) -> bool:
        """Compare the first pairs' scores with a pass over them as the first batch; sets `noise`. False if they are others."""
        batch = self._first_batch()
        done = self._reference_pass(batch, shared=self.prefix_sharing)
        fresh = sequence_logps(done.outputs.log_probs, batch["completion_mask"], self.ld_alpha).double().cpu()
        few = scores[: len(fresh) // 2]
        stored = torch.tensor([[score.chosen_logp for score in few], [score.rejected_logp for score in few]])
        gap = (fresh - stored.double().flatten()).abs()
        self.noise = 4 * gap.max().item()
        tokens = batch["completion_mask"][:, 1:].sum(1).cpu().clamp_min(1)
        # differences of single tokens add up like a random walk where they are noise
        return bool((gap <= self._tolerance * tokens.sqrt()).all())

    def _causal_lm(self, model: Any = None) -> Any:
        """The causal LM underneath PEFT and DDP; of the policy, or of `model`."""
        unwrapped = self.accelerator.unwrap_model(self.model if model is None else model)
        return unwrapped.get_base_model() if hasattr(unwrapped, "get_base_model") else unwrapped

    @contextlib.contextmanager
    def _reference_mode(self) -> Iterator[Any]:
        """The reference policy as a callable: the frozen copy, or the policy before training without its adapter."""
        model = self.ref_model or self.model
        context: Any = contextlib.nullcontext()
        unwrapped = self.accelerator.unwrap_model(self.model)
        if self.ref_model is None and hasattr(unwrapped, "peft_config"):
            context = use_adapter(unwrapped, adapter_name="ref" if "ref" in unwrapped.peft_config else None)
        with torch.no_grad(), context, self.accelerator.autocast():
            yield model

    def _truncated(self, example: Mapping[str, Any]) -> tuple[list[int], list[int], list[int]]:
        """Token ids of prompt, chosen and rejected as they reach the model."""
        prompt, limit = example["prompt_ids"], self.args.max_length
        if limit is None:
            return prompt, example["chosen_ids"], example["rejected_ids"]
        if self.args.truncation_mode == "keep_start":
            room = max(limit - len(prompt), 0)
            return prompt[:limit], example["chosen_ids"][:room], example["rejected_ids"][:room]
        return prompt, [-1 % 2**32, limit, *example["chosen_ids"]], example["rejected_ids"]  # keep_end: cut per row

    def _precompute_ref_logps(self, dataset: Dataset, name: str, batch_size: int) -> Dataset:
        """Replace TRL's cache (see `trainers.trainer.reference_store`): only pairs the store lacks are run."""
        self._prepare_scoring()
        keys = [content_key(*self._truncated(example)) for example in dataset]
        main = self.accelerator.is_main_process
        with self.store.filling() if main else contextlib.nullcontext():
            self.accelerator.wait_for_everyone()  # so that all processes find the same scores missing
            scores = self._reference_scores(dataset, keys, batch_size)
            if name == "train" and not self._check_store(scores):
                self.store_reason = "stored scores of the first batch are not the reference's: all were computed again"
                scores = self._reference_scores(dataset, keys, batch_size, trusted=False)
                self._check_store(scores)
        if name == "train":
            self.reference_scores = scores
        dataset = dataset.add_column("ref_chosen_logps", [score.chosen_logp for score in scores])
        dataset = dataset.add_column("ref_rejected_logps", [score.rejected_logp for score in scores])
        return dataset.add_column("ref_entropy", [[score.chosen_entropy, score.rejected_entropy] for score in scores])

    def _reference_scores(
        self, dataset: Dataset, keys: list[str], batch_size: int, trusted: bool = True
    ) -> list[ReferenceScore]:
        """Scores by key, from the store if it is trusted; what it lacks is computed and added."""
        known = self.store.load() if trusted else {}
        missing = list({key: i for i, key in enumerate(keys) if key not in known}.items())
        if self.prefix_sharing:  # alike lengths together; two-row batches keep TRL's order, and so its last bits
            missing.sort(key=lambda item: sum(map(len, self._truncated(dataset[item[1]]))))
        if missing:
            fresh: dict[str, ReferenceScore] = {}
            for number, start in enumerate(range(0, len(missing), batch_size)):
                if number % self.accelerator.num_processes != self.accelerator.process_index:
                    continue  # another process runs this batch
                part = missing[start : start + batch_size]
                batch = self.collate(dataset, [index for _, index in part])
                fresh.update(zip((key for key, _ in part), self._reference_batch(batch), strict=True))
            fresh = dict(gather_object(list(fresh.items())))
            if self.accelerator.is_main_process:
                self.store.add(fresh)
            known.update(fresh)
        return [known[key] for key in keys]

    def _reference_forward(self, batch: Batch, keep_hidden: bool = False) -> ForwardPass:
        """One pass of the reference over a collated batch, in the same layout as the policy's."""
        self.reference_forwards += 1
        return self._reference_pass(batch, self.prefix_sharing, keep_hidden)

    def _reference_pass(self, batch: Batch, shared: bool, keep_hidden: bool = False) -> ForwardPass:
        completion_mask = batch["completion_mask"]
        kwargs = {
            "input_ids": batch["input_ids"],
            "attention_mask": batch["attention_mask"],
            "use_cache": False,
            "labels": batch["input_ids"].masked_fill(completion_mask == 0, -100),
            "fused_lm_head": True,
        }
        pad = self._tokenizer.pad_token_id if shared else None
        with self._reference_mode() as model:
            backbone, words = self._causal_lm(model).base_model, batch.get("prompt_words")
            return run_forward(model, backbone, kwargs, completion_mask, pad, words, keep_hidden=keep_hidden)

    def _reference_batch(self, batch: Batch) -> list[ReferenceScore]:
        done, completion_mask = self._reference_forward(batch), batch["completion_mask"]
        chosen, rejected = sequence_logps(done.outputs.log_probs, completion_mask, self.ld_alpha).chunk(2)
        response_tokens = sum(completion_mask[:, 1:].sum(1).chunk(2))
        response_nll = -sum(done.outputs.log_probs.sum(1).chunk(2)) / response_tokens.clamp_min(1)
        columns = (
            chosen,
            rejected,
            done.prompt_nll,
            done.prompt_tokens,
            response_nll,
            response_tokens,
            *completion_entropies(done.outputs, completion_mask).unbind(1),
        )
        return [ReferenceScore(*row) for row in zip(*(column.double().tolist() for column in columns), strict=True)]


def completion_entropies(outputs: Any, completion_mask: Tensor) -> Tensor:
    """(B, 2) mean entropy (nats) of the next token over the chosen and over the rejected answer; NaN if the pass has none."""
    mask = completion_mask[:, 1:]
    if outputs.entropy is None:
        return torch.full((len(mask) // 2, 2), float("nan"), device=mask.device)
    means = (outputs.entropy * mask).sum(1) / mask.sum(1).clamp_min(1)
    return torch.stack(means.chunk(2), dim=1)

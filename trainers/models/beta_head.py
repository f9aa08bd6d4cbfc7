"""A causal LM with a head that says beta: what the rule `beta_head` trains, as one model to load, call and save."""

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from trainers.common import read_json, refuse
from trainers.common.training_schema import ADAPTER_DIR, BETA_HEAD, POLICY_DIR
from trainers.loss.forward import last_hidden_states
from trainers.loss.pair_rows import aggregate
from trainers.rules import catalogue
from trainers.rules.base import RuleBatch
from trainers.run.save import HEAD_CONFIG, save_rule

RULE = "beta_head"
#: Where `save_pretrained` puts the head: vLLM reads every *.safetensors at the top of a checkpoint and refuses unknown keys.
_HEAD_DIR = "beta_head"


class BetaHeadError(ValueError):
    """A head that cannot be used; the message names the file, the key and the fix."""


class BetaHeadOutput(NamedTuple):
    """What a forward pass gives, in this order.

    A plain tuple, not a `ModelOutput`: unpacking one of those yields its keys, and it drops a loss that is None.

    Attributes:
        lm_logits: (B, L, V). loss: scalar cross-entropy of `labels` in nats per token, or None without them.
        beta: (B,) float32, within the head's bounds.
        past_key_values, hidden_states, attentions: as the policy returns them, None where it was not asked to.
    """

    lm_logits: Tensor
    loss: Tensor | None
    beta: Tensor
    past_key_values: Any = None
    hidden_states: tuple[Tensor, ...] | None = None
    attentions: tuple[Tensor, ...] | None = None


class AutoModelForCausalLMWithBetaHead(nn.Module):
    """A causal LM (`policy`) and the head of rule `beta_head` (`beta_head`): beta(x) = softplus(v(norm(h(x)))).

    h(x) is the policy's last hidden state, aggregated as the head's `aggregation` says. The head is float32 whatever the
    policy's precision. The policy may be wrapped by PEFT.

    Args:
        policy: a transformers causal LM, or a PeftModel of one.
        params: of the rule `beta_head`: aggregation, pref_beta, beta_min_ratio, beta_max_ratio, head_gradient_to_policy and
            so on. A new head gives every prompt the beta `pref_beta`.

    Raises:
        trainers.rules.catalogue.RuleError: a parameter the rule does not take, or a value it refuses.
    """

    def __init__(self, policy: Any, **params: Any) -> None:
        super().__init__()
        self.policy = policy
        self.params = catalogue.validate(RULE, params)
        hidden_size = _causal_lm(policy).config.get_text_config().hidden_size
        self.beta_head = catalogue.build(RULE, self.params, hidden_size).to(policy.device)

    @property
    def config(self) -> Any:
        """The policy's configuration."""
        return self.policy.config

    @property
    def device(self) -> torch.device:
        """Where the policy's inputs belong."""
        return self.policy.device

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        labels: Tensor | None = None,
        prompt_lengths: Tensor | None = None,
        prompt_mask: Tensor | None = None,
        **kwargs: Any,
    ) -> BetaHeadOutput:
        """Run the policy once and read beta off its last hidden state.

        Args:
            input_ids, attention_mask: (B, L), padded on either side.
            labels: (B, L) for the language-model loss.
            prompt_lengths: (B,) how many tokens of each row, padding not counted, are the prompt; or
            prompt_mask: (B, L), true on the prompt. Without either the whole row is the prompt.
            kwargs: handed to the policy.

        Raises:
            ValueError: both prompt arguments, a row without a prompt, or a mask of another shape than `input_ids` (with cached
                keys the prompt's hidden states are gone: use `generate`, or call `policy`).
        """
        attended = (torch.ones_like(input_ids) if attention_mask is None else attention_mask).bool()
        if attended.shape != input_ids.shape:
            shapes = f"attention_mask has shape {tuple(attended.shape)}, input_ids {tuple(input_ids.shape)}"
            raise ValueError(f"{shapes}; beta needs the whole prompt in one call")
        is_prompt = _prompt_tokens(attended, prompt_lengths, prompt_mask)
        if "position_ids" not in kwargs and not attended[:, 0].all():
            # transformers counts positions from the first column, padding included
            kwargs["position_ids"] = (attended.long().cumsum(1) - 1).clamp_min(0)
        with last_hidden_states(_causal_lm(self.policy).base_model) as captured:
            outputs = self.policy(
                input_ids=input_ids, attention_mask=attention_mask, labels=labels, **{**kwargs, "return_dict": True}
            )
        beta = self._beta(aggregate(captured[0], is_prompt, attended, self.params["aggregation"]))
        rest = (getattr(outputs, name, None) for name in BetaHeadOutput._fields[3:])
        return BetaHeadOutput(outputs.logits, getattr(outputs, "loss", None), beta, *rest)

    def _beta(self, hidden: Tensor) -> Tensor:
        """(B,) from aggregated hidden states (B, H), by the rule itself, so that it is what training computes."""
        hidden = hidden.to(self.beta_head.value.weight.device)
        unused = torch.zeros(len(hidden), device=hidden.device)
        index = torch.arange(len(hidden), device=hidden.device)
        beta = self.beta_head(RuleBatch(unused, unused.bool(), hidden, index, training=self.training)).beta
        return self.beta_head.clamp(beta)

    def generate(self, *args: Any, **kwargs: Any) -> Any:
        """The policy's `generate`; the head plays no part in it."""
        return self.policy.generate(*args, **kwargs)

    def save_pretrained(self, directory: str | Path, **kwargs: Any) -> None:
        """Write the policy into `directory` as it saves itself, and the head with its parameters into `beta_head/` there.

        The policy's files carry no key of the head, so transformers and vLLM load the directory as they would the policy's. A
        PeftModel saves its adapter only; merge it first where a whole checkpoint is wanted. `kwargs` go to the policy.
        """
        head = Path(directory) / _HEAD_DIR
        (head / BETA_HEAD).unlink(missing_ok=True)  # a save cut short must not leave the head of other weights
        self.policy.save_pretrained(directory, **kwargs)
        save_rule(self.beta_head, RULE, self.params, head)

    @classmethod
    def from_pretrained(
        cls, path: str | Path, aggregation: str | None = None, pref_beta: float | None = None, **kwargs: Any
    ) -> "AutoModelForCausalLMWithBetaHead":
        """Load a policy and its head, ready for inference (`eval`).

        Args:
            path: a directory that `save_pretrained` wrote, a finished run of this project (its directory, or `policy/` or
                `adapter/` in it), or any causal LM that transformers loads, which then gets a new head, with a warning.
            aggregation, pref_beta: of a new head (`last_prompt_token` and 0.1 unless given). A saved head has its own; if
                given, they must agree with it.
            kwargs: of `AutoModelForCausalLM.from_pretrained`. Remote code is not trusted by default.

        Raises:
            BetaHeadError: a head of another rule, or with parameters other than the arguments, or a corrupt file.
            trainers.rules.catalogue.RuleError: a value that the rule refuses.
        """
        from transformers import AutoModelForCausalLM

        asked = {"aggregation": aggregation, "pref_beta": pref_beta}
        asked = {key: value for key, value in asked.items() if value is not None}
        policy_path, head = _locate(path)
        # read and checked before the policy, which may take minutes
        params = catalogue.validate(RULE, asked) if head is None else _saved_params(head, asked)
        state = None if head is None else _read_state(head)
        model = cls(AutoModelForCausalLM.from_pretrained(policy_path, **kwargs), **params)
        if state is None:
            warnings.warn(
                f"{path} has no beta head: a new one gives every prompt the beta {params['pref_beta']} until it is trained",
                stacklevel=2,
            )
        else:
            width, wanted = state["value.weight"].shape[-1], model.beta_head.value.in_features
            if width != wanted:
                raise BetaHeadError(f"{head}: a head for hidden states of width {width}; those of {path} have {wanted}")
            model.beta_head.load_state_dict(state)
        return model.eval()


def _causal_lm(policy: Any) -> Any:
    return policy.get_base_model() if hasattr(policy, "get_base_model") else policy


def _prompt_tokens(attended: Tensor, lengths: Tensor | None, mask: Tensor | None) -> Tensor:
    """(B, L) bool: the prompt's tokens among the attended ones."""
    if lengths is not None and mask is not None:
        raise ValueError("give prompt_lengths or prompt_mask, not both")
    is_prompt = attended
    if lengths is not None:
        is_prompt = attended & (attended.long().cumsum(1) <= lengths.to(attended.device)[:, None])
    elif mask is not None:
        is_prompt = attended & mask.to(attended.device).bool()
    empty = (~is_prompt.any(1)).nonzero().flatten().tolist()
    if empty:
        raise ValueError(f"row {empty[0]} has no prompt token; beta is a function of the prompt")
    return is_prompt


def _locate(path: str | Path) -> tuple[str | Path, Path | None]:
    """Where the policy is, and the file of its head if there is one."""
    root = Path(path)
    if not root.is_dir():
        return path, None  # a name on the hub
    inner = (root / POLICY_DIR / "config.json", root / ADAPTER_DIR / "adapter_config.json")
    found = None if (root / "config.json").is_file() else next((path.parent for path in inner if path.is_file()), None)
    policy = found or root
    places = [policy / _HEAD_DIR / BETA_HEAD]
    if policy.name in (POLICY_DIR, ADAPTER_DIR):
        places.append(policy.parent / BETA_HEAD)
    return policy, next((place for place in places if place.is_file()), None)


def _saved_params(head: Path, asked: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters a saved head was trained with."""
    path = head.with_name(HEAD_CONFIG)
    given = path.is_file()
    missing = [f"{key}=" for key in ("aggregation", "pref_beta") if key not in asked]
    saved: Any = read_json(path) if given else {"rule": RULE, "params": dict(asked)}
    whole = isinstance(saved, dict) and isinstance(saved.get("params"), dict) and "rule" in saved
    written = saved["rule"] if whole else None
    refuse(
        BetaHeadError,
        (
            not given and missing,
            f"{head}: no {HEAD_CONFIG} beside it says how the head was trained; give {', '.join(missing)} as in training",
        ),
        (not whole, f"{path}: not a JSON object with rule and params; save the model again"),
        (
            whole and written != RULE,
            f"{path}: written by rule {written!r}; this class loads heads of rule {RULE!r} only",
        ),
    )
    try:
        params = catalogue.validate(RULE, saved["params"])
    except catalogue.RuleError as error:
        raise BetaHeadError(f"{path}: {error}") from None
    other = [
        f"{key} {params[key]!r}, not {value!r}; leave it out" for key, value in asked.items() if value != params[key]
    ]
    refuse(BetaHeadError, *((True, f"{path}: the head was trained with {said}") for said in other))
    return params


def _read_state(head: Path) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        state: dict[str, Tensor] = load_file(head)
    except (SafetensorError, OSError) as error:
        raise BetaHeadError(
            f"{head}: not a safetensors file that can be read ({error}); save the model again"
        ) from None
    if set(state) != {"value.weight", "value.bias"}:
        keys = ", ".join(sorted(state))
        raise BetaHeadError(f"{head}: holds {keys}; a head of rule {RULE!r} holds value.bias and value.weight")
    return state

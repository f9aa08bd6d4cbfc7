"""LoRA adapters merged into the model they were trained on. Importing it loads nothing heavy."""

from pathlib import Path

from trainers.common.errors import UserError


class AdapterError(UserError):
    """An adapter that does not fit the model; the message says why."""


def write_merged(base: Path, adapter: Path, target: Path, dtype: str, trust_remote_code: bool = False) -> None:
    """Write the weights of `base` with the adapter merged into them to the folder `target`.

    Args:
        dtype: name of the torch dtype of the merged weights ("float32", "bfloat16").

    Raises:
        FileNotFoundError: `adapter` holds no adapter.
        AdapterError: it belongs to another model.
    """
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    if not (adapter / "adapter_config.json").is_file():
        raise FileNotFoundError(f"{adapter} holds no adapter (adapter_config.json); retrain the run")
    model = AutoModelForCausalLM.from_pretrained(base, dtype=getattr(torch, dtype), trust_remote_code=trust_remote_code)
    try:
        merged = PeftModel.from_pretrained(model, str(adapter)).merge_and_unload()
    except (RuntimeError, ValueError, KeyError, TypeError, AttributeError) as error:
        reason = (str(error).splitlines() or [""])[0]
        raise AdapterError(f"the adapter does not fit the model: {reason}") from None
    merged.save_pretrained(target)

"""A small random reward model over the tiny model's tokenizer."""

from pathlib import Path


def build_reward_model(
    folder: Path, tiny: Path, classes: int = 1, template: bool = True, eos_pad: bool = False
) -> Path:
    """A classifier of as many classes, with weights large enough that answers differ."""
    import torch
    from transformers import AutoConfig, AutoTokenizer, LlamaForSequenceClassification

    config = AutoConfig.from_pretrained(tiny)
    config.num_labels = classes
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        model = LlamaForSequenceClassification(config)
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.data.mul_(4.0)
    tokenizer = AutoTokenizer.from_pretrained(tiny)
    if not template:
        tokenizer.chat_template = None
    if eos_pad:
        tokenizer.pad_token = tokenizer.eos_token
        tokenizer.chat_template = "{% for m in messages %}{{ m['content'] }}<|im_end|>{% endfor %}"
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder

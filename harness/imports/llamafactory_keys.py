"""Keys of LLaMA-Factory: older names, and those without a part in a matrix file, with the reason."""

from harness.imports.draft import READ_FIRST

#: Keys up to 0.7 that have another name today; those of the loss are reports.foreign.trainer_logs.RENAMED.
OLDER = {
    "checkpoint_dir": "adapter_name_or_path",
    "dpo_ref_model": "ref_model",
    "dpo_ref_model_checkpoint": "ref_model_adapters",
    "ref_model_checkpoint": "ref_model_adapters",
    "neft_alpha": "neftune_noise_alpha",
    "system_prompt": "default_system",
    "sft_packing": "packing",
    "cache_path": "tokenized_path",
    "visual_inputs": "media_dir",
}
ATTENTION = {
    "auto": "sdpa",
    "disabled": "eager",
    "off": "eager",
    "sdpa": "sdpa",
    "false": "eager",
    "fa2": "flash_attention_2",
    "true": "flash_attention_2",
    "fa3": "flash_attention_3",
}
_OPTIMISER = "an optimiser or method of LLaMA-Factory's own, not available here"
_KERNELS = "kernels or memory savings of LLaMA-Factory's own: what is computed is the same"
_LOADING = "a change of the model by LLaMA-Factory, not available here (save the changed model and name that)"
_REFERENCE = "policy and reference start from the same weights here"
_MIXING = "sources are mixed by weight here: data.train is a list of {source, weight, limit}"
_MEDIA = "only text is trained here"
_CACHE = "data are read and kept by content; there is nothing to set"
_INFERENCE = "generation is set under evaluation.engine"
_TOKENS = "tokens are read from the environment: HF_TOKEN"

#: Keys of LLaMA-Factory that have no part in a matrix file, with the reason.
LEFT = {
    "template": "the model's own chat template is used: compare them, or give model.chat_template",
    **dict.fromkeys(("pissa_convert", "pissa_iter"), "the adapter is saved as PEFT saves it"),
    **dict.fromkeys(
        ("overwrite_cache", "preprocessing_batch_size", "tokenized_path", "cache_dir", "data_shared_file_system"),
        _CACHE,
    ),
    **dict.fromkeys(("use_unsloth", "use_unsloth_gc", "enable_liger_kernel", "use_reentrant_gc"), _KERNELS),
    **dict.fromkeys(("upcast_layernorm", "upcast_lmhead_output", "low_cpu_mem_usage"), _KERNELS),
    **dict.fromkeys(("ppo_epochs", "ppo_buffer_size", "ppo_target", "reward_model"), "they are settings of stage ppo"),
    **dict.fromkeys(("image_max_pixels", "image_min_pixels", "video_max_pixels", "media_dir"), _MEDIA),
    **dict.fromkeys(("freeze_vision_tower", "freeze_multi_modal_projector", "train_mm_proj_only"), _MEDIA),
    **dict.fromkeys(
        ("infer_backend", "infer_dtype", "use_kv_cache", "max_new_tokens", "temperature", "top_p"), _INFERENCE
    ),
    **dict.fromkeys(("hf_hub_token", "ms_hub_token", "om_hub_token"), _TOKENS),
    **dict.fromkeys(
        ("ray_run_name", "ray_num_workers", "resources_per_worker", "ray_init_kwargs"),
        "a matrix names its executor under 'executor'",
    ),
    **dict.fromkeys(
        ("use_swanlab", "swanlab_project", "swanlab_run_name", "swanlab_mode"), "write training.report_to: swanlab"
    ),
    "use_fast_tokenizer": "the tokenizer is loaded as transformers does",
    "print_param_status": "it only prints",
    "include_effective_tokens_per_second": "tokens per second are always recorded",
    "streaming": READ_FIRST,
    "buffer_size": READ_FIRST,
    "max_eval_samples": "set limit of a benchmark",
    "packing": "pairs are not packed in preference training",
    "neat_packing": "pairs are not packed in preference training",
    "train_on_prompt": "the preference loss is over answers alone",
    "mask_history": "the preference loss is over the last answers alone",
    "ignore_pad_token_for_loss": "padding is never trained on",
    "tool_format": "tools are not shown to the model",
    "reserved_label_len": "TRL cuts the end of prompt and answer",
    "enable_thinking": "put it into a chat template (model.chat_template)",
    "disable_shuffling": "rows are shuffled by the seed",
    "quantization_device_map": "the model is loaded on one device",
}

#: Keys that change what is trained or on what, where they are on: without them `original` would be another run.
CHANGES = {
    **dict.fromkeys(
        ("use_galore", "use_apollo", "use_badam", "use_adam_mini", "use_muon", "loraplus_lr_ratio"), _OPTIMISER
    ),
    **dict.fromkeys(("shift_attn", "mixture_of_depths", "use_llama_pro"), _OPTIMISER),
    **dict.fromkeys(
        ("resize_vocab", "add_tokens", "add_special_tokens", "new_special_tokens", "rope_scaling"), _LOADING
    ),
    **dict.fromkeys(("train_from_scratch", "split_special_tokens", "moe_aux_loss_coef"), _LOADING),
    **dict.fromkeys(("interleave_probs", "mix_strategy"), _MIXING),
    "default_system": "put it into the rows, or into a chat template (model.chat_template)",
    "pref_ftx": "no SFT term is added to the preference loss here",
    "ld_alpha": "it weighs the policy's tokens alone there, and the reference's too in TRL",
    "early_stopping_steps": "every run trains to its last step here",
    "pissa_init": "it changes the weights that are the reference while the adapter is off",
}
#: The same for keys that only a loss with a reference reads.
CHANGES_REFERENCE = {
    "pref_bco_weight": "no BCO term is added to the loss here",
    **dict.fromkeys(("ref_model_adapters", "ref_model_quantization_bit"), _REFERENCE),
}

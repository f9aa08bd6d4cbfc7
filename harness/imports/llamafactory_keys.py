"""Keys of LLaMA-Factory: older names, and those without a part in a matrix file, with the reason."""

from harness.imports.draft import READ_FIRST, by_name

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

#: Keys of LLaMA-Factory that have no part in a matrix file, with the reason.
LEFT = by_name(
    {
        "the model's own chat template is used: compare them, or give model.chat_template": "template",
        "the adapter is saved as PEFT saves it": "pissa_convert pissa_iter",
        "data are read and kept by content; there is nothing to set": """
            overwrite_cache preprocessing_batch_size tokenized_path cache_dir data_shared_file_system""",
        "kernels or memory savings of LLaMA-Factory's own: what is computed is the same": """
            use_unsloth use_unsloth_gc enable_liger_kernel use_reentrant_gc upcast_layernorm upcast_lmhead_output
            low_cpu_mem_usage""",
        "they are settings of stage ppo": "ppo_epochs ppo_buffer_size ppo_target reward_model",
        "only text is trained here": """
            image_max_pixels image_min_pixels video_max_pixels media_dir freeze_vision_tower
            freeze_multi_modal_projector train_mm_proj_only""",
        "generation is set under evaluation.engine": """
            infer_backend infer_dtype use_kv_cache max_new_tokens temperature top_p""",
        "tokens are read from the environment: HF_TOKEN": "hf_hub_token ms_hub_token om_hub_token",
        "a matrix names its executor under 'executor'": """
            ray_run_name ray_num_workers resources_per_worker ray_init_kwargs""",
        "write training.report_to: swanlab": "use_swanlab swanlab_project swanlab_run_name swanlab_mode",
        "the tokenizer is loaded as transformers does": "use_fast_tokenizer",
        "it only prints": "print_param_status",
        "tokens per second are always recorded": "include_effective_tokens_per_second",
        READ_FIRST: "streaming buffer_size",
        "set limit of a benchmark": "max_eval_samples",
        "pairs are not packed in preference training": "packing neat_packing",
        "the preference loss is over answers alone": "train_on_prompt",
        "the preference loss is over the last answers alone": "mask_history",
        "padding is never trained on": "ignore_pad_token_for_loss",
        "tools are not shown to the model": "tool_format",
        "TRL cuts the end of prompt and answer": "reserved_label_len",
        "put it into a chat template (model.chat_template)": "enable_thinking",
        "rows are shuffled by the seed": "disable_shuffling",
        "the model is loaded on one device": "quantization_device_map",
    }
)

#: Keys that change what is trained or on what, where they are on: without them `original` would be another run.
CHANGES = by_name(
    {
        "an optimiser or method of LLaMA-Factory's own, not available here": """
            use_galore use_apollo use_badam use_adam_mini use_muon loraplus_lr_ratio shift_attn mixture_of_depths
            use_llama_pro""",
        "a change of the model by LLaMA-Factory, not available here (save the changed model and name that)": """
            resize_vocab add_tokens add_special_tokens new_special_tokens rope_scaling train_from_scratch
            split_special_tokens moe_aux_loss_coef""",
        "sources are mixed by weight here: data.train is a list of {source, weight, limit}": """
            interleave_probs mix_strategy""",
        "put it into the rows, or into a chat template (model.chat_template)": "default_system",
        "no SFT term is added to the preference loss here": "pref_ftx",
        "it weighs the policy's tokens alone there, and the reference's too in TRL": "ld_alpha",
        "every run trains to its last step here": "early_stopping_steps",
        "it changes the weights that are the reference while the adapter is off": "pissa_init",
    }
)
#: The same for keys that only a loss with a reference reads.
CHANGES_REFERENCE = by_name(
    {
        "no BCO term is added to the loss here": "pref_bco_weight",
        "policy and reference start from the same weights here": "ref_model_adapters ref_model_quantization_bit",
    }
)

"""Other trainers' words for our keys: those of axolotl, LLaMA-Factory, ms-swift, torchtune, unsloth, and older TRL."""

from collections.abc import Callable
from typing import Any

from qtarget.data import Asker

SAME_VALUE = {
    "model": "base_model model_name model_path model_id student student_model pretrained_model_name_or_path checkpoint",
    "train_dataset": "dataset dataset_path datasets data data_path data_files train_data train_file train_files "
    "training_data train_path",
    "eval_dataset": "val_dataset validation_dataset validation_file eval_file eval_data val_file test_file "
    "test_dataset test_datasets valid_dataset",
    "output_dir": "out output out_dir output_path save_dir save_path outdir checkpoint_dir result_dir",
    "learning_rate": "lr learningrate max_lr peak_lr base_lr",
    "lr_scheduler_type": "lr_scheduler scheduler lr_schedule scheduler_type lr_decay_style",
    "num_train_epochs": "epochs num_epochs n_epochs num_epoch epoch max_epochs train_epochs n_epoch",
    "max_steps": "steps num_steps total_steps train_steps num_train_steps max_steps_per_epoch train_iters "
    "max_train_steps",
    "per_device_train_batch_size": "batch_size micro_batch_size train_batch_size bs per_device_batch_size batchsize "
    "train_micro_batch_size_per_gpu per_gpu_train_batch_size mbs",
    "per_device_eval_batch_size": "eval_batch_size val_batch_size per_gpu_eval_batch_size test_batch_size",
    "gradient_accumulation_steps": "gradient_accumulation grad_accum grad_accumulation accumulation_steps accum_steps "
    "gradient_accumulation_step grad_accum_steps accumulate_grad_batches grad_acc",
    "max_length": "cutoff_len sequence_len max_seq_length max_seq_len seq_len sequence_length max_len context_length "
    "block_size model_max_length max_sequence_length seq_length maxlen",
    "packing": "sample_packing neat_packing packed pack",
    "max_grad_norm": "gradient_clipping grad_clip gradient_clip clip_grad_norm gradient_clip_val clip_grad",
    "weight_decay": "wd decay",
    "warmup_steps": "warmup warmup_ratio num_warmup_steps lr_warmup_steps warmup_fraction lr_warmup_fraction",
    "logging_steps": "log_steps log_every log_every_n_steps logging_interval log_interval log_freq",
    "save_steps": "save_every checkpoint_steps save_freq save_interval checkpointing_steps save_every_n_steps",
    "eval_steps": "eval_every eval_freq eval_interval eval_every_n_steps val_steps",
    "eval_strategy": "evaluation_strategy",
    "save_total_limit": "keep_checkpoints max_checkpoints save_limit",
    "optim": "optimizer optimiser optimizer_type",
    "dtype": "torch_dtype model_dtype infer_dtype",
    "attn_implementation": "attn_impl attention attn_type attention_implementation",
    "gradient_checkpointing": "use_gradient_checkpointing enable_activation_checkpointing grad_checkpointing",
    "torch_compile": "compile",
    "chat_template_path": "chat_template",
    "lora_r": "lora_rank r rank lora_dim",
    "lora_target_modules": "target_modules lora_attn_modules lora_targets",
    "lora_alpha": "alpha_lora",
    "load_in_4bit": "use_4bit in_4bit",
    "load_in_8bit": "use_8bit in_8bit",
    "dataset_num_proc": "preprocessing_num_workers num_proc dataset_processes",
    "dataloader_num_workers": "num_workers dataloader_workers",
    "train_rows": "max_samples max_train_samples num_samples train_samples limit",
    "resume_from_checkpoint": "resume auto_resume_from_checkpoints",
    "method": "loss objective loss_fn algorithm trainer",
    "teacher": "teacher_model teacher_model_name_or_path teacher_name teacher_path",
    "reference": "ref_model reference_model ref",
    "seed": "random_seed random_state",
    "report_to": "logger loggers tracker log_with",
    "neftune_noise_alpha": "neftune_alpha noise_alpha",
    "hub_model_id": "repo_id hub_repo push_to_hub_model_id",
}
"""Our keys, and others' words that take the same value."""
WORDS = {word: ours for ours, words in SAME_VALUE.items() for word in words.split()}
UNNEEDED = {
    "stage": "supervised fine-tuning is what this command does",
    "overwrite_output_dir": "an earlier run is never overwritten; write another `output_dir`",
    "overwrite_cache": "nothing has to be overwritten",
    "dataset_prepared_path": "prepared rows are cached by `datasets`",
    "template": "the tokenizer's own chat template is used; `chat_template_path` names another",
    "plot_loss": "a picture is written anyway",
    "pad_to_sequence_len": "`pad_to_multiple_of` is what there is",
    "tokenizer_type": "the tokenizer is read from the model's folder",
    "model_type": "the model's class is read from its folder",
    "is_llama_derived_model": "the model's class is read from its folder",
    "strict": "keys are always checked",
    "lmbda": "your rows are trained on, as with lmbda 0; `rounds: 2` trains on the student's own samples",
    "seq_kd": "have the teacher answer your prompts first, and train on its answers as rows",
    "max_new_tokens": "your rows are trained on as they are; of samples write `sample: {max_new_tokens: 512}`",
    "disable_dropout": "few models have any; `model_init_kwargs: {attention_dropout: 0.0}` turns it off",
    "special_tokens": "write `eos_token` and `pad_token` at the top level",
}
"""Others' words for which there is nothing to write, and why."""
SPLIT_WORDS = [
    "val_set_size",
    "val_size",
    "split_dataset_ratio",
    "validation_split",
    "test_size",
    "eval_split_ratio",
]


def other_words_line(key: str, value: Any) -> str | None:
    """What to write for another trainer's word and its value, as the end of a sentence; None for an unknown word."""
    word = key.lower().replace("-", "_")
    if word in LINES and (lines := LINES[word](value)):
        return "write " + " and ".join(Asker.COMMAND_LINE.line(*line) for line in lines.items())
    if word in SPLIT_WORDS:
        return "rows are not split here; write the held-out rows to a file, and `eval_dataset: held_out.jsonl`"
    if word in UNNEEDED:
        return f"leave it out: {UNNEEDED[word]}"
    if word not in WORDS:
        return None
    if isinstance(value, dict):
        return f"keys here are not nested; write each at the top level, as in `{WORDS[word]}: …`"
    return "write " + Asker.COMMAND_LINE.line(WORDS[word], value)


def ours_for(key: str) -> str | None:
    """Our key for another trainer's word that takes the same value."""
    return WORDS.get(key.lower().replace("-", "_"))


def _tuning(value: Any) -> dict[str, Any]:
    """Lines for `adapter: qlora` and its like."""
    kinds = {"lora": {"use_peft": True}, "qlora": {"use_peft": True, "load_in_4bit": True}}
    return kinds.get(str(value).lower(), {})


def _switch(lines: dict[str, Any]) -> Callable[[Any], dict[str, Any]]:
    """The lines where the switch is on."""
    return lambda value: lines if value not in (False, None, "false", "no", "disabled", "auto") else {}


def _bits(value: Any) -> dict[str, Any]:
    return {f"load_in_{value}bit": True} if str(value) in ("4", "8") else {}


def _modules(value: Any) -> dict[str, Any]:
    """LLaMA-Factory's modules of an adapter: "all", or names with commas between."""
    names = value.split(",") if isinstance(value, str) and "," in value else value
    return {"lora_target_modules": "all-linear" if names == "all" else names}


def _precision(value: Any) -> dict[str, Any]:
    names = {"bf16": "bf16", "bfloat16": "bf16", "fp16": "fp16", "float16": "fp16", "half": "fp16"}
    name = names.get(str(value).lower())
    return {name: True} if name else {"bf16": False}


def _paths(value: Any) -> dict[str, Any]:
    """axolotl's list of data sets: their paths."""
    entries = value if isinstance(value, list) else [value]
    paths = [entry.get("path") if isinstance(entry, dict) else entry for entry in entries]
    return {"train_dataset": paths[0] if len(paths) == 1 else paths}


LINES: dict[str, Callable[[Any], dict[str, Any]]] = {
    **dict.fromkeys(("adapter", "finetuning_type", "train_type", "tuner_type", "peft_type"), _tuning),
    **dict.fromkeys(("lora", "use_lora", "peft"), _switch({"use_peft": True})),
    "qlora": _switch({"use_peft": True, "load_in_4bit": True}),
    **dict.fromkeys(
        ("flash_attention", "flash_attn", "use_flash_attn"), _switch({"attn_implementation": "flash_attention_2"})
    ),
    "sdp_attention": _switch({"attn_implementation": "sdpa"}),
    "lora_target": _modules,
    "lora_target_linear": _switch({"lora_target_modules": "all-linear"}),
    "group_by_length": _switch({"train_sampling_strategy": "group_by_length"}),
    **dict.fromkeys(("quantization_bit", "quant_bits", "bits"), _bits),
    **dict.fromkeys(("mixed_precision", "precision"), _precision),
    "use_dft_loss": _switch({"method": "dft"}),
    "use_eaft_loss": _switch({"method": "eaft"}),
    "use_asft_loss": _switch({"method": "asft"}),
    **dict.fromkeys(("train_on_inputs", "train_on_prompt"), _switch({"learn": "all"})),
    "mask_history": _switch({"learn": "last"}),
    "pure_bf16": _switch({"dtype": "bfloat16"}),
    **dict.fromkeys(("wandb_project", "use_wandb", "wandb"), _switch({"report_to": "wandb"})),
    "datasets": _paths,
    "teacher_model_init_kwargs": lambda value: {"teacher_init_kwargs": value},
}
"""Others' words whose value becomes other lines of ours: the lines by the value; none where nothing is to be said."""

"""What cannot be trained is refused when the trainer is built, with the line to write."""

from types import SimpleNamespace

import pytest
import tiny_models
import torch
from accelerate import ParallelismConfig
from accelerate.utils import DistributedType
from datasets import Dataset
from peft import LoraConfig, PromptTuningConfig
from train import parity

import qtarget as qt
from qtarget.data import Asker
from qtarget.train import TargetSFTConfig, TargetSFTTrainer
from qtarget.train.checks import check_built
from qtarget.train.process_group import check_group, check_zero3


def build(method="sft", *, data=None, model=None, config=None, **kwargs):
    return TargetSFTTrainer(
        tiny_models.tiny_model() if model is None else model,
        TargetSFTConfig(method=method, **parity.common_args(**(config or {}))),
        train_dataset=tiny_models.prompt_completion(4) if data is None else data,
        processing_class=kwargs.pop("processing_class", None) or tiny_models.tiny_tokenizer(),
        **kwargs,
    )


def teacher(**kwargs):
    return tiny_models.tiny_model(seed=1, **kwargs)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"method": "target-sft"}, '"target-sft" needs a teacher.*`teacher: path/or/hub-name`'),
        ({"method": "sft", "teacher": object()}, '"sft" reads no teacher, and 1 given; remove `teacher`'),
        ({"method": "kd", "teacher": [object(), object()]}, r"set up for 1 teacher\(s\), and 2 given"),
        ({"method": "sft-kl", "config": {"reference": None}}, "reference is None; write `reference: initial`"),
        ({"method": "sft", "reference": object()}, '"sft" reads no reference.*remove `reference`'),
        ({"method": "cft"}, "reads a weight for every token.*'completion', 'prompt'.*weight_spans"),
        ({"method": "iw-sft", "config": {"reference": None}}, "reads a weight for every token"),
        (
            {"method": "iw-sft", "config": {"packing": True, "packing_strategy": "wrapped"}},
            "whole sequences.*packing_strategy: bfd",
        ),
        ({"compute_loss_func": print}, "Remove `compute_loss_func=...`"),
        ({"data": Dataset.from_list([{"question": "w1"}])}, "columns `question`, which are no form"),
        ({"data": Dataset.from_list([{"prompt": "w1", "completion": ""}])}, "Row 1 .*`completion` is empty"),
        ({"data": Dataset.from_list([{"text": "w1", "image": "x"}])}, "Vision-language"),
        (
            {"data": Dataset.from_list([{"input_ids": [5, 6], "shift_labels": [6, -100]}])},
            "a column `shift_labels`",
        ),
        (
            {"data": Dataset.from_list([{"prompt": "w1 w2 w3 ", "completion": "w4"}]), "config": {"max_length": 2}},
            r"no label left: of 1 rows `max_length` \(2 tokens\) cuts off every one",
        ),
    ],
)
def test_refused_before_a_model_is_touched(given, message):
    with pytest.raises(ValueError, match=message):
        build(**given)


def test_a_second_set_of_rows_is_checked_too():
    with pytest.raises(ValueError, match=r"Row 1 of the eval data set .*`completion` is empty"):
        build(eval_dataset=Dataset.from_list([{"prompt": "w1", "completion": " "}]))


def test_the_student_cannot_be_its_own_teacher():
    student = tiny_models.tiny_model()
    with pytest.raises(ValueError, match="load it a second time"):
        build("kd", model=student, teacher=student)
    assert all(weight.requires_grad for weight in student.parameters())


@pytest.mark.failure_case(7)
def test_a_teacher_of_another_tokenizer_is_refused(tmp_path):
    teacher().save_pretrained(tmp_path)
    tiny_models.tiny_tokenizer([*tiny_models.WORDS[:-2], "other", "words"]).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="98: 'w93' and 'other'"):
        build("kd", config={"teacher": str(tmp_path)})


def test_an_adapter_on_the_head_is_refused():
    with pytest.raises(ValueError, match="lm_head"):
        build(peft_config=LoraConfig(r=2, target_modules=["lm_head"], task_type="CAUSAL_LM"))


def test_a_prompt_cannot_be_switched_off_for_the_reference():
    tuning = PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=2)
    with pytest.raises(ValueError, match=r"cannot be switched off.*`reference: path"):
        build("sft-kl", peft_config=tuning)


def test_data_parallel_is_refused():
    config = TargetSFTConfig(method="sft", **parity.common_args())
    assert config.n_gpu <= 1
    config._n_gpu = 2
    with pytest.raises(ValueError, match="DataParallel"):
        TargetSFTTrainer(
            tiny_models.tiny_model(),
            config,
            train_dataset=tiny_models.prompt_completion(4),
            processing_class=tiny_models.tiny_tokenizer(),
        )


def test_a_model_of_more_than_text_is_refused():
    from transformers import Gemma3Config, Gemma3ForConditionalGeneration

    with torch.device("meta"):
        model = Gemma3ForConditionalGeneration(Gemma3Config())
    with pytest.raises(ValueError, match="vision-language"):
        check_built(model, None, is_vision=False)


def zero(stage: int, **zero_optimization):
    """accelerate's accelerator under DeepSpeed, as far as it is asked."""
    plugin = SimpleNamespace(zero_stage=stage, deepspeed_config={"zero_optimization": zero_optimization})
    return SimpleNamespace(state=SimpleNamespace(deepspeed_plugin=plugin), distributed_type=DistributedType.DEEPSPEED)


def test_a_result_in_pieces_is_refused():
    with pytest.raises(ValueError, match="`zero3_save_16bit_model: true`"):
        check_zero3(zero(3))
    check_zero3(zero(3, stage3_gather_16bit_weights_on_model_save=True))
    check_zero3(zero(2))


@pytest.mark.parametrize("kind", ["FSDP", "DEEPSPEED"])
def test_a_launch_that_would_not_cut_the_model_is_refused(kind: str, monkeypatch: pytest.MonkeyPatch):
    """accelerate has FSDP on accelerators alone, and no DeepSpeed under `--cpu`: it would train whole copies."""
    monkeypatch.setenv(f"ACCELERATE_USE_{kind}", "true")
    args, whole = SimpleNamespace(fsdp=None, deepspeed=None), SimpleNamespace(num_processes=1, distributed_type="NO")
    with pytest.raises(ValueError, match="would not"):
        check_group(args, whole, Asker.PYTHON)
    check_group(args, SimpleNamespace(num_processes=1, distributed_type=DistributedType(kind)), Asker.PYTHON)


def test_a_teacher_without_a_tokenizer_is_refused(tmp_path):
    teacher().save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="holds no tokenizer"):
        build("kd", config={"teacher": str(tmp_path)})


@pytest.mark.parametrize("sizes", [{"cp_size": 2}, {"sp_size": 2, "sp_backend": "deepspeed"}])
def test_labels_cut_across_ranks_are_refused(sizes):
    class Parallel:
        parallelism_config = ParallelismConfig(**sizes)

    with pytest.raises(ValueError, match="shift_labels"):
        check_built(tiny_models.tiny_model(), Parallel, is_vision=False)


@pytest.mark.parametrize("wrong", ["shift_labels", "no labels"])
def test_a_collator_that_shifts_is_refused(wrong):
    def collator(rows):
        ids = torch.tensor([row["input_ids"][:3] for row in rows])
        labels = {"labels": ids, "shift_labels": ids} if wrong == "shift_labels" else {}
        return {"input_ids": ids, "attention_mask": torch.ones_like(ids), **labels}

    trainer = build(config={"max_steps": 1}, data_collator=collator)
    with pytest.raises(ValueError, match="unshifted, and no `shift_labels`"):
        trainer.train()


def test_a_composed_method_wins_over_the_configured_one():
    composed = qt.Method("half", trust=0.5, residual=((0.5, qt.Pool()),))
    trainer = TargetSFTTrainer(
        tiny_models.tiny_model(),
        TargetSFTConfig(method="target-sft", **parity.common_args(max_steps=1)),
        train_dataset=tiny_models.prompt_completion(4),
        processing_class=tiny_models.tiny_tokenizer(),
        method=composed,
    )
    trainer.train()
    assert trainer.method is composed
    assert trainer.state.log_history[0]["trust"] == 0.5


def test_token_ids_outside_the_model_are_refused():
    """On a CPU an embedding without such a row raises from its depths; on a GPU the process dies."""
    rows = Dataset.from_list([{"input_ids": [1, 5, 9999], "labels": [-100, 5, 9999]}])
    with pytest.raises(ValueError, match=r"`train_dataset`, prepared row 1: input_ids holds 9999"):
        build(data=rows)
    good = Dataset.from_list([{"input_ids": [1, 5, 6], "labels": [-100, 5, 6]}])
    with pytest.raises(ValueError, match=r"`eval_dataset\['b'\]`, prepared row 1: input_ids holds 9999"):
        build(data=good, eval_dataset={"a": good, "b": rows})
    with pytest.raises(ValueError, match=r"labels holds -1"):
        build(data=Dataset.from_list([{"input_ids": [1, 5, 6], "labels": [-100, -1, 6]}]))

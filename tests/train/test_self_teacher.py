"""The student as its own teacher: as it was at first, with its adapter off, and as an average over its steps."""

import copy
import warnings

import pytest
import tiny_models
import torch
from peft import LoraConfig
from train import parity
from train.test_teacher_prompts import hinted, rows
from transformers import TrainerCallback

import qtarget as qt
from qtarget.teacher import LiveModel
from qtarget.train import TargetSFTConfig, TargetSFTTrainer
from qtarget.train.equal_teacher import stands_still
from qtarget.train.self_teacher import AVERAGE_FILE, AdapterOff, StudentAverage


def build(teacher="self", data=None, peft=None, tied=False, callbacks=(), **changes):
    args = parity.common_args(**{"max_steps": 4, "learning_rate": 0.5, **changes})
    return TargetSFTTrainer(
        tiny_models.tiny_model(tied=tied),
        TargetSFTConfig(**{"method": "target-sft", "method_kwargs": {"eta": 0.5}, **args}),
        train_dataset=rows(hinted) if data is None else data,
        processing_class=tiny_models.tiny_tokenizer(),
        teacher=teacher,
        peft_config=None
        if peft is None
        else LoraConfig(**{"r": 4, "task_type": "CAUSAL_LM", "init_lora_weights": False, **peft}),
        callbacks=list(callbacks),
    )


def ran(*args, **changes):
    trainer = build(*args, **changes)
    trainer.train()
    return trainer


def history(*args, **changes):
    return parity.history(ran(*args, **changes))


@pytest.mark.parametrize("tied", [False, True])
def test_the_student_itself_is_a_copy_of_it_as_it_is_at_first(tied):
    trainer = build(tied=tied)
    assert isinstance(trainer.teachers[0], LiveModel)
    given = tiny_models.tiny_model(tied=tied)
    assert parity.history(ran(tied=tied)) == history(given, tied=tied)


def test_with_an_adapter_it_is_the_base_with_the_adapter_off():
    trainer = build(peft={})
    assert isinstance(trainer.teachers[0], AdapterOff)
    assert history(peft={}) == history(tiny_models.tiny_model(), peft={})
    kept = {"modules_to_save": ["lm_head"]}
    assert history(peft=kept) == history(tiny_models.tiny_model(), peft=kept)


class ByHand(TrainerCallback):
    """The average of a model's weights as its definition has it, and how far the trainer's is from it."""

    def __init__(self, decay):
        self.decay, self.average, self.apart, self.moved = decay, {}, 0.0, 0.0

    def on_train_begin(self, args, state, control, model=None, **kwargs):
        self.average = {name: weight.detach().double().clone() for name, weight in model.named_parameters()}

    def on_step_end(self, args, state, control, model=None, **kwargs):
        for name, weight in model.named_parameters():
            if weight.requires_grad:
                self.average[name] = self.decay * self.average[name] + (1 - self.decay) * weight.detach().double()
                self.moved = max(self.moved, float((weight.detach() - self.average[name]).abs().max()))

    def on_train_end(self, args, state, control, **kwargs):
        kept = self.trainer.teachers[0].weights
        self.apart = max(float((kept[name] - self.average[name]).abs().max()) for name in kept)


@pytest.mark.parametrize("peft", [None, {}])
@pytest.mark.parametrize("accumulation", [1, 2])
def test_an_average_follows_every_optimizer_step(peft, accumulation):
    by_hand = ByHand(0.7)
    trainer = build(
        ema=0.7,
        peft=peft,
        callbacks=[by_hand],
        gradient_accumulation_steps=accumulation,
        per_device_train_batch_size=8 // accumulation,
    )
    by_hand.trainer = trainer
    trainer.train()
    assert by_hand.apart < 1e-6
    assert by_hand.moved > 1e-2
    assert set(trainer.teachers[0].weights) == {n for n, w in trainer.model.named_parameters() if w.requires_grad}


@pytest.mark.parametrize("tied", [False, True])
def test_an_average_says_what_a_model_with_its_weights_says_and_leaves_the_student_alone(tied):
    student = tiny_models.tiny_model(tied=tied)
    average = StudentAverage(student, 0.5)
    other = tiny_models.tiny_model(tied=tied, seed=7)
    average.weights = {name: weight.detach().clone() for name, weight in other.named_parameters()}
    before = copy.deepcopy(student.state_dict())
    ids = torch.arange(12).view(2, 6)
    found, expected = average.evidence({"input_ids": ids}, ids), LiveModel(other).evidence({"input_ids": ids})
    assert torch.equal(found.hidden, expected.hidden)
    assert torch.equal(found.head.weight, expected.head.weight)
    assert all(torch.equal(value, before[name]) for name, value in student.state_dict().items())
    assert student.training == tiny_models.tiny_model().training


def test_an_average_that_keeps_nothing_is_the_student_and_dft_under_the_same_prompt():
    """π̃ is p then, so the target is γ·onehot + (1 − γ)·p: dft's."""
    same = tiny_models.prompt_completion(16)
    dft = ran((), data=same, method="dft", method_kwargs={})
    gradients = parity.history(dft)["grad_norm"]
    assert history(data=same, ema=0.0)["grad_norm"] == pytest.approx(gradients, rel=1e-5)
    assert history(ema=0.0)["grad_norm"] != pytest.approx(gradients, rel=1e-2)


def test_accumulated_batches_are_whole_ones():
    whole = history(ema=0.5, per_device_train_batch_size=8)
    for parts in (2, 4):
        cut = {"per_device_train_batch_size": 8 // parts, "gradient_accumulation_steps": parts}
        assert max(parity.deviation(history(ema=0.5, **cut), whole)) < 1e-5


@pytest.mark.parametrize("peft", [None, {}])
def test_a_run_with_an_average_resumes_bit_for_bit(tmp_path, peft):
    changes = {"max_steps": 6, "save_strategy": "steps", "save_steps": 3, "ema": 0.8, "peft": peft}
    changes |= {"optim": "adamw_torch", "learning_rate": 1e-2, "output_dir": str(tmp_path)}
    whole = ran(**changes)
    again = build(**changes)
    again.train(resume_from_checkpoint=str(tmp_path / "checkpoint-3"))
    assert parity.history(again) == parity.history(whole)
    for one, two in zip(whole.model.parameters(), again.model.parameters(), strict=True):
        assert torch.equal(one, two)
    for name, average in whole.teachers[0].weights.items():
        assert torch.equal(average, again.teachers[0].weights[name])
    with pytest.raises(ValueError, match="ema"):
        build(**{**changes, "ema": 0.9}).train(resume_from_checkpoint=str(tmp_path / "checkpoint-3"))
    (tmp_path / "checkpoint-3" / AVERAGE_FILE).unlink()
    with pytest.raises(ValueError, match=AVERAGE_FILE):
        build(**changes).train(resume_from_checkpoint=str(tmp_path / "checkpoint-3"))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"ema": 1.0}, "less than 1, as in `ema: 0.99`"),
        ({"ema": -0.1}, "a number of 0 or more"),
        ({"ema": 0.9, "teacher": tiny_models.tiny_model(seed=1)}, "write `teacher: self` beside it"),
        ({"ema": 0.9, "teacher": None}, "write `teacher: self` beside it"),
        ({"ema": 0.9, "teacher_cache": "cache"}, "cannot be in a cache; remove `ema`"),
        ({"teacher_init_kwargs": {"attn_implementation": "eager"}}, "remove `teacher_init_kwargs`"),
        ({"ema": 0.9, "teacher_dtype": "bfloat16"}, "remove `teacher_dtype`"),
        ({"method": "sft", "method_kwargs": {}}, "reads no teacher"),
    ],
)
def test_what_means_nothing_is_refused_with_the_line(changes, message):
    with pytest.raises(ValueError, match=message):
        build(**{"data": tiny_models.prompt_completion(8), **changes})


def test_a_method_that_stands_still_where_the_teacher_is_the_student_is_known_by_its_gradient():
    still = {name for name in qt.METHODS if qt.method(name).num_teachers and stands_still(qt.method(name), True)}
    assert still == {
        "kd", "taid", "extrapolated", "reverse-kl", "jsd", "skew-kl", "skew-reverse-kl", "todi", "akl", "tvd",
        "entropy-aware-kl",
    }  # fmt: skip
    assert stands_still(qt.method("kd-hybrid", teacher_weight=1.0), True)
    assert not stands_still(qt.method("kd-hybrid", teacher_weight={"from": 1, "to": 0.5}), True)
    assert not stands_still(qt.method("kd", teacher_temperature=0.5), True)  # a sharper student is another one
    assert not stands_still(qt.method("extrapolated"), False)


PLAIN = tiny_models.prompt_completion(8)


@pytest.mark.parametrize("changes", [{}, {"ema": 0.9}, {"peft": {"init_lora_weights": True}}, {"peft": {}, "ema": 0.9}])
def test_a_teacher_that_is_the_student_and_all_that_is_learned_from_is_refused(changes):
    """The gradient is zero, and an optimizer such as Adam makes steps of its rounding."""
    with pytest.raises(
        ValueError, match=r"gradient is zero and nothing would be learned.*privileged_context.*teacher="
    ):
        build(data=PLAIN, method="kd", method_kwargs={}, **changes)
    assert build(method="kd", method_kwargs={}, **changes)  # its own prompt tells it more


TOLD = {"null": lambda *_: None, "the prompt": lambda prompt, _: prompt}


@pytest.mark.parametrize("told", TOLD)
@pytest.mark.parametrize("changes", [{}, {"ema": 0.9}, {"packing": True, "max_length": 64}])
def test_a_column_that_never_tells_the_teacher_anything_else_is_no_prompt_of_its_own(told, changes):
    data = rows(TOLD[told])
    for method in ("kd", "jsd", "reverse-kl"):
        with pytest.raises(
            ValueError, match=r"`teacher_prompt` is null or the prompt itself in every row looked at.*is zero"
        ):
            build(data=data, method=method, method_kwargs={}, **changes)
    if "ema" not in changes:
        with pytest.warns(UserWarning, match="in every row.*a pull back to where training starts"):
            build(data=data, **changes)


def test_one_row_that_tells_the_teacher_more_is_enough_unless_the_cut_takes_it():
    last = tiny_models.prompt_completion(16)[15]["prompt"]
    data = rows(lambda prompt, _: f"w1 w2 {prompt}" if prompt == last else None)
    assert build(data=data, method="kd", method_kwargs={})
    shortest = {"max_length": 2, "truncation_mode": "keep_end"}
    with pytest.raises(ValueError, match=r"in every row looked at, or cut off by `max_length`.*is zero"):
        build(data=data, method="kd", method_kwargs={}, **shortest)


def test_rows_to_evaluate_tell_the_teacher_nothing_about_those_to_train_on():
    config = TargetSFTConfig(method="kd", **parity.common_args(max_steps=2))
    with pytest.raises(ValueError, match="gradient is zero"):
        TargetSFTTrainer(
            tiny_models.tiny_model(), config, train_dataset=PLAIN, eval_dataset=rows(hinted), teacher="self",
            processing_class=tiny_models.tiny_tokenizer(),
        )  # fmt: skip


@pytest.mark.parametrize("start", ["pissa", "olora"])
@pytest.mark.parametrize("changes", [{}, {"method": "sft-kl", "method_kwargs": {}, "teacher": None}])
def test_a_base_that_lost_a_part_to_its_adapter_is_not_the_initial_model(start, changes):
    with pytest.raises(ValueError, match=r"takes a part out of the base's weights.*path/or/hub-name.*=True"):
        build(**{"data": PLAIN, "peft": {"init_lora_weights": start}, **changes})
    assert build(peft={"init_lora_weights": start}, ema=0.5)


def test_a_base_that_is_not_the_student_with_its_adapter_is_another_teacher():
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        trainer = build(data=PLAIN, method="kd", method_kwargs={}, peft={"init_lora_weights": False})
        build(data=PLAIN, peft={"init_lora_weights": False})
    trainer.train()
    assert trainer.state.log_history[0]["grad_norm"] > 1e-3


def test_the_students_own_folder_is_the_student_too(tmp_path):
    tiny_models.tiny_model().save_pretrained(tmp_path)
    tiny_models.tiny_tokenizer().save_pretrained(tmp_path)
    config = TargetSFTConfig(method="kd", **parity.common_args(max_steps=2))
    for name in (str(tmp_path), f"{tmp_path}/"):
        with pytest.raises(ValueError, match="gradient is zero"):
            TargetSFTTrainer(str(tmp_path), config, train_dataset=PLAIN, teacher=name)


def test_a_teacher_that_only_pulls_back_to_the_start_is_warned_of():
    with pytest.warns(UserWarning, match="a pull back to where training starts.*privileged_context.*sft-kl"):
        build(data=PLAIN)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        build()
        build(data=PLAIN, ema=0.9)
        build(data=PLAIN, teacher=tiny_models.tiny_model(seed=1))

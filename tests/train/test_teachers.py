"""Live teachers in training: frozen, outside the student, and over the student's vocabulary."""

import pytest
import tiny_models
import torch
from train import parity

import qtarget as qt
from qtarget.teacher import LiveModel
from qtarget.train import TargetSFTConfig, TargetSFTTrainer


def build(teacher, method="target-sft", student=None, **changes):
    return TargetSFTTrainer(
        tiny_models.tiny_model() if student is None else student,
        TargetSFTConfig(method=method, **parity.common_args(**{"max_steps": 3, **changes})),
        train_dataset=tiny_models.prompt_completion(32),
        processing_class=tiny_models.tiny_tokenizer(),
        teacher=teacher,
    )


def ran(*args, **kwargs):
    trainer = build(*args, **kwargs)
    trainer.train()
    return parity.history(trainer)


def padded(model, rows):
    """The same model with its embeddings padded, by rows that a logit of 0 makes as likely as many tokens."""
    wide = tiny_models.tiny_model(seed=1, vocab=rows)
    weights = model.state_dict()
    for name in ("model.embed_tokens.weight", "lm_head.weight"):
        weights[name] = torch.cat([weights[name], torch.zeros(rows - tiny_models.VOCAB, 32)])
    wide.load_state_dict(weights)
    return wide


@pytest.mark.failure_case(7)
@pytest.mark.parametrize("method", ["target-sft", "kd"])
def test_padding_of_the_teachers_vocabulary_does_not_matter(method):
    teacher = tiny_models.tiny_model(seed=1)
    own = ran(teacher, method)
    with pytest.warns(UserWarning, match="stand for no token"):
        assert max(parity.deviation(ran(padded(teacher, tiny_models.VOCAB + 28), method), own)) < 1e-5


@pytest.mark.failure_case(7)
@pytest.mark.parametrize("rows", [100, 112, 140])
def test_rows_without_a_token_get_no_mass_where_the_student_has_them_too(rows, tmp_path):
    """A teacher with as many rows as a padded student, with fewer and with more: the tokenizer says which count."""
    tiny_models.tiny_tokenizer().save_pretrained(tmp_path)
    padded(tiny_models.tiny_model(seed=1), rows).save_pretrained(tmp_path)
    own = ran(tiny_models.tiny_model(seed=1), "kd", student=padded(tiny_models.tiny_model(), 112))
    assert max(parity.deviation(ran(str(tmp_path), "kd", student=padded(tiny_models.tiny_model(), 112)), own)) < 1e-5


def test_a_student_padded_further_than_its_teacher_trains():
    history = ran(tiny_models.tiny_model(seed=1), student=padded(tiny_models.tiny_model(), tiny_models.VOCAB + 28))
    assert all(loss > 0 for loss in history["loss"])


@pytest.mark.parametrize("layout", [{"padding_free": True, "max_length": None}, {"packing": True, "max_length": 256}])
@pytest.mark.parametrize("method", ["target-sft", "sft-kl"])
def test_rows_laid_end_to_end_get_the_evidence_of_padded_rows(method, layout):
    """Eight rows, all in every step: packed into one row, laid end to end, or padded."""

    def rows(**changes):
        trainer = parity.run(method, data=tiny_models.prompt_completion(8), max_steps=3, learning_rate=0.5, **changes)
        return parity.history(trainer)

    assert max(parity.deviation(rows(**layout), rows())) < 1e-5


def test_a_path_is_a_teacher(tmp_path):
    tiny_models.tiny_model(seed=1).save_pretrained(tmp_path)
    tiny_models.tiny_tokenizer().save_pretrained(tmp_path)
    given = ran(tiny_models.tiny_model(seed=1))
    assert max(parity.deviation(ran(str(tmp_path)), given)) < 1e-6


@pytest.mark.parametrize(
    ("changes", "bound"),
    [({"teacher_dtype": "bfloat16"}, 1e-2), ({"teacher_init_kwargs": {"load_in_8bit": True}}, 5e-2)],
    ids=["bf16", "8 bits"],
)
def test_a_teacher_in_another_precision_trains_nearly_alike(changes, bound, tmp_path):
    tiny_models.tiny_model(seed=1).save_pretrained(tmp_path)
    tiny_models.tiny_tokenizer().save_pretrained(tmp_path)
    found = parity.deviation(ran(str(tmp_path), "kd", **changes), ran(str(tmp_path), "kd"))
    assert 1e-7 < max(found) < bound, found


def test_teachers_stay_out_of_the_student(tmp_path):
    teacher = tiny_models.tiny_model(seed=1)
    before = {name: weight.clone() for name, weight in teacher.state_dict().items()}
    trainer = build(teacher, save_strategy="steps", save_steps=3, output_dir=str(tmp_path))
    trainer.train()
    assert not any(weight.requires_grad for weight in teacher.parameters())
    assert all(torch.equal(weight, before[name]) for name, weight in teacher.state_dict().items())
    optimized = sum(len(group["params"]) for group in trainer.optimizer.param_groups)
    assert optimized == len(list(tiny_models.tiny_model().parameters()))
    saved = type(teacher).from_pretrained(tmp_path / "checkpoint-3")
    assert saved.state_dict().keys() == teacher.state_dict().keys()


def test_two_teachers_pull_together():
    mixed = qt.method("target-sft", eta=(0.3, 0.3))
    trainer = TargetSFTTrainer(
        tiny_models.tiny_model(),
        TargetSFTConfig(method="sft", **parity.common_args(max_steps=3)),
        train_dataset=tiny_models.prompt_completion(32),
        processing_class=tiny_models.tiny_tokenizer(),
        method=mixed,
        teacher=[tiny_models.tiny_model(seed=1), tiny_models.tiny_model(seed=1)],
    )
    trainer.train()
    one = ran(tiny_models.tiny_model(seed=1), method_kwargs={"eta": 0.6})
    assert max(parity.deviation(parity.history(trainer), one)) < 1e-5


class LabelTeacher:
    """Keeps to the protocol alone: sparse evidence, from a model's four likeliest tokens."""

    def __init__(self):
        self.live = LiveModel(tiny_models.tiny_model(seed=1))

    def evidence(self, inputs, labels):
        dense = self.live.evidence(inputs, labels)
        logprobs = torch.nn.functional.linear(dense.hidden, dense.head.weight).log_softmax(-1)
        top = logprobs.topk(tiny_models.VOCAB - 1)
        tail = (1 - top.values.exp().sum(-1)).clamp_min(1e-9).log()
        return qt.Sparse(top.indices, top.values, tail)


def test_whatever_keeps_to_the_protocol_is_a_teacher():
    """All tokens but one kept: the same as the live model, to the mass of one token."""
    assert max(parity.deviation(ran(LabelTeacher(), "kd"), ran(tiny_models.tiny_model(seed=1), "kd"))) < 1e-4

"""Evidence read where batches are made, found by what the documents say: the same training as from the live model."""

from dataclasses import dataclass, field

import pytest
import tiny_models
import torch
from train import parity

import qtarget as qt
from qtarget.teacher import Keep, KeptLogprobs, KeptSource, LiveModel, kept_logprobs
from qtarget.train import TargetSFTConfig, TargetSFTTrainer


@dataclass
class Asked:
    """Asks a live model, on the host and ahead of the step, and keeps every token."""

    keep: Keep = field(default_factory=lambda: Keep(tiny_models.VOCAB))
    is_remote: bool = False

    def __post_init__(self):
        self.model = LiveModel(tiny_models.tiny_model(seed=1))

    def answer(self, documents) -> KeptLogprobs:
        return kept_logprobs(self.model, documents, self.keep)


def ran(role: str, source, method: str = "target-sft", rows: int = 32, **changes):
    trainer = TargetSFTTrainer(
        tiny_models.tiny_model(),
        TargetSFTConfig(method=method, **parity.common_args(**{"max_steps": 4, **changes})),
        train_dataset=tiny_models.prompt_completion(rows),
        eval_dataset=tiny_models.prompt_completion(5, seed=9),
        processing_class=tiny_models.tiny_tokenizer(),
        **{role: source},
    )
    trainer.train()
    return parity.history(trainer), trainer.evaluate()


LAYOUTS = {
    "padded": {},
    "packed": {"packing": True, "max_length": 40, "per_device_train_batch_size": 2},
    "split": {"packing": True, "packing_strategy": "bfd_split", "max_length": 7, "per_device_train_batch_size": 2},
    "wrapped": {"packing": True, "packing_strategy": "wrapped", "max_length": 24, "per_device_train_batch_size": 2},
    "padding-free": {"padding_free": True, "max_length": None},
    "accumulated": {"per_device_train_batch_size": 2, "gradient_accumulation_steps": 4},
    "workers": {"dataloader_num_workers": 2},
    "epochs": {"max_steps": -1, "num_train_epochs": 2, "shuffle_dataset": True},
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_ahead_is_live(layout: str):
    (ahead, evaluated), (live, expected) = (
        ran("teacher", source, **LAYOUTS[layout]) for source in (KeptSource(Asked()), tiny_models.tiny_model(seed=1))
    )
    assert max(parity.deviation(ahead, live)) < 1e-5
    assert evaluated["eval_loss"] == pytest.approx(expected["eval_loss"], rel=1e-5)


def test_in_the_background_is_live():
    (ahead, _), (live, _) = (
        ran("teacher", source) for source in (KeptSource(Asked(is_remote=True)), tiny_models.tiny_model(seed=1))
    )
    assert max(parity.deviation(ahead, live)) < 1e-5


@pytest.mark.parametrize("method", ["sft-kl", "asft", "gift"])
def test_a_reference_read_ahead_is_live(method: str):
    (ahead, _), (live, _) = (
        ran("reference", source, method) for source in (KeptSource(Asked()), tiny_models.tiny_model(seed=1))
    )
    assert max(parity.deviation(ahead, live)) < 1e-5


def test_where_the_label_alone_is_read_nothing_else_is_kept():
    labels = KeptSource(Asked(Keep(0)), label_only=True)
    (ahead, _), (live, _) = (ran("reference", source, "prift") for source in (labels, tiny_models.tiny_model(seed=1)))
    assert max(parity.deviation(ahead, live)) < 1e-5


def test_the_teachers_entropy_is_logged_as_measured():
    whole, few = (KeptSource(Asked(Keep(k))) for k in (tiny_models.VOCAB, 4))
    (_, all_kept), (_, four_kept) = (ran("teacher", source, "kd") for source in (whole, few))
    assert four_kept["eval_teacher_entropy"] == pytest.approx(all_kept["eval_teacher_entropy"], rel=1e-3)


def test_an_error_of_the_source_stops_training_with_its_own_words():
    class Gone(Asked):
        def answer(self, documents):
            raise qt_error

    qt_error = ValueError("the teacher is gone")
    for remote in (False, True):
        with pytest.raises(ValueError, match="the teacher is gone"):
            ran("teacher", KeptSource(Gone(is_remote=remote)))


def test_a_few_tokens_of_a_document_in_a_packed_batch():
    """The positions before the supervised tokens hold what was said of these, and the others nothing."""
    from qtarget.teacher import documents_in
    from qtarget.teacher.documents import lay_out

    batch = {
        "input_ids": torch.tensor([[7, 8, 9, 7, 8, 5, 6]]),
        "labels": torch.tensor([[-100, 8, 9, 7, -100, 5, 6]]),
        "position_ids": torch.tensor([[0, 1, 2, 0, 1, 2, 3]]),
    }
    places = documents_in(batch)
    assert [(p.row, p.start, p.document.targets.tolist()) for p in places] == [(0, 0, [8, 9]), (0, 3, [5, 6])]
    values = lay_out({"x": torch.tensor([1.0, 2, 3, 4])}, places, batch["input_ids"].shape)
    assert values["x"].tolist() == [[1, 2, 0, 0, 3, 4, 0]]
    assert isinstance(KeptSource(Asked()).evidence(batch, batch["labels"]), qt.Sparse)

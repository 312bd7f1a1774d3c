"""What is logged: TRL's measures and the target's, averaged over tokens."""

import numpy as np
import pytest
import tiny_models
import torch
from train import parity
from trl import SFTConfig, SFTTrainer

from qtarget.train import TargetSFTConfig, TargetSFTTrainer
from qtarget.train.metrics import Meter


def build(method="sft", *, trainer=TargetSFTTrainer, config=TargetSFTConfig, changes=None, **kwargs):
    own = {"method": method} if config is TargetSFTConfig else {}
    return trainer(
        tiny_models.tiny_model(),
        config(**own, **parity.common_args(**{"max_steps": 4, "learning_rate": 0.3, **(changes or {})})),
        train_dataset=tiny_models.prompt_completion(),
        eval_dataset=tiny_models.prompt_completion(7, 1),
        processing_class=tiny_models.tiny_tokenizer(),
        **kwargs,
    )


def test_trls_measures_equal_trls():
    parity.skip_where_trl_cannot_train()
    ours, trls = build(), build(trainer=SFTTrainer, config=SFTConfig)
    for trainer in (ours, trls):
        trainer.train()
    names = ("entropy", "mean_token_accuracy", "num_tokens", "loss")
    for mine, theirs in zip(ours.state.log_history[:4], trls.state.log_history[:4], strict=True):
        assert [mine[name] for name in names] == pytest.approx([theirs[name] for name in names], rel=1e-5)
    assert max(entry.get("mean_token_accuracy", 0) for entry in ours.state.log_history) > 0


def test_the_load_balancing_loss_is_logged():
    logged = parity.run("sft", family="mixtral", max_steps=1).state.log_history[0]
    theirs = parity.run_trl("nll", family="mixtral", max_steps=1).state.log_history[0]
    assert logged["aux_loss"] == pytest.approx(theirs["aux_loss"], rel=1e-5)
    assert logged["loss"] == pytest.approx(logged["nll"] + 0.1 * logged["aux_loss"], rel=1e-5)


def test_a_targets_measures_are_logged_in_training_and_evaluation():
    trainer = build(
        "target-sft", teacher=tiny_models.tiny_model(seed=1), changes={"eval_strategy": "steps", "eval_steps": 4}
    )
    trainer.train()
    wanted = {"nll", "trust", "scale", "target_kl", "teacher_entropy", "entropy", "mean_token_accuracy"}
    train, evaluation = (e for e in trainer.state.log_history if e["step"] == 4 and ("loss" in e or "eval_loss" in e))
    assert wanted <= train.keys()
    assert {f"eval_{name}" for name in wanted} <= evaluation.keys()
    assert "teacher_entropy" not in build("sft").evaluate()


def test_dear_measures_are_taken_at_the_logged_steps_only():
    trainer = build(changes={"logging_steps": 2})
    asked = []
    original = trainer.target_calls.of
    trainer.target_calls.of = lambda *args: asked.append(original(*args)) or asked[-1]
    trainer.train()
    assert ["entropy" in call.diagnostics for call in asked] == [False, True, False, True]
    assert all("trust" in call.diagnostics for call in asked)


def test_eval_nll_is_the_same_number_under_every_method():
    found = {m: build(m).evaluate() for m in ("sft", "dft")}
    assert found["dft"]["eval_nll"] == pytest.approx(found["sft"]["eval_nll"], rel=1e-6)
    assert found["sft"]["eval_loss"] == pytest.approx(found["sft"]["eval_nll"], rel=1e-6)
    assert found["dft"]["eval_loss"] < 0.5 * found["dft"]["eval_nll"]


@pytest.mark.parametrize(
    "layout", [{}, {"padding_free": True, "max_length": None}, {"packing": True, "max_length": 32}]
)
def test_evaluation_weighs_every_token_alike(layout):
    """Batches of four and three rows of unequal lengths: a mean of their means would be another number."""
    found = build(changes={"per_device_eval_batch_size": 4, **layout}).evaluate()
    whole = build(changes={"per_device_eval_batch_size": 7}).evaluate()
    for name in ("eval_loss", "eval_nll", "eval_entropy"):
        assert found[name] == pytest.approx(whole[name], rel=1e-6)


def test_a_prepared_set_may_be_handed_back():
    """Packed once more, its documents would run into one another."""
    trainer = build(changes={"packing": True, "max_length": 32})
    assert trainer.evaluate(trainer.eval_dataset)["eval_nll"] == trainer.evaluate()["eval_nll"]


def test_predict_and_compute_metrics_get_logits():
    seen = {}

    def metrics(prediction):
        seen["shape"] = prediction.predictions.shape
        return {"labelled": int((prediction.label_ids != -100).sum())}

    trainer = build(compute_metrics=metrics)
    found = trainer.evaluate()
    assert seen["shape"][0] == 7
    assert seen["shape"][2] == tiny_models.VOCAB
    assert found["eval_labelled"] > 0
    predicted = trainer.predict(trainer.eval_dataset)
    assert predicted.predictions.shape == seen["shape"]
    assert predicted.metrics["test_nll"] == pytest.approx(found["eval_nll"])
    rows = trainer.eval_dataset["input_ids"]
    with torch.no_grad():
        logits = trainer.model(input_ids=torch.tensor([rows[0]])).logits[0]
    np.testing.assert_allclose(predicted.predictions[0, : len(rows[0])], logits, rtol=1e-4, atol=1e-4)


def test_a_meter_weighs_by_count_and_forgets_what_it_has_told():
    meter = Meter()
    meter.add("nll", torch.tensor(6.0), 3)
    meter.add("nll", torch.tensor(1.0), 1)
    meter.add_tokens({"top1": torch.tensor([1.0, float("nan"), 0.0])})
    assert meter.read(lambda table: 2 * table) == {"mean_token_accuracy": (2, 4), "nll": (14, 8)}
    assert meter.read(lambda table: table) == {}


def test_an_evaluation_does_not_disturb_the_training_log():
    with_eval = build(changes={"logging_steps": 4, "eval_strategy": "steps", "eval_steps": 2})
    without = build(changes={"logging_steps": 4})
    for trainer in (with_eval, without):
        trainer.train()
    one, two = (next(e for e in t.state.log_history if "loss" in e) for t in (with_eval, without))
    assert one["nll"] == pytest.approx(two["nll"], rel=1e-9)
    assert one["num_tokens"] == two["num_tokens"]

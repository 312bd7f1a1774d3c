"""Numbers that change while a run goes on: the same under accumulation, ranks, packing, and where it goes on."""

import json

import pytest
import tiny_models
import torch
from datasets import Dataset, IterableDataset
from train import parity

import qtarget as qt
from qtarget.disk.seal import SEAL
from qtarget.target.pace import AdaptivePace, PaceState
from qtarget.train import TargetSFTConfig, TargetSFTTrainer
from qtarget.train.run_progress import SCHEDULE_FILE

FAST = {"start": 0.1, "step_size": 0.9, "momentum": 0.3}
"""A pace of taid's that a few steps move far ahead of the linear one."""
ETA = {"eta": {"from": 0.1, "to": 0.9, "shape": "cosine"}}


class Watched(TargetSFTTrainer):
    """Notes the progress of every micro-batch, in training and in evaluation."""

    def compute_loss(self, model, inputs, *args, **kwargs):
        self.__dict__.setdefault("seen", []).append(self.run_progress.now)
        return super().compute_loss(model, inputs, *args, **kwargs)


def trainer(folder, method="target-sft", settings=ETA, rows=None, **changes) -> Watched:
    changes = {"max_steps": 4, "per_device_train_batch_size": 4, "save_strategy": "steps", "save_steps": 1, **changes}
    return Watched(
        tiny_models.tiny_model(),
        TargetSFTConfig(method=method, method_kwargs=settings, **parity.common_args(output_dir=str(folder), **changes)),
        train_dataset=tiny_models.prompt_completion() if rows is None else rows,
        processing_class=tiny_models.tiny_tokenizer(),
        teacher=tiny_models.tiny_model(seed=1, width=48),
    )


def weights(run) -> torch.Tensor:
    return torch.cat([each.detach().flatten() for each in run.model.parameters()])


def test_progress_is_the_share_of_steps_done_and_constant_within_a_step(tmp_path):
    run = trainer(tmp_path, gradient_accumulation_steps=2, per_device_train_batch_size=2)
    assert run.run_progress.now == 0
    run.train()
    assert run.seen == [0, 0, 0.25, 0.25, 0.5, 0.5, 0.75, 0.75]
    logged = {entry["step"]: entry["progress"] for entry in run.state.log_history if "loss" in entry}
    assert logged == {1: 0, 2: 0.25, 3: 0.5, 4: 0.75}
    assert "progress" not in run.state.log_history[-1]  # of the whole run
    run.seen.clear()
    run.evaluate(tiny_models.prompt_completion(2))
    assert set(run.seen) == {1.0}


@pytest.mark.parametrize("settings", [("target-sft", ETA), ("taid", FAST)])
def test_the_progress_that_is_logged_is_the_one_that_the_steps_loss_was_computed_with(tmp_path, settings):
    run = trainer(tmp_path / "whole", *settings, logging_steps=2)
    run.train()
    logged = {entry["step"]: entry["progress"] for entry in run.state.log_history if "loss" in entry}
    assert logged == {2: run.seen[1], 4: run.seen[3]}
    again = trainer(tmp_path / "again", *settings, logging_steps=2)
    again.train(resume_from_checkpoint=str(tmp_path / "whole" / "checkpoint-3"))
    assert {entry["step"]: entry["progress"] for entry in again.state.log_history if "loss" in entry} == logged


def test_a_scheduled_step_is_the_step_of_the_plain_method_with_its_number(tmp_path):
    """The first step at η = 0.1, the second at the half of a two-step run."""
    halfway = parity.history(trainer_after(tmp_path / "a", ETA, 2))
    by_hand = [parity.history(trainer_after(tmp_path / f"{eta}", {"eta": eta}, 2))["loss"] for eta in (0.1, 0.5)]
    assert halfway["loss"][0] == by_hand[0][0]
    assert halfway["loss"][1] not in (by_hand[0][1], by_hand[1][1])


def trainer_after(folder, settings, steps):
    run = trainer(folder, settings=settings, max_steps=steps, save_strategy="no")
    run.train()
    return run


@pytest.mark.failure_case(4)
@pytest.mark.parametrize(("method", "settings"), [("target-sft", ETA), ("taid", FAST)])
def test_a_batch_of_8_is_2x4_is_1x8_under_a_schedule(method, settings):
    off = parity.accumulation(method, steps=4, method_kwargs=settings)
    assert max(off) < 1e-5, off


@pytest.mark.failure_case(5)
@pytest.mark.parametrize("layout", [{"packing": True, "max_length": 24}, {"padding_free": True, "max_length": None}])
def test_packed_equals_padded_along_the_completion(layout):
    """Positions are those within each document's completion, however it is laid out."""
    whole = {"max_steps": 2, "num_train_epochs": 2, "per_device_train_batch_size": 6, "learning_rate": 0.3}
    whole |= {"data": tiny_models.prompt_completion(6)}
    whole |= {"method_kwargs": {"eta": {"from": 0, "to": 1, "along": "position"}}}
    padded, laid = (parity.history(parity.run("target-sft", **whole, **each)) for each in ({}, layout))
    plain = parity.history(parity.run("target-sft", **{**whole, "method_kwargs": {"eta": 0.5}}))
    assert max(parity.deviation(laid, padded)) < 1e-5
    assert max(parity.deviation(plain, padded)) > 1e-3


@pytest.mark.failure_case(4)
def test_two_processes_equal_one_under_schedules():
    from train.two_ranks import scheduled

    two, one = parity.launch("schedules")["schedules"], scheduled(1)
    for name in one:
        assert max(parity.deviation(two[name], one[name])) < 1e-5, name
        assert two[name]["weights"] == pytest.approx(one[name]["weights"], rel=1e-6)
        assert two[name]["evaluated"] == pytest.approx(one[name]["evaluated"], rel=1e-5)


@pytest.mark.failure_case(1)
@pytest.mark.parametrize(("method", "settings"), [("target-sft", ETA), ("taid", FAST)])
def test_a_run_that_goes_on_is_the_unbroken_run(tmp_path, method, settings):
    whole = trainer(tmp_path, method, settings)
    whole.train()
    for step in (1, 3):
        again = trainer(tmp_path, method, settings)
        again.train(resume_from_checkpoint=str(tmp_path / f"checkpoint-{step}"))
        assert again.seen == whole.seen[step:]
        assert torch.equal(weights(again), weights(whole))
    if method == "taid":
        assert whole.seen[2] > 0.51, "ahead of the linear pace"


def test_taids_pace_without_its_state_is_another_run(tmp_path):
    """So the state in a checkpoint is read: without it training stops, in words."""
    trainer(tmp_path, "taid", FAST).train()
    for name in (SCHEDULE_FILE, SEAL):
        (tmp_path / "checkpoint-2" / name).unlink()
    again = trainer(tmp_path, "taid", FAST, resume_unsealed=True)
    with pytest.raises(ValueError, match=r'has no schedule\.json, so how far the schedule of "taid".*adaptive: false'):
        again.train(resume_from_checkpoint=str(tmp_path / "checkpoint-2"))


@pytest.mark.failure_case(24)
def test_a_longer_run_keeps_the_schedules_length_unless_told(tmp_path):
    trainer(tmp_path, max_steps=4).train()
    step = str(tmp_path / "checkpoint-2")
    longer = trainer(tmp_path / "b", max_steps=8, resume_changed=["max_steps"])
    longer.train(resume_from_checkpoint=step)
    assert longer.seen == [0.5, 0.75, 1, 1, 1, 1]
    on = trainer(tmp_path / "b", max_steps=8)
    on.train(resume_from_checkpoint=str(tmp_path / "b" / "checkpoint-6"))
    assert on.seen == [1, 1]
    with pytest.raises(ValueError, match="schedule_steps"):
        trainer(tmp_path / "c", max_steps=8, schedule_steps=8, resume_changed=["max_steps"]).train(step)
    told = trainer(tmp_path / "c", max_steps=8, schedule_steps=8, resume_changed=["max_steps", "schedule_steps"])
    told.train(resume_from_checkpoint=step)
    assert told.seen == [0.25, 0.375, 0.5, 0.625, 0.75, 0.875]


def test_a_trainer_that_trains_anew_begins_its_schedule_anew(tmp_path):
    run = trainer(tmp_path, "taid", FAST, save_strategy="no")
    run.train()
    first, run.seen = run.seen, []
    run.train()
    assert run.seen[0] == 0
    assert first[0] == 0


@pytest.mark.parametrize("bad", [0, -1, 2.5, True, "all"])
def test_a_length_that_is_none_is_refused(tmp_path, bad):
    with pytest.raises(ValueError, match=r"schedule_steps is .*as in `schedule_steps: 1000`"):
        trainer(tmp_path, schedule_steps=bad)


def test_a_length_without_a_schedule_is_refused(tmp_path):
    with pytest.raises(
        ValueError, match=r'"target-sft" has no schedule along the run, and schedule_steps is 5; remove'
    ):
        trainer(tmp_path, settings={"eta": "agreement"}, schedule_steps=5)


def test_a_schedule_of_a_stream_needs_a_number_of_steps(tmp_path):
    stream = IterableDataset.from_generator(lambda: iter(tiny_models.token_rows(8)))
    with pytest.raises(ValueError, match=r'"target-sft" has a schedule, and how many steps.*`max_steps: 1000`'):
        trainer(tmp_path, rows=stream, max_steps=-1)
    run = trainer(tmp_path, rows=stream, max_steps=2, per_device_train_batch_size=2, save_strategy="no")
    run.train()
    assert run.seen == [0, 0.5]


@pytest.mark.parametrize("strategy", ["wrapped", "bfd_split"])
def test_positions_are_refused_where_completions_are_cut(tmp_path, strategy):
    settings = {"eta": {"from": 0.2, "to": 0.8, "along": "position"}}
    with pytest.raises(ValueError, match=rf'packing_strategy "{strategy}" cuts completions; write `packing_strategy'):
        trainer(tmp_path, settings=settings, packing=True, packing_strategy=strategy, max_length=24)


def test_taids_state_is_in_the_checkpoint_and_moves_as_the_official_code_moves_it(tmp_path):
    """The official update, worked out by hand from the logged losses; without its lag of one step."""
    run = trainer(tmp_path, "taid", FAST)
    run.train()
    t, momentum, before = FAST["start"], 0.0, None
    for step, loss in enumerate(parity.history(run)["loss"], 1):
        linear = 0.1 + 0.9 * step / 4
        if before is None:
            t = max(t, linear)
        else:
            momentum = 0.3 * momentum + 0.7 * (before - loss) / (before + 1e-15)
            t = min(1.0, max(linear, t + 0.9 / (1 + 2.718281828459045**-momentum) * (1 - t)))
        before = loss
        held = json.loads((tmp_path / f"checkpoint-{step}" / SCHEDULE_FILE).read_text())
        assert 0.1 + 0.9 * held["progress"] == pytest.approx(t, rel=1e-4)
        assert held["momentum"] == pytest.approx(momentum, rel=1e-3, abs=1e-4)
        assert held["steps"] == 4


def test_a_loss_that_is_not_finite_moves_the_linear_pace_alone():
    pace, state = AdaptivePace(0.2, 1.0, 0.5, 0.9), PaceState(0.3, 0.1, 2.0)
    assert pace.after(state, float("nan"), 0.25) == state
    assert pace.after(state, float("inf"), 0.5) == PaceState(0.5, 0.1, 2.0)
    assert pace.after(PaceState(), 2.0, 0.1) == PaceState(0.1, 0.0, 2.0)
    assert pace.after(state, 1.0, 0.25).progress > 0.3


def test_a_loss_that_rises_far_holds_the_pace_and_one_of_nothing_is_no_measure():
    pace = AdaptivePace(0.4, 1.0, 5e-4, 0.99)
    risen = pace.after(pace.after(PaceState(), 1e-5, 0.0), 1.0, 0.1)
    assert risen == (0.1, pytest.approx(-999.99), 1.0)  # sigmoid(-999.99) is 0 in float64: the linear pace alone
    measured = PaceState(0.3, 0.1, 2.0)
    for nothing in (0.0, -1e-9):  # a divergence may round below 0
        assert pace.after(measured, nothing, 0.5) == PaceState(0.5, 0.1, 2.0)
        assert pace.after(PaceState(), nothing, 0.1) == PaceState(0.1, 0.0, None)
    ahead = pace.after(measured, 1e-300, 0.3).momentum
    assert ahead == pytest.approx(0.99 * 0.1 + 0.01)


def test_a_step_whose_tokens_weigh_nothing_leaves_taids_pace_to_the_steps(tmp_path):
    rows = [
        {**row, "token_weight": [float(place >= 4)] * len(row["input_ids"])}
        for place, row in enumerate(tiny_models.token_rows(8))
    ]
    run = trainer(tmp_path, "taid", {"start": 0.2}, Dataset.from_list(rows), train_sampling_strategy="sequential")
    run.train()
    assert run.seen[:2] == [0, 0.25]
    assert run.run_progress.now == 1


def test_methods_without_a_schedule_write_no_schedule(tmp_path):
    trainer(tmp_path, settings={"eta": 0.3}, max_steps=1).train()
    assert not (tmp_path / "checkpoint-1" / SCHEDULE_FILE).exists()


def test_a_composed_method_may_have_a_schedule(tmp_path):
    gamma = qt.changing.ramp(1.0, 0.0, until=0.5)
    mine = qt.Method("mine", gamma, qt.residual.rest(gamma, qt.residual.teacher()))
    run = TargetSFTTrainer(
        tiny_models.tiny_model(),
        TargetSFTConfig(**parity.common_args(output_dir=str(tmp_path), max_steps=2)),
        train_dataset=Dataset.from_list(tiny_models.token_rows(8)),
        processing_class=tiny_models.tiny_tokenizer(),
        method=mine,
        teacher=tiny_models.tiny_model(seed=1, width=48),
    )
    run.train()
    trust = [entry["trust"] for entry in run.state.log_history if "trust" in entry]
    assert trust == pytest.approx([1.0, 0.0])

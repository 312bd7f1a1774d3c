"""Two gloo processes train, evaluate and stop as one does."""

import importlib.util

import pytest
from train import parity
from train.two_ranks import by_mass, evaluated_flat, placed, single, under_zero3, with_adapter

needs_deepspeed = pytest.mark.skipif(importlib.util.find_spec("deepspeed") is None, reason="needs deepspeed")
METHODS = ("sft", "dft", "target-sft", "sft-kl", "psft")


@pytest.fixture(scope="module")
def two(once):
    reports = (*METHODS, "flat", "heard", "fsdp", "adapter", "broken", "broken in parts", "collectives")
    reports += ("broken gradient", "by mass", "by mass, followed")
    reports += ("interrupted", "interrupted in evaluation")
    return once("two_ranks", lambda: parity.launch(*reports))


@pytest.fixture(scope="module")
def one():
    return {method: single(method) for method in METHODS}


@pytest.mark.failure_case(4)
@pytest.mark.parametrize("layout", parity.LAYOUTS)
@pytest.mark.parametrize("method", METHODS)
def test_two_processes_equal_one(two, one, method, layout):
    found = parity.deviation(two[method][layout], one[method][layout.partition("-")[0]])
    assert max(found) < 1e-5, found


@pytest.mark.parametrize("method", METHODS)
def test_weights_and_evaluation_agree(two, one, method):
    """Three evaluation rows on two ranks: one of them is seen twice, and must count once."""
    ours, theirs = two[method]["ddp"], one[method]["ddp"]
    assert ours["weights"] == pytest.approx(theirs["weights"], rel=1e-7)
    assert ours["evaluated"] == pytest.approx(theirs["evaluated"], rel=1e-5)


def test_rows_laid_end_to_end_count_once_too(two):
    assert two["flat"] == pytest.approx(evaluated_flat(1), rel=1e-5)


def test_a_live_model_cut_over_ranks_says_what_it_says_whole(two):
    """Whatever was wrapped: all, the head apart, the backbone alone, or as `device_map: fsdp` does it."""
    assert len(two["heard"]) == 8
    assert max(two["heard"].values()) < 1e-5, two["heard"]


def test_a_teacher_cut_over_ranks_beside_a_whole_student(two):
    assert two["fsdp"]["cut_up"] >= 24
    assert max(parity.deviation(two["fsdp"], placed(None, 1))) < 1e-5


def test_an_adapter_on_the_students_base(two):
    assert max(parity.deviation(two["adapter"], with_adapter(1))) < 1e-5


@pytest.mark.parametrize(("name", "follow"), [("by mass", False), ("by mass, followed", True)])
def test_a_cache_of_as_many_tokens_as_their_mass_asks_for(two, name, follow):
    one = by_mass(1, follow)
    assert max(parity.deviation(two[name], one)) < 1e-5
    assert two[name]["evaluated"] == pytest.approx(one["evaluated"], rel=1e-5)


@needs_deepspeed
def test_students_under_zero_stage_3_train_as_one_process():
    """With its output layer gathered for the loss, and that layer's gradient reduced."""
    two, one = parity.launch("student under zero3")["student under zero3"], under_zero3(1)
    assert two.keys() == one.keys()
    for name, found in two.items():
        assert (found["is_cut"], one[name]["is_cut"]) == (True, False), name
        assert max(parity.deviation(found, one[name])) < 1e-5, name
        assert found["eval_nll"] == pytest.approx(one[name]["eval_nll"], rel=1e-5), name


@needs_deepspeed
def test_a_teacher_under_zero_stage_3_beside_a_whole_student():
    found = parity.launch("zero3")["zero3"]
    assert found["cut_up"] >= 24
    assert max(parity.deviation(found, placed(None, 1))) < 1e-5


def test_ranks_wait_for_one_another_once_in_an_optimizer_step(two):
    """On our account, besides the gradients: whether all losses are finite."""
    assert two["collectives"] == {"4": 1}


def test_a_broken_micro_batch_stops_all_ranks_before_the_step_it_is_part_of(two):
    first, second = two["broken in parts"]
    assert first == second
    assert "optimizer step 2" in first
    assert "of its micro-batch 1 of 2" in first
    assert "rank 0" not in first


@pytest.mark.failure_case(3)
def test_one_ranks_broken_row_stops_all_ranks_and_is_named(two):
    first, second = two["broken"]
    assert first == second
    assert "optimizer step 3" in first
    assert "rank 1 has nan, from row 2 ('" in first


@pytest.mark.failure_case(3)
def test_one_ranks_broken_gradient_stops_all_ranks_and_its_row_is_named(two):
    first, second = two["broken gradient"]
    assert first[0].startswith("The gradient of optimizer step 2 is not finite, though its loss is: its norm is nan")
    assert first[0] == second[0]
    assert "nan: rank 1 has it from row 2 ('" in first[0]
    assert first[1] == second[1] < 1e3


def test_a_state_that_one_rank_lost_stops_all(two):
    first, second = two["broken gradient"]
    assert "lm_head.weight: exp_avg of rank 1." in first[2]
    assert first[2] == second[2]


@pytest.mark.failure_case(23)
@pytest.mark.parametrize(("when", "step"), [("interrupted", 3), ("interrupted in evaluation", 2)])
def test_a_signal_to_one_rank_stops_all_at_the_same_step(two, when, step):
    """One step later than alone, as ranks read the sum of the step before; an evaluation is broken off. Both say what
    the cause was, also the one that has no signal of its own."""
    first, second = two[when]
    where = f"after step {step} of 5. Nothing is lost: out/checkpoint-{step} holds all of it. Go on with "
    assert first[0].startswith(f"stopped by SIGTERM {where}")
    assert second[0].startswith(f"stopped by SIGTERM {where}")
    assert first[1:3] == second[1:3] == [[f"checkpoint-{step}"], None]
    assert (first[3], second[3]) == (143, 143)

"""`vocabulary_parallel: true` on two gloo ranks trains as one process does, with whole copies, under FSDP2 and under
tensor parallelism; what it cannot be for is refused."""

from types import SimpleNamespace
from typing import Any

import pytest
import tiny_models
import torch
from accelerate.utils import DistributedType
from train import parity
from train.test_lookup import cached
from train.vocabulary_ranks import CASES, COPIED, TEACHER, figures

import qtarget as qt
from qtarget.data import Asker
from qtarget.teacher import frozen_copy
from qtarget.teacher.cache import ByMass
from qtarget.train import TargetSFTConfig
from qtarget.train.process_group import check_saving
from qtarget.train.repeats import without_repeats
from qtarget.train.vocabulary_cut import vocabulary_cut

PLACES = ("data", "fsdp", "tensor")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Caches of the teacher."""
    made = tmp_path_factory.mktemp("vocabulary")
    teacher = str(made / "teacher")
    tiny_models.tiny_model(**TEACHER).save_pretrained(teacher)
    tiny_models.tiny_tokenizer().save_pretrained(teacher)
    cached(made / "whole", teacher)
    cached(made / "by mass", teacher, by_mass=ByMass(0.3, 2, 12))
    return made


@pytest.fixture(scope="module", params=PLACES)
def two(request, once, folder):
    launch = {"script": "vocabulary_ranks.py"}
    return once(f"vocabulary_{request.param}", lambda: parity.launch(request.param, str(folder), **launch))


@pytest.fixture(scope="module")
def one(folder):
    return {name: figures(case, "one", folder) for name, case in (CASES | COPIED).items()}


@pytest.mark.parametrize("name", [*CASES, *COPIED])
def test_two_ranks_train_as_one_process(two, one, name):
    if name not in two:
        pytest.skip("a copied reference is refused under tensor parallelism")
    ours, theirs = two[name], one[name]
    rows = theirs["rows"][0]
    assert theirs["rows"] == [rows]
    assert ours["rows"][0] in (rows // 2, -(-rows // 2))
    assert max(parity.deviation(ours, theirs)) < 1e-5
    assert ours["num_tokens"] == theirs["num_tokens"]
    assert ours["evaluated"] == pytest.approx(theirs["evaluated"], rel=1e-5)
    for kind in ("gradients", "weights"):
        assert ours[kind].keys() == theirs[kind].keys()
        found = {weight: _apart(ours[kind][weight], theirs[kind][weight]) for weight in theirs[kind]}
        assert max(found.values()) < 1e-5, (kind, found)


def _apart(a: list[float], b: list[float]) -> float:
    """The largest difference, in units of the largest of b."""
    ours, theirs = torch.tensor(a), torch.tensor(b)
    return float((ours - theirs).abs().max() / theirs.abs().max().clamp(min=1e-12))


def test_a_run_that_goes_on_comes_to_the_same_weights(two: dict[str, Any]):
    if "resumed" not in two:
        pytest.skip("there is no going on under tensor parallelism")
    assert two["resumed"]["unbroken"] == two["resumed"]["resumed"]


def test_one_ranks_broken_row_is_named_and_no_other(two: dict[str, Any]):
    if "stopped" not in two:
        pytest.skip("asked once")
    first, second = two["stopped"]
    assert first == second
    assert "rank 1 has nan, from row 2 ('" in first
    assert "rank 0" not in first


def test_a_weight_that_one_rank_lost_stops_both(two: dict[str, Any]):
    if "lost" not in two:
        pytest.skip("whole copies are alike on both")
    first, second = two["lost"]
    assert "lm_head.weight of rank 1" in first
    assert first == second


def asked(method: str = "sft", kind: str = "MULTI_GPU", ranks: int = 2, **changes: Any) -> Any:
    """The cut of a tiny model as a trainer asks for it on one of several ranks."""
    accelerator = SimpleNamespace(num_processes=ranks, distributed_type=DistributedType(kind), is_fsdp2=False)
    args = TargetSFTConfig(**parity.common_args(**{"vocabulary_parallel": True, **changes}))
    return vocabulary_cut(tiny_models.tiny_model(), qt.method(method), args, accelerator, Asker.COMMAND_LINE)


@pytest.mark.parametrize(
    ("said", "given"),
    [
        ("not supported under DeepSpeed; write `vocabulary_parallel: false`", {"kind": "DEEPSPEED"}),
        ("write `fsdp_version: 2`", {"kind": "FSDP"}),
        ("which no graph holds; write `vocabulary_parallel: false`", {"torch_compile": True}),
        ('"talr" looks at the micro-batch of one rank', {"method": "talr"}),
        ("write `average_tokens_across_devices: true`", {"average_tokens_across_devices": False}),
    ],
    ids=str,
)
def test_what_it_cannot_be_for_is_refused(said, given):
    with pytest.raises(ValueError, match=said):
        asked(**given)


def test_one_process_is_warned_of():
    with pytest.warns(UserWarning, match="this run is one process: nothing is cut"):
        assert asked(ranks=1) is None
    assert asked(ranks=1, vocabulary_parallel=False) is None


def test_ranks_that_read_one_batch_mask_alike():
    """The last evaluation batch of two pairs of ranks, of which the second pair has one row that is new."""
    batch = {"labels": torch.ones(2, 3, dtype=torch.long)}
    state = SimpleNamespace(end_of_dataloader=True, remainder=3)
    masked = []
    for rank in range(4):
        accelerator: Any = SimpleNamespace(num_processes=4, process_index=rank, gradient_state=state)
        masked.append((without_repeats(batch, accelerator, readers=2)["labels"][:, 0] == -100).tolist())
    assert masked == [[False, False]] * 2 + [[False, True]] * 2


class TestAStudentThatTransformersCuts:
    def test_checkpoints_to_go_on_from_are_refused(self):
        args = TargetSFTConfig(**parity.common_args(save_strategy="steps"))
        args.model_init_kwargs = {"distributed_config": {"tp_size": 2}}
        with pytest.raises(ValueError, match="no run goes on from a checkpoint; write `save_strategy: no`"):
            check_saving("model", args, Asker.COMMAND_LINE)
        args.save_strategy = "no"
        check_saving("model", args, Asker.COMMAND_LINE)

    def test_copies_are_refused(self):
        model = tiny_models.tiny_model()
        model._is_distributed_loading_by_transformers = True
        with pytest.raises(ValueError, match="would compute with the student's own weights"):
            frozen_copy(model, torch.device("cpu"))

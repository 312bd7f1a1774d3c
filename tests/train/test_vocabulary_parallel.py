"""`vocabulary_parallel: true` on two gloo ranks trains as one process does, with whole copies, under FSDP2 and under
tensor parallelism; what it cannot be for is refused."""

from typing import Any

import pytest
import tiny_models
import torch
from train import parity
from train.test_lookup import cached
from train.vocabulary_ranks import CASES, COPIED, TEACHER, figures

from qtarget.teacher.cache import ByMass

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
    assert "rank 1 has nan, from row 1 ('" in first
    assert "rank 0" not in first

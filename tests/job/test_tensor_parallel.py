"""`qtarget train` of a student that transformers cuts by tensor parallelism, and of its output layer in parts."""

import os
import signal

import pytest
import torch
from job.launched import launched
from job.sharding_on_cpus import ShardingOnCPUs
from job.stopped import ended
from job.test_lost_ranks import ON_CPUS, OnRank, stepping
from safetensors.torch import load_file

pytestmark = pytest.mark.skipif(os.name != "posix", reason="forks")
TRAIN = (*ON_CPUS, "--max-steps", "4", "--save-strategy", "no")
SGD = (*TRAIN, "--optim", "sgd", "--learning-rate", "0.1")
CUT = ("--model-init-kwargs", "{dtype: float32, distributed_config: {tp_size: 2}}", "--vocabulary-parallel")
ON_TWO = ShardingOnCPUs(fsdp=False)


def test_two_ranks_leave_the_result_of_one_process(here):
    said = launched([*SGD, *CUT], ON_TWO, folder=here)
    assert said.codes == [0, 0], said.err
    ours = load_file(here / "out" / "model.safetensors")
    assert ended([*SGD, "--output-dir", "alone"], folder=here).code == 0
    theirs = load_file(here / "alone" / "model.safetensors")
    assert ours.keys() == theirs.keys()
    for name, weight in theirs.items():
        torch.testing.assert_close(ours[name], weight, rtol=1e-5, atol=1e-6)


def test_a_run_that_is_stopped_says_that_nothing_is_kept(here):
    said = launched([*TRAIN, *CUT], ON_TWO, OnRank(1, stepping(signal.SIGTERM)), folder=here)
    assert said.codes == [143, 143], said.err
    assert "Nothing of it is kept: of a model that transformers cuts over ranks" in " ".join(said.err.split())
    assert not list((here / "out").glob("checkpoint-*"))


def test_checkpoints_are_refused_with_the_line(here):
    said = launched([*ON_CPUS, "--max-steps", "4", *CUT], ON_TWO, folder=here)
    assert said.codes == [2, 2], said.err
    assert "write `save_strategy: no` (or --save-strategy no)" in " ".join(said.err.split())

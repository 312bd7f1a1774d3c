"""Sealed checkpoints of two ranks, copied (DDP) or cut (FSDP2): whole ones are gone on from to the same weights, others
are passed over by both ranks. `QTARGET_CHAOS=1` tries all kinds with all kinds of damage."""

import json
import os
import shutil
from pathlib import Path

import pytest
import torch
from job.launched import launched
from job.sharding_on_cpus import ShardingOnCPUs
from job.stopped import ended
from job.test_killed import AtEvent
from job.test_lost_ranks import ON_CPUS, TRAIN, OnRank, chaos
from safetensors.torch import load_file

from qtarget.disk.seal import read_seal
from qtarget.train.resumption.whole_checkpoints import checkpoint_fault

pytestmark = pytest.mark.skipif(os.name != "posix", reason="forks")
GO_ON = "--resume-from-checkpoint"
KINDS = {
    "DDP": ("rng_state_1.pth", "optimizer.pt", "log_window_1_of_2.safetensors"),
    "SHARDED": ("pytorch_model_fsdp_0/__1_0.distcp", "optimizer_0/__0_0.distcp", "optimizer_0/.metadata"),
    "FULL": ("pytorch_model_fsdp.bin", "optimizer.bin", "rng_state_1.pth"),
}
"""Files of checkpoints, of both ranks."""


def run(kind: str, folder: Path, *words: str, faults: tuple = ()):
    """Train on two ranks, under a kind of sharding."""
    if kind == "DDP":
        return launched([*ON_CPUS, *words], *faults, folder=folder)
    sharding = ("--fsdp", "full_shard", "--fsdp-config", f"{{version: 2, state_dict_type: {kind}_STATE_DICT}}")
    return launched([*ON_CPUS, *sharding, *words], ShardingOnCPUs(), *faults, folder=folder)


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


@pytest.mark.failure_case(2)
@pytest.mark.parametrize("kind", KINDS)
def test_a_damaged_checkpoint_is_passed_over_for_an_older_one_to_the_same_weights(here, kind):
    said = run(kind, here, "--max-steps", "8")
    assert said.codes == [0, 0], said.err
    out = here / "out"
    sealed = read_seal(out / "checkpoint-8")
    assert sealed.facts["ranks"] == 2
    assert {*KINDS[kind], "rng_state_0.pth", "rng_state_1.pth"} <= sealed.files.keys()
    whole = load_file(out / "model.safetensors")
    assert not any(name.startswith("_") or "module" in name for name in whole)
    for step, damage, name in zip((8, 6, 4), (flip, cut, Path.unlink), KINDS[kind], strict=True):
        damage(out / f"checkpoint-{step}" / name)
    (out / "model.safetensors").unlink()
    said = run(kind, here, "--max-steps", "8", GO_ON)
    assert said.codes == [0, 0], said.err
    assert "resumes   out/checkpoint-2\n" in said.ranks[0].out
    said_of = " ".join(said.ranks[0].out.split())
    assert f"out/checkpoint-8 ({KINDS[kind][0]} has other content than when it was sealed)" in said_of
    assert f"out/checkpoint-4 ({KINDS[kind][2]} is missing)" in said_of
    again = load_file(out / "model.safetensors")
    assert again.keys() == whole.keys()
    assert all(torch.equal(again[name], weight) for name, weight in whole.items())


@pytest.fixture(scope="module")
def two(home, tmp_path_factory) -> Path:
    """What two ranks leave, with checkpoints at 2, 4 and 6."""
    from job.directories import link_into

    folder = tmp_path_factory.mktemp("two")
    link_into(folder, home)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert launched(TRAIN, folder=folder).codes == [0, 0]
    return folder / "out"


@pytest.mark.failure_case(24)
def test_other_numbers_of_ranks_are_refused_with_the_line(here, two):
    shutil.copytree(two, here / "out")
    said = ended([*TRAIN, GO_ON], folder=here)
    assert said.code == 2
    line = "`torchrun --nproc_per_node 2` or `accelerate launch --num_processes 2`"
    assert f"ranks: 2 then, 1 now; start as many processes as then, with {line}" in said.err
    shutil.rmtree(here / "out")
    assert ended(ON_CPUS, folder=here).code == 0
    said = launched([*ON_CPUS, GO_ON], folder=here)
    assert said.codes[0] == 2
    assert said.err.count("ranks: 1 then, 2 now; start as many processes as then, with `torchrun --nproc_per_n") == 1


@pytest.mark.failure_case(24)
def test_what_may_change_may_under_two_ranks_and_the_history_tells(here, two):
    shutil.copytree(two, here / "out")
    changed = ("--max-steps", "8", "--save-steps", "4", "--logging-steps", "2")
    said = launched([*ON_CPUS, *changed, GO_ON], folder=here)
    assert said.codes[0] == 2
    assert said.err.count("max_steps: 6 then, 8 now; write `max_steps: 6` (or --max-steps 6)") == 1
    said = launched([*ON_CPUS, *changed, GO_ON, "--resume-changed", "max_steps"], folder=here)
    assert said.codes == [0, 0], said.err
    assert "Steps 7 to 8 were run with max_steps 8 (before: 6)." in (here / "out" / "README.md").read_text()
    history = read_seal(here / "out" / "checkpoint-8").facts["history"]
    assert [(each["after"], each["identity"]["max_steps"]) for each in history] == [(0, 6), (6, 8)]
    assert json.loads((here / "out" / "manifest.json").read_text())["facts"]["ranks"] == 2


@chaos
def test_a_checkpoint_of_copies_is_not_gone_on_from_in_parts(here, two):
    shutil.copytree(two, here / "out")
    said = run("SHARDED", here, "--max-steps", "6", GO_ON)
    assert said.codes[0] == 2
    assert said.err.count("sharding: None then, FSDP2, SHARDED_STATE_DICT now") == 1


@pytest.mark.failure_case(21)
@chaos
@pytest.mark.parametrize("kind", ["SHARDED", "FULL"])
@pytest.mark.parametrize("event", range(0, 12, 3))
def test_a_full_disk_at_rank_0_of_a_cut_model_stops_both(here, kind, event):
    said = run(kind, here, faults=(OnRank(0, AtEvent(event, fills_disk=True)),))
    assert said.codes in ([75, 75], [0, 0]), said.err
    assert said.killed == []
    assert "Traceback" not in said.err
    assert said.codes[0] == 0 or said.err.count("the disk is full; make room") == 1, said.err
    assert not (here / "out" / "checkpoint-4").exists() or checkpoint_fault(here / "out" / "checkpoint-4") is None
    assert checkpoint_fault(here / "out" / "checkpoint-2") is None

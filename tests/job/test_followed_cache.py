"""Training beside the writer of its teacher's cache: stopped, killed, and gone on with from what it or another left."""

import json
import os
import shutil
import signal

import pytest
from job.command import run as command
from job.stopped import end_of, held, started
from job.test_teacher_cache import BY_MASS, FOLLOW, SMALL, WRITE, contents, many_rows, wait_until_it_waits
from safetensors.torch import load_file

from qtarget.disk.seal import read_seal

RUN = (*FOLLOW, "--eval-strategy", "no", "--save-steps", "5")
ON = ("--resume-from-checkpoint",)
SHARDS = 60
"""Of a hundred or more; enough for more than five steps of two rows, and for less than thirty."""


@pytest.fixture
def begun(here):
    """A cache of which the first shards are there, and nobody writes the others."""
    many_rows(here, 100)
    writer = held((*WRITE, *SMALL, *BY_MASS), f"shard-{SHARDS - 1:05d}.json", here)
    os.kill(writer, signal.SIGKILL)
    end_of(writer, here)
    for path in (here / "cache").glob("shard-*"):  # it may have got further
        if int(path.name[6:11]) >= SHARDS:
            path.unlink()
    return here / "cache"


def written_on(capsys) -> None:
    assert command(capsys, *WRITE, *SMALL, *BY_MASS).code == 0


def unfinished_again(cache) -> None:
    """As it was at the beginning."""
    (cache / "manifest.json").unlink()
    for path in cache.glob("shard-*"):
        if int(path.name[6:11]) >= SHARDS:
            path.unlink()


def weights(folder):
    return {name: each.tolist() for name, each in load_file(folder / "model.safetensors").items()}


def losses(folder):
    last = json.loads((folder / "checkpoint-30" / "trainer_state.json").read_text())["log_history"]
    return [each["loss"] for each in last if "loss" in each]


def check_same(one, other) -> None:
    assert len(losses(one)) == 30
    assert losses(one) == losses(other)
    assert weights(one) == weights(other)


def killed_waiting(here, capsys) -> None:
    """A run that waits for what nobody writes, killed after its first checkpoint."""
    run = started(RUN, folder=here)
    wait_until_it_waits(run, here)
    assert (here / "out" / "checkpoint-5").is_dir()
    os.kill(run, signal.SIGKILL)
    assert end_of(run, here).code == -signal.SIGKILL


def test_where_nobody_writes_it_stops_with_a_checkpoint_and_goes_on(here, begun, capsys):
    said = command(capsys, *RUN, "--teacher-timeout", "0.3")
    text = " ".join(said.err.split())
    assert said.code != 0
    assert f"nobody has been writing to it for 0.3 s: {SHARDS} of " in text
    steps = max(int(path.name.partition("-")[2]) for path in (here / "out").glob("checkpoint-*"))
    assert 5 < steps < 30
    assert read_seal(here / "out" / f"checkpoint-{steps}").facts["step"] == steps
    assert f"checkpoint-{steps}" in text
    assert "--resume-from-checkpoint" in text
    written_on(capsys)
    assert command(capsys, *RUN, *ON).code == 0
    assert command(capsys, *RUN, "--output-dir", "whole").code == 0
    check_same(here / "out", here / "whole")


@pytest.mark.failure_case(1)
def test_killed_while_it_waits_it_goes_on_from_the_finished_cache(here, begun, capsys):
    killed_waiting(here, capsys)
    written_on(capsys)
    said = command(capsys, *RUN, *ON)
    assert said.code == 0, said.err
    assert command(capsys, *RUN, "--output-dir", "whole").code == 0
    check_same(here / "out", here / "whole")


def test_a_run_from_a_finished_cache_goes_on_beside_a_writer(here, begun, capsys):
    written_on(capsys)
    assert command(capsys, *RUN, "--output-dir", "whole").code == 0
    shutil.copytree(here / "whole" / "checkpoint-5", here / "out" / "checkpoint-5")
    unfinished_again(begun)
    run = started((*RUN, *ON), folder=here)
    wait_until_it_waits(run, here)
    written_on(capsys)
    ended = end_of(run, here)
    assert ended.code == 0, ended
    check_same(here / "out", here / "whole")


def test_rows_in_another_order_do_not_go_on_from_its_checkpoints(here, begun, capsys):
    killed_waiting(here, capsys)
    written_on(capsys)
    plain = [word for word in RUN if word != "--follow-cache"]
    said = command(capsys, *plain, *ON)
    assert said.code == 2
    assert "rows" in said.err


def test_rows_that_are_not_planned_are_refused_before_the_first_step(here, begun, capsys):
    words = ["rows.jsonl" if word == "many.jsonl" else word for word in (*RUN, "--teacher-timeout", "600")]
    said = command(capsys, *words)
    assert said.code == 2
    assert "holds nothing about" in said.err
    assert "of the train data set" in " ".join(said.err.split())
    assert not list((here / "out").glob("checkpoint-*"))


def test_a_run_begins_beside_the_parts_of_a_cache(here, capsys):
    """One part is written while the other is at work; the run waits for that one, and ends as from the whole."""
    many_rows(here, 100)
    words = (*WRITE, *SMALL, *BY_MASS)
    assert command(capsys, *words, "--part", "1/2").code == 0
    run = started(RUN, folder=here)
    wait_until_it_waits(run, here)
    assert command(capsys, *words, "--part", "2/2").code == 0
    ended = end_of(run, here)
    assert ended.code == 0, ended
    assert command(capsys, *RUN, "--output-dir", "whole").code == 0
    check_same(here / "out", here / "whole")


# ---- parts, by the command


def test_parts_of_a_cache_are_those_of_one_command(here, capsys):
    words = ("--cache-shard-tokens", "40")
    assert command(capsys, *WRITE[:-1], "whole", *words).code == 0
    said = command(capsys, *WRITE, *words, "--part", "1/2")
    assert said.code == 0, said.err
    shards = len(list((here / "whole").glob("*.safetensors")))
    mine = len(range(0, shards, 2))
    assert f"cache; part 1/2: {mine} shards" in " ".join(said.out.split())
    assert f"part 1/2 of {here / 'cache'} is written (" in " ".join(said.out.split())
    assert f"{mine} of {shards} shards are there. The last of the 2 parts finishes the cache" in said.out
    for read in (("teacher", "verify", "cache"), ("train", "config.yaml", "--teacher-cache", "cache")):
        refused = command(capsys, *read)
        assert refused.code == 2
        assert f"is not finished: {mine} of {shards} shards are written" in " ".join(refused.err.split())
    said = command(capsys, *WRITE, "--cache-shard-tokens", "41", "--part", "2/2")
    assert said.code == 2
    assert "shard tokens: 40 in the cache, 41 now" in " ".join(said.err.split())
    said = command(capsys, *WRITE, *words, "--part", "2/2")
    assert said.code == 0, said.err
    assert "329 in 20 documents" in said.out
    assert contents(here / "cache") == contents(here / "whole")
    assert "nothing: every shard was there" in command(capsys, *WRITE, *words).out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--part", "3/2"), "`--part 3/2` names no part; expected I/N, the Ith of N, as in `--part 2/8`"),
        (("--part", "half"), "`--part half` names no part"),
        (("--part", "1/2", "--dry-run"), "--part writes a part of a cache, and --dry-run tells of the whole cache"),
    ],
)
def test_a_part_that_is_none_is_refused(here, capsys, words, said):
    found = command(capsys, *WRITE, *words)
    assert found.code == 2
    assert said in " ".join(found.err.split())
    assert not (here / "cache").exists()

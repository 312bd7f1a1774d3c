"""Writing a cache: killed, short of disk, by several processes, into a folder of something else."""

import multiprocessing
import os
import re
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path

import pytest
from teacher import caches
from teacher.writing import full, holding, killed_at_every_replace, write_rank

from qtarget.disk.held_folders import LOCK
from qtarget.teacher import Document, Keep
from qtarget.teacher.cache import Ranks, open_cache, plan_cache, write_cache

FORK = multiprocessing.get_context("fork")


def start(how: Callable[[Path, Connection], None], folder: Path) -> tuple[multiprocessing.context.ForkProcess, str]:
    """A process that writes into a folder, and the first thing that it says."""
    hears, says = FORK.Pipe(duplex=False)
    process = FORK.Process(target=how, args=(folder, says))
    process.start()
    says.close()  # if the process ends without a word, there is none to wait for
    return process, hears.recv()


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A cache written without incident."""
    return caches.written(tmp_path_factory.mktemp("home") / "whole")


def refuse(documents):
    pytest.fail("nothing was left to ask")


def test_files_are_written_in_the_order_that_makes_them_safe(tmp_path, monkeypatch):
    order, replace = [], os.replace
    monkeypatch.setattr(os, "replace", lambda draft, to: (order.append(to.name), replace(draft, to))[1])
    caches.written(tmp_path)
    shards = sorted(path.stem for path in tmp_path.glob("*.safetensors"))
    inner = [name for shard in shards for name in (f"{shard}.safetensors", f"{shard}.json")]
    assert order == ["plan.json", "documents.bin", "rows.json", *inner, "manifest.json"]


@pytest.mark.failure_case(1)
def test_killed_at_any_moment_it_goes_on_to_the_same_bytes(whole, tmp_path):
    killed_at_every_replace(tmp_path)
    stopped = sorted(tmp_path.iterdir(), key=lambda path: int(path.name))
    files = len(caches.contents(whole))
    assert len(stopped) == 2 * files + 1  # before and behind each file, and once to the end
    for folder in stopped:
        planned, asked = caches.plan(), []
        done = len(list(folder.glob("shard-*.json")))
        write_cache(folder, planned, lambda rows, planned=planned, asked=asked: asked.append(1) or _say(planned, rows))
        assert caches.contents(folder) == caches.contents(whole)
        assert len(asked) == len(planned.shards) - done
    assert open_cache(stopped[4]).missing(caches.documents()) == []


def _say(planned, rows):
    return caches.answer(planned)(rows)


def test_a_finished_cache_is_left_alone(whole, tmp_path):
    folder = caches.written(tmp_path)
    before = {path: path.stat().st_mtime_ns for path in folder.iterdir() if not path.name.startswith(".")}
    seen = []
    write_cache(folder, caches.plan(), refuse, on_shard=lambda shard, there: seen.append((shard.file, there)))
    assert all(path.stat().st_mtime_ns == time for path, time in before.items())
    assert seen == [(path.name, True) for path in sorted(folder.glob("*.safetensors"))]


@pytest.mark.failure_case(2)
@pytest.mark.parametrize("harm", ["flip", "truncate", "no sidecar", "wrong sidecar", "bad sidecar", "another key"])
def test_a_damaged_shard_is_written_anew(whole, tmp_path, harm):
    folder = caches.written(tmp_path)
    shard, sidecar = folder / "shard-00001.safetensors", folder / "shard-00001.json"
    content = bytearray(shard.read_bytes())
    if harm == "flip":
        content[-1] ^= 1
        shard.write_bytes(content)
    elif harm == "truncate":
        shard.write_bytes(content[:-1])
    elif harm == "no sidecar":
        sidecar.unlink()
    elif harm == "wrong sidecar":
        sidecar.write_bytes((folder / "shard-00000.json").read_bytes())
    elif harm == "another key":
        sidecar.write_text(sidecar.read_text().replace(caches.plan().key, "0" * 64))
    else:
        sidecar.write_text("[1]")
    new = []
    planned = caches.plan()
    write_cache(folder, planned, caches.answer(planned), on_shard=lambda s, there: there or new.append(s.file))
    assert new == [shard.name]
    assert caches.contents(folder) == caches.contents(whole)


@pytest.mark.failure_case(21)
def test_what_was_finished_outlives_a_full_disk(whole, tmp_path):
    folder = tmp_path / "full"
    process, said = start(full, folder)
    process.join()
    whole_files, files = caches.contents(whole), caches.contents(folder)
    done = sum(name.endswith(".safetensors") for name in files)
    shards = sum(name.endswith(".safetensors") for name in whole_files)
    assert done == 2
    assert shards > 3
    assert not [name for name in files if name.endswith(".draft")]
    assert f"{done} of {shards} shards are finished" in said
    assert re.search(r"the others need \d\d?\.\d+ kB more", said)
    assert "start the same command again" in said
    assert files.items() <= whole_files.items()
    assert caches.contents(caches.written(folder)) == whole_files


@pytest.mark.failure_case(22)
def test_a_second_writer_is_told_who_writes(tmp_path):
    process, said = start(holding, tmp_path)
    assert said == "holding"
    try:
        with pytest.raises(ValueError, match=rf"is being written by process {process.pid} on .* since 2"):
            caches.written(tmp_path)
    finally:
        process.kill()
    process.join()
    caches.written(tmp_path)  # the killed one holds nothing
    assert open_cache(tmp_path).missing(caches.documents()) == []


def test_two_processes_write_the_same_cache_as_one(whole, tmp_path):
    barrier = FORK.Barrier(2)
    ranks = [FORK.Process(target=write_rank, args=(tmp_path, rank, 2, barrier)) for rank in range(2)]
    for process in ranks:
        process.start()
    for process in ranks:
        process.join(600)
    assert [process.exitcode for process in ranks] == [0, 0]
    assert caches.contents(tmp_path) == caches.contents(whole)


def test_ranks_share_the_shards(tmp_path):
    planned, mine = caches.plan(), []
    for name in ("plan.json", LOCK):
        (tmp_path / name).write_text("{}")  # rank 0's work, as is the manifest
    with pytest.raises(ZeroDivisionError):
        write_cache(tmp_path, planned, lambda rows: mine.append(rows) or 1 / 0, ranks=Ranks(1, 3))
    assert mine == [planned.shards[1]]


@pytest.mark.parametrize(
    ("keep", "changes", "said"),
    [
        (Keep(9), {}, "k: 8 in the cache, 9 now"),
        (Keep(8, temperature=2.0), {}, "temperature: 1.0 in the cache, 2.0 now"),
        (Keep(8, "sampled"), {}, "how: top in the cache, sampled now"),
        (Keep(8), {"storage_dtype": "float32"}, "storage dtype: float16 in the cache, float32 now"),
        (Keep(8), {"rows": caches.documents(23)}, r"rows: [0-9a-f]{12} in the cache, [0-9a-f]{12} now"),
        (Keep(8), {"shard_tokens": 41}, "shard tokens: 40 in the cache, 41 now"),
    ],
)
def test_a_folder_of_another_cache_is_refused(whole, keep, changes, said):
    before = caches.contents(whole)
    other = caches.plan(keep=keep, **changes)
    with pytest.raises(ValueError, match=rf"cache of something else, as its plan.json says \({said}\)"):
        write_cache(whole, other, refuse)
    assert caches.contents(whole) == before


def test_a_folder_with_other_things_in_it_is_refused(tmp_path):
    (tmp_path / "thesis.tex").write_text("...")
    with pytest.raises(ValueError, match=r"holds thesis.tex and no plan.json, so it is no teacher cache"):
        write_cache(tmp_path, caches.plan(), refuse)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_answers_about_other_tokens_are_not_stored(tmp_path):
    planned = caches.plan()
    shuffled = lambda rows: caches.answer(planned)(rows[::-1])  # noqa: E731
    with pytest.raises(ValueError, match="not among the tokens kept"):
        write_cache(tmp_path, planned, shuffled)
    assert list(tmp_path.glob("*.safetensors")) == []


def test_rows_without_supervision_make_no_cache():
    with pytest.raises(ValueError, match="No row has a supervised token"):
        plan_cache([], caches.ORIGIN, Keep(8))
    with pytest.raises(ValueError, match="storage_dtype is 'float8'; expected one of float16, float32"):
        caches.plan(storage_dtype="float8")


def test_shards_hold_about_the_tokens_asked_for():
    planned = caches.plan()
    counts = [sum(len(one.targets) for one in shard) for shard in planned.shards]
    longest = max(len(one.targets) for one in caches.documents())
    assert sum(counts) == planned.tokens == sum(len(one.targets) for one in caches.documents())
    assert len(counts) > 3
    assert max(counts) < caches.SHARD_TOKENS + longest
    long = [Document(one.ids.repeat(30), one.asked.repeat(30)) for one in caches.documents(3)]
    assert [len(shard) for shard in caches.plan(long).shards] == [1, 1, 1]


def test_a_damaged_plan_is_named_with_what_to_do(tmp_path):
    folder = caches.written(tmp_path)
    (folder / "plan.json").write_text('{"key": "')
    with pytest.raises(ValueError, match=r"plan\.json is damaged \(.*\); delete this cache, and write it anew"):
        caches.written(folder)


def test_what_a_killed_writer_left_unfinished_is_deleted(whole, tmp_path):
    (tmp_path / ".plan.json.17-140001.draft").write_bytes(b"half")
    folder = caches.written(tmp_path)
    assert {path.name for path in folder.iterdir()} == {path.name for path in whole.iterdir()}

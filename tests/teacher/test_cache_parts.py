"""One cache written by processes that do not wait for one another."""

import os
import shutil
import signal

import pytest
from teacher import caches
from teacher.test_cache_writer import FORK, refuse, start
from teacher.writing import holding, holding_part, write_part

from qtarget.disk.held_folders import SecondWriterError
from qtarget.teacher.cache import CachePart, Ranks, follow_cache, open_cache, write_cache, writer
from qtarget.teacher.cache.parts import writer_of

PARTS = [CachePart(number, 3) for number in (1, 2, 3)]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A cache written by one process."""
    return caches.written(tmp_path_factory.mktemp("home") / "whole")


def together(folder, *stopping: int | None) -> list[int | None]:
    """The exit codes of three parts that write at once, each killed at the question given."""
    barrier = FORK.Barrier(len(PARTS))
    given = zip(PARTS, stopping or (None,) * len(PARTS), strict=True)
    processes = [FORK.Process(target=write_part, args=(folder, part, barrier, stop)) for part, stop in given]
    for process in processes:
        process.start()
    for process in processes:
        process.join(600)
    return [process.exitcode for process in processes]


def write(folder, part: CachePart, asked: list | None = None, **changes) -> None:
    planned = caches.plan(**changes)
    say = caches.answer(planned)
    write_cache(
        folder, planned, lambda rows: (asked is not None and asked.append(rows), say(rows))[1], Ranks(part=part)
    )


def test_parts_that_write_at_once_make_the_cache_of_one_process(whole, tmp_path):
    assert together(tmp_path) == [0, 0, 0]
    assert caches.contents(tmp_path) == caches.contents(whole)
    assert open_cache(tmp_path).missing(caches.documents()) == []


@pytest.mark.failure_case(1)
@pytest.mark.parametrize("goes_on", ["the part", "the whole"])
def test_a_killed_part_lacks_its_shards_and_goes_on(whole, tmp_path, goes_on):
    assert together(tmp_path, None, 1, None) == [0, -signal.SIGKILL, 0]
    shards = len(caches.plan().shards)
    lacking = sum(not (tmp_path / f"shard-{i:05d}.json").exists() for i in range(shards))
    assert 1 <= lacking <= 2  # its first may not have been on disk yet
    with pytest.raises(ValueError, match=rf"is not finished: {shards - lacking} of {shards} shards are written"):
        open_cache(tmp_path)
    asked: list = []
    write(tmp_path, PARTS[1] if goes_on == "the part" else CachePart(), asked)
    assert len(asked) == lacking
    assert caches.contents(tmp_path) == caches.contents(whole)


def test_a_part_of_something_else_is_refused(whole, tmp_path):
    write(tmp_path, PARTS[0])
    before = caches.contents(tmp_path)
    for changes in ({"rows": caches.documents(23)}, {"storage_dtype": "float32"}, {"shard_tokens": 41}):
        with pytest.raises(ValueError, match=r"is the cache of something else, as its plan\.json says"):
            write_cache(tmp_path, caches.plan(**changes), refuse, Ranks(part=PARTS[1]))
    assert caches.contents(tmp_path) == before
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.tex").write_text("...")
    with pytest.raises(ValueError, match=r"holds thesis\.tex and no plan\.json"):
        write(tmp_path / "other", PARTS[0])
    assert os.listdir(tmp_path / "other") == ["thesis.tex"]


@pytest.mark.failure_case(22)
def test_who_may_write_beside_a_part(whole, tmp_path, monkeypatch):
    """Another part of the same number, and nobody else; what the part has half written stays."""
    process, said = start(holding_part, tmp_path)
    assert said == "holding"
    try:
        drafts = [path for path in tmp_path.iterdir() if path.name.endswith(".draft")]
        assert len(drafts) == 1
        by = rf"by process {process.pid} on .* since 2"
        assert writer_of(tmp_path).startswith(f"process {process.pid} on ")
        with pytest.raises(SecondWriterError, match=rf"in parts, part 1/3 {by}.*by `--part I/3`"):
            write(tmp_path, CachePart())
        with pytest.raises(SecondWriterError, match=rf"in 3 parts, part 1/3 {by}.*`--part 2/4` is one of 4"):
            write(tmp_path, CachePart(2, 4))
        with pytest.raises(SecondWriterError, match=rf"\.part-1-of-3 is being written {by}"):
            write(tmp_path, PARTS[0])
        write(tmp_path, PARTS[1])
        assert [path.exists() for path in drafts] == [True]
    finally:
        process.kill()
    process.join()
    assert writer_of(tmp_path) is None
    write(tmp_path, PARTS[2])
    write(tmp_path, PARTS[0])
    assert not any(path.exists() for path in drafts)
    assert caches.contents(tmp_path) == caches.contents(whole)


def test_a_part_is_refused_beside_who_writes_the_whole(tmp_path, monkeypatch):
    monkeypatch.setattr(writer, "PLAN_S", 0.1)
    process, said = start(holding, tmp_path)
    assert said == "holding"
    try:
        with pytest.raises(SecondWriterError, match=rf"is being written by process {process.pid} on "):
            write(tmp_path, PARTS[0])
    finally:
        process.kill()
    process.join()


def test_a_run_that_follows_knows_that_a_part_is_at_work(tmp_path):
    write(tmp_path, PARTS[1])
    for name in ("shard-00000.safetensors", "shard-00000.json"):
        assert not (tmp_path / name).exists()
    process, _ = start(holding_part, tmp_path)
    try:
        cache = follow_cache(tmp_path, patience=0.2)
        assert cache.missing(caches.documents()) == []
        assert len(cache.answer(caches.plan().shards[1]).ids)
        assert f"which process {process.pid} on " in cache._waiting(0, writer_of(tmp_path))
    finally:
        process.kill()
    process.join()


def test_a_cache_with_a_damaged_shard_of_another_part_is_not_finished(whole, tmp_path):
    write(tmp_path, PARTS[0])
    write(tmp_path, PARTS[1])
    content = bytearray((tmp_path / "shard-00001.safetensors").read_bytes())
    content[-1] ^= 1
    (tmp_path / "shard-00001.safetensors").write_bytes(content)
    write(tmp_path, PARTS[2])
    assert not (tmp_path / "manifest.json").exists()
    asked: list = []
    write(tmp_path, PARTS[1], asked)
    assert len(asked) == 1
    assert caches.contents(tmp_path) == caches.contents(whole)


def test_a_finished_cache_is_left_alone_by_a_part(whole, tmp_path):
    folder = shutil.copytree(whole, tmp_path / "own")
    before = {path: path.stat().st_mtime_ns for path in folder.iterdir() if not path.name.startswith(".")}
    write_cache(folder, caches.plan(), refuse, Ranks(part=CachePart(2, 5)))
    assert all(path.stat().st_mtime_ns == time for path, time in before.items())


@pytest.mark.parametrize(("parts", "ranks"), [(1, 1), (3, 1), (1, 4), (3, 2), (9, 2)])
def test_parts_and_their_ranks_share_all_shards(parts, ranks):
    each = [Ranks(rank, ranks, part=CachePart(n + 1, parts)) for n in range(parts) for rank in range(ranks)]
    assert sorted(index for one in each for index in one.share_of(11)) == list(range(11))
    for number in range(parts):
        own = [one for one in each if one.part.number == number + 1]
        assert all(sorted(one.part_of(11)) == sorted(i for mine in own for i in mine.share_of(11)) for one in own)


def test_a_part_is_read_from_its_name():
    assert (CachePart.parse("2/8"), str(CachePart(2, 8))) == (CachePart(2, 8), "2/8")
    for text in ("0/3", "4/3", "1/0", "1", "a/b", "-1/3", "1/3/5", "1.5/3", "", "٣/٤"):
        with pytest.raises(ValueError, match=r"names no part; expected I/N"):
            CachePart.parse(text)

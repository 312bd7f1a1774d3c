"""A cache that is read while it is written."""

import json
import logging
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import numpy as np
import pytest
import torch
from teacher import caches

from qtarget.teacher import Document
from qtarget.teacher.cache import ByMass, GrowingCache, follow_cache, growing, open_cache, write_cache
from qtarget.teacher.served.transport import TeacherUnavailableError


@pytest.fixture(autouse=True)
def often(monkeypatch):
    monkeypatch.setattr(growing, "POLL_S", 0.01)


class Writer:
    """Writes a cache in a thread of its own, a shard at each `go`."""

    def __init__(self, folder, planned):
        self.folder, self.steps, self.failure = folder, threading.Semaphore(0), None
        self.thread = threading.Thread(target=self._write, args=(planned,), daemon=True)
        self.thread.start()
        wait_until(lambda: (folder / "documents.bin").exists())

    def _write(self, planned):
        answer = caches.answer(planned)

        def slowly(documents):
            self.steps.acquire()
            if self.failure:
                raise RuntimeError(self.failure)
            return answer(documents)

        with suppress(RuntimeError):
            write_cache(self.folder, planned, slowly)

    def go(self, shards=1):
        for _ in range(shards):
            self.steps.release()

    def die(self):
        self.failure = "died"
        self.go()
        self.thread.join()


def wait_until(is_so):
    until = time.monotonic() + 300
    while not is_so():
        assert time.monotonic() < until
        time.sleep(0.005)


PLANS = {"fixed": {}, "by mass": {"by_mass": ByMass(0.3, 2, 12)}}


@pytest.mark.parametrize("changes", PLANS.values(), ids=PLANS)
def test_it_answers_from_what_is_there_and_waits_for_the_rest(tmp_path, changes, caplog):
    planned = caches.plan(**changes)
    whole = open_cache(caches.written(tmp_path / "whole", planned))
    writer = Writer(tmp_path / "own", planned)
    writer.go(2)
    wait_until(lambda: (tmp_path / "own" / "shard-00000.json").exists())
    cache = follow_cache(tmp_path / "own")
    assert isinstance(cache, GrowingCache)
    assert cache.manifest.parts == whole.manifest.parts
    assert (cache.keep, cache.by_mass) == (whole.keep, whole.by_mass)
    assert cache.missing(caches.documents()) == []
    first, last = planned.shards[0], planned.shards[-1]
    assert torch.equal(cache.answer(first).ids, whole.answer(first).ids)
    found = []
    with caplog.at_level(logging.WARNING):
        reader = threading.Thread(target=lambda: found.append(cache.answer([*last, *first])))
        reader.start()
        wait_until(lambda: "Waiting for" in caplog.text)
        assert reader.is_alive()
        writer.go(len(planned.shards))
        reader.join(300)
    assert f"shard-{len(planned.shards) - 1:05d}.safetensors of {tmp_path / 'own'}, which process" in caplog.text
    assert f"of {len(planned.shards)} shards are there" in caplog.text
    expected = whole.answer([*last, *first])
    assert all(torch.equal(mine, theirs) for mine, theirs in zip(found[0], expected, strict=True))
    writer.thread.join()
    assert caches.contents(tmp_path / "own") == caches.contents(tmp_path / "whole")
    assert type(follow_cache(tmp_path / "own")) is type(whole)


def test_a_writer_that_died_is_told_of_and_another_goes_on(tmp_path):
    planned = caches.plan()
    writer = Writer(tmp_path, planned)
    writer.go()
    wait_until(lambda: (tmp_path / "shard-00000.json").exists())
    writer.die()
    cache, last = follow_cache(tmp_path, patience=0.2), planned.shards[-1]
    began = time.monotonic()
    with pytest.raises(
        TeacherUnavailableError, match=r"nobody has been writing to it for 0.2 s: 1 of \d+ shards.*goes on"
    ):
        cache.answer(last)
    assert 0.2 < time.monotonic() - began < 300
    Writer(tmp_path, planned).go(len(planned.shards))
    assert len(cache.answer(last).ids)


def test_a_writer_at_work_is_waited_for_beyond_all_patience(tmp_path, caplog):
    planned = caches.plan()
    writer = Writer(tmp_path, planned)
    cache = follow_cache(tmp_path, patience=0.1)

    def goes_on() -> None:
        wait_until(lambda: "which process" in caplog.text)  # it is waited for
        time.sleep(0.5)
        writer.go(len(planned.shards))

    with caplog.at_level(logging.WARNING), ThreadPoolExecutor(1) as beside:
        ended = beside.submit(goes_on)
        began = time.monotonic()
        assert len(cache.answer(planned.shards[0]).ids)
        assert time.monotonic() - began > 0.5
        ended.result()


def begun(folder, planned=None):
    """A cache of which one shard is there, and nobody writes the others."""
    writer = Writer(folder, planned or caches.plan())
    writer.go()
    wait_until(lambda: (folder / "shard-00000.json").exists())
    writer.die()
    return folder


def test_documents_that_are_not_planned_are_missing_from_the_start(tmp_path):
    cache = follow_cache(begun(tmp_path))
    strange = Document(np.array([7, 8, 9], np.int32), np.array([False, True, True]))
    assert cache.missing([strange]) == [strange]
    with pytest.raises(ValueError, match="nothing about a document of 3 tokens"):
        cache.answer([strange])


def amended(path, change):
    content = json.loads(path.read_text())
    content.pop("content_sha256", None)
    change(content)
    path.write_text(json.dumps(content))


@pytest.mark.parametrize(
    ("name", "change", "said"),
    [
        ("plan.json", lambda c: c["parts"].update(format=99), "is of format 99, and this version of qtarget reads"),
        ("plan.json", lambda c: c["parts"].update(temperature=3.0), "plan.json is damaged"),
        ("plan.json", lambda c: c.pop("shards"), "plan.json is damaged"),
        ("shard-00000.json", lambda c: c.update(key="another"), "is of another plan"),
        ("shard-00000.json", lambda c: c.update(tokens=1), "is of another plan"),
        ("shard-00000.json", lambda c: c.pop("size"), "shard-00000.json in .* is damaged"),
        ("shard-00000.json", lambda c: c.update(sha256="0" * 64), "is damaged: its sha256"),
        ("shard-00000.json", lambda c: c.update(file="../x.safetensors"), "is of another plan"),
    ],
)
def test_what_is_not_of_the_plan_is_refused(tmp_path, name, change, said):
    planned = caches.plan()
    amended(begun(tmp_path, planned) / name, change)
    with pytest.raises(ValueError, match=said):
        follow_cache(tmp_path, 0.1).answer(planned.shards[0])


def test_an_unfinished_cache_of_another_version_is_not_opened_either(tmp_path):
    amended(begun(tmp_path) / "plan.json", lambda c: c["parts"].update(format=99))
    with pytest.raises(ValueError, match="is of format 99"):
        open_cache(tmp_path)


@pytest.mark.parametrize("content", [None, b"", b"0" * 16 * 24])
def test_a_list_of_documents_that_is_not_the_plan_s_is_refused(tmp_path, content):
    path = begun(tmp_path) / "documents.bin"
    path.unlink() if content is None else path.write_bytes(content)
    with pytest.raises(TeacherUnavailableError, match=r"documents.bin does not say which documents.*makes it anew"):
        follow_cache(tmp_path)
    caches.written(tmp_path)  # the writer mends it
    assert (tmp_path / "documents.bin").stat().st_size == 16 * 24


def test_a_shard_about_other_documents_is_refused(tmp_path):
    planned = caches.plan()
    whole = caches.written(tmp_path / "whole", planned)
    own = begun(tmp_path / "own", planned)
    counts = [(len(shard), sum(int(d.asked.sum()) for d in shard)) for shard in planned.shards]
    twin = next((i for i in range(1, len(counts)) if counts[i] == counts[0]), None)
    if twin is None:
        pytest.skip("no two shards are alike")
    (own / "shard-00000.safetensors").write_bytes((whole / f"shard-{twin:05d}.safetensors").read_bytes())
    sidecar = json.loads((whole / f"shard-{twin:05d}.json").read_text())
    amended(own / "shard-00000.json", lambda c: c.update(sha256=sidecar["sha256"], size=sidecar["size"]))
    with pytest.raises(ValueError, match="is about other documents than were planned"):
        follow_cache(own, 0.1).answer(planned.shards[0])

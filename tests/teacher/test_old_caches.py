"""A cache that was written before there was another format, as it lies in old_cache/: it is read, and gone on from."""

import shutil
from pathlib import Path

import torch
from teacher import caches

from qtarget.teacher import Keep, kept_logprobs
from qtarget.teacher.cache import open_cache, verify_cache

OLD = Path(__file__).parent / "old_cache"
ROWS = caches.documents(6)


def test_it_is_read():
    cache, live = open_cache(OLD), kept_logprobs(caches.teacher(), ROWS, Keep(8))
    kept = cache.answer(ROWS)
    assert (cache.by_mass, cache.keep) == (None, Keep(8))
    assert torch.equal(kept.ids, live.ids)
    torch.testing.assert_close(kept.logprobs.float(), live.logprobs, rtol=2**-10, atol=1e-4)
    assert verify_cache(OLD).problems == ()


def test_one_that_was_not_finished_is_gone_on_from(tmp_path):
    """Its key is that of the same plan today, so whole shards are kept, and the finished cache is the old one."""
    own = tmp_path / "own"
    shutil.copytree(OLD, own)
    for name in ("manifest.json", "shard-00001.json", "shard-00001.safetensors"):
        (own / name).unlink()
    seen = []
    caches.written(own, caches.plan(ROWS), on_shard=lambda shard, was_there: seen.append((shard.file, was_there)))
    assert sorted(seen) == [
        (path.name, path.name != "shard-00001.safetensors") for path in sorted(OLD.glob("*.safetensors"))
    ]
    assert len(seen) == 2
    old, new = caches.contents(OLD), caches.contents(own)
    assert {name for name in new if name not in old} == {"documents.bin"}
    assert old.keys() <= new.keys()
    assert all(old[name] == new[name] for name in ("plan.json", "shard-00000.safetensors", "shard-00000.json"))

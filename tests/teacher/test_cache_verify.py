"""Every number of a cache looked at."""

import json
from hashlib import sha256

import pytest
import tiny_models
import torch
from safetensors.torch import load_file, save
from teacher import caches

from qtarget.teacher import Keep, kept_logprobs
from qtarget.teacher.cache import verify_cache
from qtarget.teacher.cache.verify import MassBin, histogram_lines


@pytest.fixture
def own(tmp_path):
    return caches.written(tmp_path / "own")


def rewritten(folder, change) -> None:
    """The first shard with other tensors, and hashes that agree with it."""
    path = folder / "shard-00000.safetensors"
    tensors = load_file(path)
    change(tensors)
    content = save(tensors)
    path.write_bytes(content)
    manifest = json.loads((folder / "manifest.json").read_text())
    del manifest["content_sha256"]
    manifest["shards"][0].update(sha256=sha256(content).hexdigest(), size=len(content))
    (folder / "manifest.json").write_text(json.dumps(manifest))


@pytest.mark.parametrize("dtype", ["float16", "float32"])
@pytest.mark.parametrize(
    "keep",
    [Keep(0), Keep(1), Keep(8), Keep(tiny_models.VOCAB), Keep(8, "sampled"), Keep(8, temperature=3.0)],
    ids=str,
)
def test_a_good_cache_has_no_problems(tmp_path, keep, dtype):
    found = verify_cache(caches.written(tmp_path, caches.plan(keep=keep, storage_dtype=dtype)))
    assert found.problems == ()
    assert (found.documents, found.tokens) == (24, caches.plan().tokens)
    assert found.bytes_per_token == found.bytes / found.tokens
    assert sum(one.tokens for one in found.captured) == (found.tokens if keep.k and keep.how == "top" else 0)


def test_what_was_captured(own):
    found, live = verify_cache(own), kept_logprobs(caches.teacher(), caches.documents(), Keep(8))
    mass = live.logprobs.exp().sum(1)
    assert found.mean_captured == pytest.approx(mass.mean().item(), abs=1e-3)
    assert found.percentiles[50] == pytest.approx(mass.median().item(), abs=0.02)
    assert sum(one.tokens for one in found.captured) == found.tokens
    counted = [int(((mass >= low) & (mass < high)).sum()) for low, high, _ in found.captured[:3]]
    assert [one.tokens for one in found.captured[:3]] == counted
    assert len({*counted, 0}) > 2


def test_labels_outside_of_the_likeliest_are_counted(own):
    likeliest = kept_logprobs(caches.teacher(), caches.documents(), Keep(tiny_models.VOCAB)).ids[:, :8]
    targets = torch.cat([torch.from_numpy(one.targets) for one in caches.documents()])
    outside = 1 - (likeliest == targets[:, None]).any(1).float().mean().item()
    assert 0.1 < outside < 0.99
    assert verify_cache(own).label_outside == pytest.approx(outside, abs=0.02)


def test_captured_mass_is_of_the_likeliest_only(tmp_path):
    for keep in (Keep(0), Keep(8, "sampled")):
        found = verify_cache(caches.written(tmp_path / str(keep.k), caches.plan(keep=keep)))
        assert (found.captured, found.mean_captured, found.percentiles) == ((), None, {})


def set_in(name: str, where, value):
    def change(tensors: dict) -> None:
        tensors[name][where] = value

    return change


@pytest.mark.failure_case(8)
@pytest.mark.parametrize(
    ("change", "said"),
    [
        (set_in("ids", (3, 2), tiny_models.VOCAB), "an id outside of the vocabulary (1 times)"),
        (set_in("ids", (3, 2), -1), "an id outside of the vocabulary (1 times)"),
        (set_in("target_ids", 3, tiny_models.VOCAB), "an observed token outside of the vocabulary (1 times)"),
        (lambda t: set_in("ids", (3, 2), t["ids"][3, 1])(t), "an id kept twice for a token (1 times)"),
        (set_in("logprobs", (3, 2), torch.nan), "NaN (1 times)"),
        (set_in("log_tail", 3, torch.nan), "NaN (1 times)"),
        (set_in("entropy", 3, torch.nan), "NaN (1 times)"),
        (set_in("label_logprobs", 3, torch.nan), "NaN (1 times)"),
        (set_in("logprobs", (3, 0), 0.5), "a probability above 1 (1 times)"),
        (set_in("log_tail", 3, 0.5), "a probability above 1 (1 times)"),
        (set_in("entropy", 3, -1), "a negative entropy (1 times)"),
        (lambda t: t["logprobs"][3].copy_(t["logprobs"][3].flip(0)), "probabilities not in falling order (1 times)"),
        (set_in("log_tail", 3, -0.01), "a mass above 1 (1 times)"),
        (set_in("log_tail", 3, -torch.inf), "a mass below 1 (1 times)"),
        (set_in("target_ids", 3, 0), "not among the tokens kept"),
        (set_in("label_logprobs", 3, -3.0), "not the one among the tokens kept"),
        (lambda t: t["ids"].copy_(t["ids"].roll(1, 0)), "not among the tokens kept"),
    ],
)
def test_what_cannot_be_is_found(own, change, said):
    rewritten(own, change)
    found = verify_cache(own).problems
    assert [one for one in found if one.startswith("shard-00000.safetensors: ") and said in one], found


@pytest.mark.parametrize("how", ["top", "sampled"])
def test_the_last_of_the_tokens_kept_is_in_order_too(tmp_path, how):
    folder = caches.written(tmp_path, caches.plan(keep=Keep(8, how)))
    rewritten(folder, lambda t: t["logprobs"][:, -1].copy_(t["logprobs"][:, 0]))
    assert any("falling order" in one for one in verify_cache(folder).problems)


def test_every_harmed_shard_is_named_at_once(own):
    (own / "shard-00000.safetensors").unlink()
    other = own / "shard-00001.safetensors"
    other.write_bytes(other.read_bytes()[:-5])
    third = bytearray((own / "shard-00002.safetensors").read_bytes())
    third[-3] ^= 1
    (own / "shard-00002.safetensors").write_bytes(third)
    missing, short, damaged = verify_cache(own).problems
    assert "shard-00000.safetensors is missing" in missing
    assert "shard-00001.safetensors has" in short
    assert "shard-00002.safetensors is damaged" in damaged


def test_tensors_of_another_shape_are_named(own):
    rewritten(own, lambda tensors: tensors.pop("entropy"))
    (problem,) = verify_cache(own).problems
    assert "shard-00000.safetensors holds other tensors" in problem


def test_what_is_not_finished_is_not_looked_at(own):
    (own / "manifest.json").unlink()
    with pytest.raises(ValueError, match="not finished"):
        verify_cache(own)


def test_bars_are_as_long_as_their_share():
    lines = histogram_lines((MassBin(0.0, 0.5, 10), MassBin(0.5, 1.0, 30)), width=30)
    assert [line.count("█") for line in lines] == [10, 30]
    assert lines[1].endswith("75.0%")

"""A cache read back: what it says, and what it refuses to say."""

import json
import pickle
from dataclasses import replace
from hashlib import sha256

import numpy as np
import pytest
import tiny_models
import torch
from safetensors.torch import load_file, save
from teacher import caches
from torch.utils.data import DataLoader

from qtarget.teacher import Document, Keep, KeptSource, kept_logprobs
from qtarget.teacher.cache import open_cache
from qtarget.teacher.cache.contents import bytes_per_token, key_of
from qtarget.teacher.cache.format import check_stored_targets

EVERY = tiny_models.VOCAB


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Read by every test and changed by none."""
    return caches.written(tmp_path_factory.mktemp("cache"))


@pytest.fixture
def own(tmp_path):
    """One to break."""
    return caches.written(tmp_path / "own")


def rewritten(folder, number: int, change) -> None:
    """A shard with other tensors, and hashes that agree with it."""
    path = folder / f"shard-{number:05d}.safetensors"
    content = save(change(load_file(path)))
    path.write_bytes(content)
    amended(folder, lambda m: m["shards"][number].update(sha256=sha256(content).hexdigest(), size=len(content)))


def amended(folder, change) -> None:
    manifest = json.loads((folder / "manifest.json").read_text())
    del manifest["content_sha256"]  # as somebody who knows of it would
    change(manifest)
    (folder / "manifest.json").write_text(json.dumps(manifest))


def test_a_whole_distribution_is_what_the_live_teacher_says(tmp_path):
    planned = caches.plan(keep=Keep(EVERY), storage_dtype="float32")
    cache = open_cache(caches.written(tmp_path, planned))
    rows = caches.documents()[::-1]
    live, kept = kept_logprobs(caches.teacher(), rows, Keep(EVERY)), cache.answer(rows)
    order, ours = live.ids.long().argsort(1), kept.ids.long().argsort(1)
    found, expected = kept.logprobs.gather(1, ours), live.logprobs.gather(1, order)
    torch.testing.assert_close(found.exp(), expected.exp(), rtol=0, atol=1e-6)
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-6)  # batched otherwise, so rounded otherwise
    torch.testing.assert_close(kept.label_logprobs, live.label_logprobs, rtol=1e-6, atol=1e-6)
    assert kept.log_tail.isneginf().all()


def test_half_precision_rounds_a_log_probability_by_one_part_in_2048(folder):
    rows = caches.documents()
    live, kept = kept_logprobs(caches.teacher(), rows, Keep(8)), open_cache(folder).answer(rows)
    assert torch.equal(kept.ids, live.ids)
    assert ((kept.logprobs.float() - live.logprobs).abs() <= live.logprobs.abs() / 2048 + 1e-6).all()
    assert (kept.logprobs.float() != live.logprobs).any()
    torch.testing.assert_close(kept.label_logprobs, live.label_logprobs, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(kept.log_tail, live.log_tail, rtol=0, atol=1e-5)
    torch.testing.assert_close(kept.entropy.float(), live.entropy, rtol=2**-11, atol=1e-4)


@pytest.mark.parametrize("keep", [Keep(0), Keep(6, "sampled"), Keep(6, temperature=2.0), Keep(EVERY + 5)])
def test_whatever_was_kept_is_read_back(tmp_path, keep):
    cache = open_cache(caches.written(tmp_path, caches.plan(keep=keep)))
    kept, live = cache.answer(caches.documents()), kept_logprobs(caches.teacher(), caches.documents(), keep)
    assert cache.keep == replace(keep, k=min(keep.k, EVERY))
    assert torch.equal(kept.ids, live.ids)
    torch.testing.assert_close(kept.logprobs.float(), live.logprobs, rtol=2**-11, atol=1e-6)


def test_documents_are_found_in_any_order_and_as_often_as_asked(folder):
    cache, rows = open_cache(folder), caches.documents()
    asked = [rows[3], rows[1], rows[3]]
    kept = cache.answer(asked)
    parts = [cache.answer([one]) for one in asked]
    assert torch.equal(kept.ids, torch.cat([part.ids for part in parts]))
    assert torch.equal(parts[0].label_logprobs, parts[2].label_logprobs)
    assert cache.answer([]).ids.shape == (0, 8)


def test_a_row_that_stands_twice_in_the_data_is_stored_once(folder, tmp_path):
    rows = caches.documents()
    caches.written(tmp_path, caches.plan([*rows[::-1], *rows]))
    assert caches.contents(tmp_path) == caches.contents(folder)


def test_64_tokens_kept_take_less_than_400_bytes(tmp_path):
    rows = [Document(np.arange(5, 95, dtype=np.int32) + i % 5, np.arange(90) > i % 30) for i in range(200)]
    cache = open_cache(caches.written(tmp_path, caches.plan(rows, Keep(64), shard_tokens=65536)))
    assert bytes_per_token(64, "float16") == 398
    assert cache.manifest.bytes / cache.manifest.tokens < 400


def test_a_document_that_is_not_there_is_named(folder):
    cache = open_cache(folder)
    strange = Document(np.array([7, 8, 9], np.int32), np.array([False, True, True]))
    assert cache.missing([*caches.documents(), strange]) == [strange]
    with pytest.raises(ValueError, match=r"nothing about a document of 3 tokens that begins \[7, 8, 9\].*rendered"):
        cache.answer([strange])


def test_the_same_tokens_with_another_mask_are_another_document(folder):
    one = caches.documents()[0]
    other = Document(one.ids, np.arange(len(one.ids)) > 2)
    assert open_cache(folder).missing([other]) == [other]


def test_what_differs_from_the_run_is_named(folder):
    cache = open_cache(folder)
    cache.check({"teacher": "weights", "temperature": 1.0})
    with pytest.raises(
        ValueError, match=r"teacher: weights in the cache, others now; temperature: 1\.0 in the cache, 2\.0"
    ):
        cache.check({"teacher": "others", "temperature": 2.0, "k": 8})


@pytest.mark.parametrize("start", ["fork", "spawn"])
def test_workers_of_a_data_loader_read_it(folder, start):
    cache, rows = open_cache(folder), caches.documents(6)
    cache.answer(rows)  # what is mapped by now is not sent along
    assert len(pickle.dumps(cache)) < 10_000
    loader = DataLoader(rows, 2, collate_fn=cache.answer, num_workers=1, multiprocessing_context=start)
    ids = torch.cat([kept.ids for kept in loader])
    assert torch.equal(ids, cache.answer(rows).ids)


def test_as_a_source_it_speaks_of_a_batch(folder):
    row = tiny_models.token_rows(1)[0]
    batch = {name: torch.tensor([row[name]]) for name in ("input_ids", "labels")}
    found = KeptSource(open_cache(folder)).evidence(batch, batch["labels"])
    live = kept_logprobs(caches.teacher(), caches.documents(1), Keep(8))
    assert torch.equal(found.ids[0, 1:-1], live.ids.long())


# A cache that is out of step


def shifted(tensors: dict, *names: str) -> dict:
    return {name: value.roll(1, 0).contiguous() if name in names else value for name, value in tensors.items()}


ALL = ("ids", "logprobs", "log_tail", "label_logprobs", "entropy", "target_ids")


@pytest.mark.failure_case(6)
@pytest.mark.parametrize(
    ("names", "said"),
    [
        (ALL, "is about the tokens"),
        (ALL[:-1], "not among the tokens kept"),
        (("ids", "logprobs"), "not among the tokens kept"),
        (("label_logprobs",), "not the one among"),
        (("logprobs",), "not the one among"),
    ],
)
def test_a_cache_shifted_by_one_token_is_refused(own, names, said):
    rewritten(own, 0, lambda tensors: shifted(tensors, *names))
    cache = open_cache(own)
    with pytest.raises(ValueError, match=rf"shard-00000.safetensors is out of step with the rows: .*{said}"):
        cache.answer(caches.documents())


@pytest.mark.failure_case(6)
def test_a_shifted_cache_is_refused_at_another_temperature_and_in_draws(tmp_path):
    for keep, names in ((Keep(8, temperature=2.0), ALL[:-1]), (Keep(8, "sampled"), ALL)):
        folder = caches.written(tmp_path / keep.how, caches.plan(keep=keep))
        rewritten(folder, 0, lambda tensors, names=names: shifted(tensors, *names))
        cache = open_cache(folder)
        with pytest.raises(ValueError, match="out of step"):
            cache.answer(caches.documents())


def test_a_label_without_any_mass_is_in_step():
    rows = {
        "ids": torch.tensor([[3, 5]], dtype=torch.int32),
        "logprobs": torch.tensor([[0.0, -torch.inf]]).half(),
        "label_logprobs": torch.tensor([-torch.inf]),
        "target_ids": torch.tensor([5], dtype=torch.int32),
    }
    check_stored_targets(rows, np.array([5], np.int32), "top", 1.0)
    with pytest.raises(ValueError, match="not the one among"):
        check_stored_targets({**rows, "label_logprobs": torch.tensor([-80.0])}, np.array([5], np.int32), "top", 1.0)


# What is not opened


def rekeyed(manifest: dict) -> None:
    """Keys that agree with whatever the parts say."""
    manifest["key"] = key_of(manifest["parts"])
    for shard in manifest["shards"]:
        shard["key"] = manifest["key"]


def test_no_cache_at_all(tmp_path):
    with pytest.raises(ValueError, match=r"no teacher cache: it has no manifest.json.*qtarget teacher cache"):
        open_cache(tmp_path)


def test_an_unfinished_cache_says_how_far_it_got(own):
    (own / "manifest.json").unlink()
    (own / "shard-00001.json").unlink()
    shards = len(list(own.glob("*.safetensors")))
    with pytest.raises(ValueError, match=f"not finished: {shards - 1} of {shards} shards are written.*goes on"):
        open_cache(own)


@pytest.mark.failure_case(2)
def test_a_missing_shard_is_named(own):
    (own / "shard-00001.safetensors").unlink()
    with pytest.raises(ValueError, match=r"shard-00001.safetensors is missing"):
        open_cache(own)


@pytest.mark.failure_case(2)
def test_a_truncated_shard_is_named(own):
    path = own / "shard-00001.safetensors"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ValueError, match=r"shard-00001.safetensors has [\d,]+ bytes, and [\d,]+ were written"):
        open_cache(own)


@pytest.mark.failure_case(2)
@pytest.mark.parametrize("place", [3, 500, -1])
def test_a_flipped_bit_is_named(own, place):
    path = own / "shard-00001.safetensors"
    content = bytearray(path.read_bytes())
    content[place] ^= 4
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"shard-00001.safetensors is damaged: its sha256"):
        open_cache(own)


@pytest.mark.failure_case(19)
@pytest.mark.parametrize(
    "name", ["../outside.safetensors", "/etc/passwd", "shard-00000.safetensors/../../x", "shard-1.safetensors", 3, ""]
)
def test_a_path_that_escapes_the_folder_is_refused(own, name):
    (own.parent / "outside.safetensors").write_bytes((own / "shard-00000.safetensors").read_bytes())
    amended(own, lambda manifest: manifest["shards"][0].update(file=name))
    with pytest.raises(ValueError, match="no file of its own"):
        open_cache(own)


@pytest.mark.failure_case(19)
def test_a_link_out_of_the_folder_is_refused(own):
    (own / "shard-00000.safetensors").rename(own.parent / "outside.safetensors")
    (own / "shard-00000.safetensors").symlink_to(own.parent / "outside.safetensors")
    with pytest.raises(ValueError, match="no file of its own"):
        open_cache(own)


def test_another_format_is_refused(own):
    amended(own, lambda manifest: manifest["parts"].update(format=99))
    with pytest.raises(ValueError, match="is of format 99, and this version of qtarget reads formats 1 and 2"):
        open_cache(own)


@pytest.mark.parametrize(
    "change",
    [
        lambda m: m["parts"].update(temperature=3.0),
        lambda m: m.pop("shards"),
        lambda m: m["shards"][0].pop("size"),
        lambda m: m["shards"][0].update(key="another"),
        lambda m: m.update(parts=5),
        lambda m: m.update(shards=[]),
        lambda m: (m["parts"].pop("k"), rekeyed(m)),
        lambda m: (m["parts"].update(storage_dtype="int4"), rekeyed(m)),
    ],
)
def test_a_manifest_that_was_changed_is_refused(own, change):
    amended(own, change)
    with pytest.raises(ValueError, match=r"manifest.json is damaged"):
        open_cache(own)


@pytest.mark.parametrize("content", [b"", b"[]", b"\xff\xfe", b'{"key": '])
def test_a_manifest_that_is_no_json_is_refused(own, content):
    (own / "manifest.json").write_bytes(content)
    with pytest.raises(ValueError, match=r"manifest.json is damaged"):
        open_cache(own)


def test_tensors_that_do_not_fit_the_manifest_are_refused(own):
    rewritten(own, 0, lambda tensors: {**tensors, "ids": tensors["ids"][:, :4].contiguous()})
    with pytest.raises(ValueError, match="holds other tensors than the manifest says"):
        open_cache(own)


def test_shards_that_changed_places_are_refused(own):
    def swap(manifest):
        first, second = manifest["shards"][:2]
        manifest["shards"][:2] = second, first

    amended(own, swap)
    with pytest.raises(ValueError, match="twice or out of order"):
        open_cache(own)


def test_the_key_is_that_of_all_parts(folder):
    parts = open_cache(folder).manifest.parts
    assert set(parts) >= {"rows", "tokenizer", "chat_template", "truncation", "teacher", "compute_dtype", "k", "how"}
    assert set(parts) >= {"temperature", "storage_dtype", "format", "vocabulary"}
    assert len({key_of({**parts, name: "another"}) for name in parts} | {key_of(parts)}) == len(parts) + 1

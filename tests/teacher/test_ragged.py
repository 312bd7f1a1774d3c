"""Caches that keep as many tokens of a distribution as its mass asks for."""

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

import qtarget as qt
from qtarget.teacher import Keep, KeptSource, kept_logprobs
from qtarget.teacher.cache import ByMass, open_cache, verify_cache
from qtarget.teacher.cache.contents import by_mass_of, packed_bytes_at_most
from qtarget.teacher.cache.ragged import PackedColumns, cut_by_mass, packed, tokens_of, unpacked

EVERY = tiny_models.VOCAB
RULE = ByMass(0.3, 2, 12)


def live(k: int = EVERY, temperature: float = 1.0):
    return kept_logprobs(caches.teacher(), caches.documents(), Keep(k, temperature=temperature))


def targets() -> torch.Tensor:
    return torch.cat([torch.from_numpy(one.targets) for one in caches.documents()])


def by_mass(folder, rule: ByMass = RULE, **changes):
    return caches.written(folder, caches.plan(by_mass=rule, **changes))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Read by every test and changed by none."""
    return by_mass(tmp_path_factory.mktemp("cache"))


@pytest.mark.parametrize("temperature", [1.0, 2.0])
@pytest.mark.parametrize("dtype", ["float16", "float32"])
@pytest.mark.parametrize(
    "rule", [RULE, ByMass(0.6), ByMass(0.01, 3, EVERY), ByMass(0.9, 1, 1), ByMass(0.5, 5, 5)], ids=str
)
def test_what_is_kept_is_the_likeliest_until_the_mass_is_there_and_the_label(tmp_path, rule, dtype, temperature):
    """Written out by hand, token by token, from the whole distribution."""
    keep = Keep(8, temperature=temperature)
    cache = open_cache(by_mass(tmp_path, rule, keep=keep, storage_dtype=dtype))
    kept, whole, most = cache.answer(caches.documents()), live(temperature=temperature), min(rule.max_k, EVERY - 1)
    assert kept.ids.shape[1] == int((kept.ids >= 0).sum(1).max()) <= most
    assert (cache.keep.k, cache.by_mass) == (most, ByMass(rule.missing, min(rule.min_k, most), most))
    rounding = 2**-11 if dtype == "float16" else 1e-6
    for token, label in enumerate(targets().tolist()):
        ids, prob = whole.ids[token].tolist(), whole.logprobs[token].double().exp()
        wanted = int((prob.cumsum(0) < 1 - rule.missing).sum()) + 1
        wanted = max(min(wanted, most), min(rule.min_k, most))
        expected = ids[:wanted]
        if label not in expected:
            expected = [*(expected if wanted < most else expected[:-1]), label]
        found = kept.ids[token][kept.ids[token] >= 0].tolist()
        assert found == expected
        mine = kept.logprobs[token, : len(found)].double()
        theirs = torch.stack([whole.logprobs[token, ids.index(each)] for each in found]).double()
        torch.testing.assert_close(mine, theirs, rtol=rounding, atol=1e-6)
        tail = 1 - theirs.exp().sum()
        assert kept.log_tail[token].double().exp() == pytest.approx(float(tail), rel=8 * rounding, abs=2e-6)
        assert (kept.logprobs[token, len(found) :] == -torch.inf).all()
    torch.testing.assert_close(kept.label_logprobs, whole.label_logprobs, rtol=rounding, atol=1e-6)
    torch.testing.assert_close(kept.entropy.float(), whole.entropy, rtol=2**-11, atol=1e-4)
    assert verify_cache(tmp_path).problems == ()


@pytest.mark.parametrize("vocabulary", [200, 256, 257, 65536, 65537, 151936, 2**24 + 1])
@pytest.mark.parametrize("storage", ["float16", "float32"])
@pytest.mark.parametrize("k", [5, 300])
def test_bytes_give_back_what_was_packed_in_any_vocabulary(vocabulary, storage, k):
    k, random = min(k, vocabulary - 1), np.random.default_rng(0)
    parts = {"vocabulary": vocabulary, "storage_dtype": storage, "temperature": 1.0, "k": k}
    ids = np.stack([random.permutation(min(vocabulary - 1, 5000))[:k] for _ in range(40)])
    ids[::3, 0] = vocabulary - 1
    logprobs = -np.sort(random.gamma(1.0, 3.0, (40, k)), 1)
    logprobs[5, 2:], logprobs[6, :2] = -np.inf, 0.0
    kept = type(live(1))(
        torch.from_numpy(ids).int(), torch.from_numpy(logprobs).float(), -torch.ones(40),
        torch.from_numpy(logprobs[:, 1]).float(), torch.ones(40),
    )  # fmt: skip
    whole = cut_by_mass(kept, ids[:, 1], ByMass(0.2, 2, k))
    columns = PackedColumns.of(parts)
    content = packed(whole, columns)
    found = unpacked(np.frombuffer(content, np.uint8), 40, columns)
    number = np.dtype(storage)
    assert len(content) < packed_bytes_at_most(k, storage, vocabulary) * 40 + 28
    for name in ("counts", "places", "ids"):
        assert (getattr(found, name) == getattr(whole, name)).all()
    for name in ("logprobs", "log_tail", "label_logprobs"):
        assert np.array_equal(getattr(found, name), getattr(whole, name).astype(number))
    assert (found.targets == ids[:, 1]).all()
    for wrong in (content[:-3], content[:4], b"\xff\xff\xff\xff" + content[4:]):
        with pytest.raises(ValueError, match=r"it holds|cannot be unpacked"):
            unpacked(wrong, 40, columns)


def test_documents_are_found_in_any_order_and_stand_side_by_side(tmp_path):
    cache, rows = open_cache(by_mass(tmp_path, ByMass(0.8, 1, 30))), caches.documents()
    asked = [rows[3], rows[1], rows[3]]
    kept, parts = cache.answer(asked), [cache.answer([one]) for one in asked]
    assert kept.ids.shape[1] == max(part.ids.shape[1] for part in parts)
    assert len({part.ids.shape[1] for part in parts}) > 1
    first = parts[0]
    assert torch.equal(kept.ids[: len(first.ids), : first.ids.shape[1]], first.ids)
    assert (kept.ids[: len(first.ids), first.ids.shape[1] :] == -1).all()
    assert cache.answer([]).ids.shape[0] == 0
    assert len(pickle.dumps(cache)) < 10_000


def test_as_a_source_it_gives_the_loss_of_each_token_alone(folder):
    """The widest token decides how many slots a batch has, and nothing else."""
    rows = tiny_models.token_rows(3)
    source, vocab = KeptSource(open_cache(folder)), EVERY
    torch.manual_seed(0)
    width = max(len(row["input_ids"]) for row in rows)
    pad = lambda values, blank: torch.tensor([each + [blank] * (width - len(each)) for each in values])  # noqa: E731
    batch = {
        "input_ids": pad([row["input_ids"] for row in rows], 0),
        "labels": pad([row["labels"] for row in rows], -100),
        "attention_mask": pad([[1] * len(row["input_ids"]) for row in rows], 0),
    }
    logits, labels = torch.randn(3, width, vocab), batch["labels"].roll(-1, 1)
    labels[:, -1] = -100
    method = qt.method("target-sft", eta=0.5)
    together = qt.q_target_loss(logits, labels, method, teacher=source.evidence(batch, batch["labels"]))
    for i, row in enumerate(rows):
        own = {"input_ids": torch.tensor([row["input_ids"]]), "labels": torch.tensor([row["labels"]])}
        n = len(row["input_ids"])
        alone = qt.q_target_loss(
            logits[i : i + 1, :n], labels[i : i + 1, :n], method, teacher=source.evidence(own, own["labels"])
        )
        torch.testing.assert_close(
            together.diagnostics["target_kl"][i, :n], alone.diagnostics["target_kl"][0], equal_nan=True
        )


def test_much_less_is_written_where_the_teacher_is_nearly_sure(tmp_path):
    whole = open_cache(caches.written(tmp_path / "fixed", caches.plan(keep=Keep(16), shard_tokens=10**6)))
    cut = open_cache(by_mass(tmp_path / "cut", ByMass(0.5, 1, 16), shard_tokens=10**6))
    assert cut.manifest.bytes < 0.7 * whole.manifest.bytes
    planned = caches.plan(by_mass=ByMass(0.5, 1, 16), shard_tokens=10**6)
    assert cut.manifest.bytes < planned.bytes + 2000


def test_the_label_alone_is_kept_as_ever(tmp_path):
    planned = caches.plan(keep=Keep(0), by_mass=RULE)
    assert planned.parts == caches.plan(keep=Keep(0)).parts


def test_today_s_caches_keep_their_keys():
    """A cache that was begun before there was a choice goes on, and is read."""
    parts = caches.plan().parts
    assert parts["format"] == 1
    assert not {"missing_mass", "min_k"} & set(parts)
    assert by_mass_of(parts) is None
    assert (
        len(
            {caches.plan(by_mass=rule).key for rule in (None, RULE, replace(RULE, min_k=1), replace(RULE, missing=0.1))}
        )
        == 4
    )


# ---- what makes no sense


@pytest.mark.parametrize(
    ("rule", "said"),
    [
        ((0.0,), r"is 0; expected a number between 0 and 1, as in `cache_missing_mass: 0.01`"),
        ((1.0,), "is 1; expected a number between 0 and 1"),
        ((float("nan"),), "is nan; expected a number between 0 and 1"),
        ((0.1, 9, 8), "9 tokens at least and 8 at most.*1 ≤ `cache_min_k` ≤ `cache_max_k`"),
        ((0.1, 0, 8), "0 tokens at least"),
    ],
)
def test_numbers_that_make_no_sense_are_refused(rule, said):
    with pytest.raises(ValueError, match=said):
        ByMass(*rule)


def test_draws_and_more_tokens_than_there_are_are_refused():
    with pytest.raises(ValueError, match=f"`cache_max_k: {EVERY + 1}` is more than the {EVERY} tokens"):
        caches.plan(by_mass=ByMass(0.1, 1, EVERY + 1))
    with pytest.raises(ValueError, match=r"draws.*`cache_sampled: true` or `cache_missing_mass`, not both"):
        caches.plan(keep=Keep(8, "sampled"), by_mass=RULE)


def test_a_folder_with_another_rule_is_named(folder, tmp_path):
    own = by_mass(tmp_path / "own")
    with pytest.raises(ValueError, match=r"missing mass: 0\.3 in the cache, 0\.1 now"):
        by_mass(own, replace(RULE, missing=0.1))
    with pytest.raises(
        ValueError,
        match=r"missing mass: 0\.3 in the cache, None now",
    ):
        caches.written(own)


# ---- a cache that is out of step, or damaged


def rewritten(folder, change) -> None:
    """The first shard with other tensors, and hashes that agree with it."""
    path = folder / "shard-00000.safetensors"
    tensors = load_file(path)
    content = save(change(tensors))
    path.write_bytes(content)
    manifest = json.loads((folder / "manifest.json").read_text())
    del manifest["content_sha256"]
    manifest["shards"][0].update(sha256=sha256(content).hexdigest(), size=len(content))
    (folder / "manifest.json").write_text(json.dumps(manifest))


def repacked(tensors: dict, parts: dict, change) -> dict:
    """The documents of a shard, changed and packed again."""
    columns, content, places = PackedColumns.of(parts), tensors["packed"].numpy(), tensors["packed_offsets"].tolist()
    counts = tensors["offsets"].diff().tolist()
    each = [
        packed(change(unpacked(content[a:b], n, columns)), columns)
        for a, b, n in zip(places, places[1:], counts, strict=False)
    ]
    return {
        **tensors,
        "packed": torch.from_numpy(np.frombuffer(b"".join(each), np.uint8).copy()),
        "packed_offsets": torch.tensor(np.cumsum([0, *map(len, each)])),
    }


def rolled(document):
    """Every token's rows one token late."""
    order = np.roll(np.arange(len(document.counts)), 1)
    parts = [tokens_of(document, i, i + 1) for i in order]
    return type(document)(*(np.concatenate(column) for column in zip(*parts, strict=True)))


@pytest.mark.failure_case(6)
def test_a_cache_shifted_by_one_token_is_refused(tmp_path):
    own = by_mass(tmp_path)
    parts = open_cache(own).manifest.parts
    rewritten(own, lambda tensors: repacked(tensors, parts, rolled))
    cache = open_cache(own)
    with pytest.raises(
        ValueError, match=r"shard-00000.safetensors is out of step with the rows: .*is about the tokens"
    ):
        cache.answer(caches.documents())


@pytest.mark.failure_case(8)
@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda d: d._replace(log_tail=d.log_tail * 0 - 0.01), "a mass above 1"),
        (lambda d: d._replace(log_tail=d.log_tail * 0 - np.inf), "a mass below 1"),
        (lambda d: d._replace(entropy=d.entropy * np.nan), "NaN"),
        (lambda d: d._replace(ids=d.ids * 0 + 255), "an id outside of the vocabulary"),
        (lambda d: d._replace(ids=d.ids * 0 + 3), "an id kept twice for a token"),
        (lambda d: d._replace(logprobs=d.logprobs[::-1].copy()), "not in falling order"),
        (lambda d: d._replace(logprobs=d.logprobs - 3), "more than 0.3 of the mass left out"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_found(tmp_path, change, said):
    own = by_mass(tmp_path, replace(RULE, max_k=EVERY))
    parts = open_cache(own).manifest.parts
    rewritten(own, lambda tensors: repacked(tensors, parts, change))
    found = verify_cache(own).problems
    assert [one for one in found if one.startswith("shard-00000.safetensors: ") and said in one], found


def test_bytes_that_cannot_be_unpacked_are_named(tmp_path):
    own = by_mass(tmp_path)
    rewritten(own, lambda tensors: {**tensors, "packed": tensors["packed"].flip(0)})
    with pytest.raises(ValueError, match=r"shard-00000.safetensors is out of step.*(it holds|unpacked)"):
        open_cache(own).answer(caches.documents())
    assert any("shard-00000" in problem for problem in verify_cache(own).problems)


@pytest.mark.parametrize(
    "change",
    [
        lambda t: {**t, "packed": t["packed"][:-1].clone()},
        lambda t: {**t, "packed_offsets": t["packed_offsets"].flip(0)},
        lambda t: {name: value for name, value in t.items() if name != "packed"},
        lambda t: {**t, "ids": torch.zeros(3)},
    ],
)
def test_tensors_that_do_not_fit_are_refused(tmp_path, change):
    own = by_mass(tmp_path)
    rewritten(own, change)
    with pytest.raises(ValueError, match="holds other tensors than the manifest says"):
        open_cache(own)


def test_a_rule_of_a_manifest_that_makes_no_sense_is_damage(tmp_path):
    from qtarget.teacher.cache.contents import key_of

    own = by_mass(tmp_path)
    manifest = json.loads((own / "manifest.json").read_text())
    del manifest["content_sha256"]
    manifest["parts"]["missing_mass"] = 7
    manifest["key"] = key_of(manifest["parts"])
    manifest["shards"] = [{**shard, "key": manifest["key"]} for shard in manifest["shards"]]
    (own / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(ValueError, match=r"manifest.json is damaged"):
        open_cache(own)

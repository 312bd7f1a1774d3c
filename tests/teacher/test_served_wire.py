"""Questions and answers as bytes: what is sent arrives, and what cannot be right is refused on both sides."""

import json

import numpy as np
import pytest
import safetensors.torch
import tiny_models
import torch

from qtarget.teacher import Document, Keep, KeptLogprobs, LiveModel, documents_of_rows, kept_logprobs
from qtarget.teacher.served.wire import (
    Health,
    Limits,
    answer_bytes,
    pack_answer,
    pack_question,
    question_bytes,
    unpack_answer,
    unpack_question,
)

DOCUMENTS = list(documents_of_rows(tiny_models.token_rows(4)))
TARGETS = torch.from_numpy(np.concatenate([document.targets for document in DOCUMENTS]))
TOP, SAMPLED, LABEL = Keep(8), Keep(8, "sampled", 2.0), Keep(0)
METADATA = {"protocol": "1", "k": "4", "how": "top", "temperature": "1.0"}
HEALTH = Health("m", "1" * 32, "w", "t", tiny_models.VOCAB, "float32", Limits())


@pytest.fixture(scope="module")
def kept() -> dict[Keep, KeptLogprobs]:
    live = LiveModel(tiny_models.tiny_model(seed=1).eval(), tiny_models.VOCAB)
    return {keep: kept_logprobs(live, DOCUMENTS, keep) for keep in (TOP, SAMPLED, LABEL)}


@pytest.mark.parametrize("keep", [TOP, SAMPLED, LABEL])
def test_a_question_arrives_as_it_was_sent(keep):
    sent = pack_question(DOCUMENTS, keep)
    documents, understood = unpack_question(sent, tiny_models.VOCAB)
    assert understood == keep
    assert [d.digest for d in documents] == [d.digest for d in DOCUMENTS]
    assert len(sent) <= question_bytes(sum(len(d.ids) for d in DOCUMENTS))


@pytest.mark.parametrize("keep", [TOP, SAMPLED, LABEL])
def test_an_answer_arrives_as_it_was_sent(kept, keep):
    sent = pack_answer(kept[keep])
    found = unpack_answer(sent, TARGETS, keep, tiny_models.VOCAB)
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(found, kept[keep], strict=True))
    assert len(sent) <= answer_bytes(len(TARGETS), keep.k)


def question(ids=(5, 6, 7), asked=(False, True, True), lengths=(3,), metadata=None, dtype=torch.int32) -> bytes:
    tensors = {
        "ids": torch.tensor(ids, dtype=dtype),
        "asked": torch.tensor(asked, dtype=torch.bool),
        "lengths": torch.tensor(lengths, dtype=torch.int32),
    }
    return safetensors.torch.save(tensors, METADATA | (metadata or {}))


def test_the_questions_below_are_wrong_in_one_thing_only():
    documents, keep = unpack_question(question(), 100)
    assert documents[0].digest == Document.of([5, 6, 7], [-100, 6, 7]).digest
    assert keep == Keep(4)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", "not safetensors"),
        (b"\x80\x04\x95nonsense", "not safetensors"),
        (question()[:-2], "not safetensors"),
        (safetensors.torch.save({"ids": torch.zeros(3)}, METADATA), "must hold"),
        (question(dtype=torch.int64), "other types"),
        (question(ids=(-1, 6, 7)), "-1 is outside"),
        (question(ids=(5, 6, 100)), "100 is outside"),
        (question(lengths=(2,)), "add up"),
        (question(lengths=((3,),)), r"\[D\]"),
        (question(lengths=(5, -2)), "needs a token"),
        (question((), (), ()), "needs a document"),
        (question(asked=(True, True, True)), "first token"),
        (question(lengths=(1, 2)), "first token"),
        (question(metadata={"protocol": "2"}), "version 2"),
        (question(metadata={"k": "-1"}), "k ≥ 0"),
        (question(metadata={"how": "sampled", "k": "0"}), "k ≥ 1"),
        (question(metadata={"how": "all"}), "how must be"),
        (question(metadata={"temperature": "0"}), "above 0"),
        (question(metadata={"temperature": "nan"}), "above 0"),
        (question(metadata={"k": "many"}), "many"),
    ],
)
def test_a_question_that_makes_no_sense_is_refused(body, words):
    with pytest.raises(ValueError, match=words):
        unpack_question(body, 100)


def damaged(kept: KeptLogprobs, name: str, change) -> bytes:
    value = getattr(kept, name).clone()
    return pack_answer(kept._replace(**{name: change(value)}))


def put(value):
    def change(tensor):
        tensor.view(-1)[0] = value
        return tensor

    return change


def twice(ids):
    ids[0, 1] = ids[0, 0]
    return ids


@pytest.mark.parametrize(
    ("name", "change", "words"),
    [
        ("logprobs", put(torch.nan), "NaN"),
        ("entropy", put(torch.nan), "NaN"),
        ("entropy", put(-1.0), "entropy"),
        ("entropy", put(torch.inf), "entropy"),
        ("logprobs", put(0.5), "above 0"),
        ("log_tail", put(0.5), "above 0"),
        ("logprobs", put(-9.0), "mass"),
        ("log_tail", put(0.0), "mass"),
        ("ids", put(-1), "outside"),
        ("ids", put(tiny_models.VOCAB), "outside"),
        ("ids", twice, "twice"),
        ("ids", lambda ids: ids.roll(1, 0), "other tokens"),
        ("label_logprobs", lambda label: label.roll(1), "label's"),
        ("label_logprobs", lambda label: label[1:], "asked about"),
        ("logprobs", lambda logprobs: logprobs[:, 1:], "asked about"),
        ("logprobs", lambda logprobs: logprobs[:, 0], "asked about"),
        ("ids", lambda ids: ids.long(), "other types"),
        ("entropy", lambda entropy: entropy.half(), "other types"),
    ],
)
def test_an_answer_that_cannot_be_right_is_refused(kept, name, change, words):
    with pytest.raises(ValueError, match=words):
        unpack_answer(damaged(kept[TOP], name, change), TARGETS, TOP, tiny_models.VOCAB)


def test_an_answer_about_fewer_tokens_is_refused(kept):
    fewer = pack_answer(KeptLogprobs(*(value[1:] for value in kept[TOP])))
    with pytest.raises(ValueError, match="were asked about"):
        unpack_answer(fewer, TARGETS, TOP, tiny_models.VOCAB)


def test_an_answer_that_is_no_safetensors_is_refused():
    with pytest.raises(ValueError, match="not safetensors"):
        unpack_answer(b"<html>", TARGETS, TOP, tiny_models.VOCAB)


def test_health_arrives_as_it_was_sent():
    assert Health.from_json(HEALTH.to_json().encode()) == HEALTH


@pytest.mark.parametrize(
    "change",
    [{"vocab": "100"}, {"vocab": -1}, {"limits": {"k": 1}}, {"limits": 3}, {"model": None}, {"more": 1}],
)
def test_health_of_something_else_is_refused(change):
    with pytest.raises(ValueError, match="not that of a teacher"):
        Health.from_json(json.dumps(json.loads(HEALTH.to_json()) | change).encode())


@pytest.mark.parametrize("text", [b"", b"<html>", b"[]", b"{}", b"\xff\xfe", b"[" * 100_000])
def test_health_that_is_nothing_is_refused(text):
    with pytest.raises(ValueError, match="not that of a teacher"):
        Health.from_json(text)


def test_another_version_of_the_protocol_is_named():
    with pytest.raises(ValueError, match="version 2 of the protocol, and this side 1"):
        Health.from_json(HEALTH.to_json().replace('"protocol": 1', '"protocol": 2').encode())

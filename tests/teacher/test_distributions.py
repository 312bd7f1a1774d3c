"""What is kept of a live model's distributions, against the plain formulas on its logits."""

import numpy as np
import pytest
import tiny_models
import torch
from teacher import caches

from qtarget.teacher import Document, Keep, kept_logprobs


def logits_of(documents: list[Document]) -> torch.Tensor:
    """Before each token asked about, [T, V], one document at a time, in fp64."""
    model, parts = caches.teacher().model, []
    for document in documents:
        logits = model(input_ids=torch.from_numpy(document.ids).long()[None]).logits[0, :-1].double()
        parts.append(logits[torch.from_numpy(document.asked[1:])])
    return torch.cat(parts).log_softmax(-1)


def targets_of(documents: list[Document]) -> torch.Tensor:
    return torch.cat([torch.from_numpy(document.targets) for document in documents]).long()


@pytest.mark.failure_case(8)
@pytest.mark.parametrize("temperature", [1.0, 2.5])
def test_the_likeliest_and_what_is_left(temperature):
    rows = caches.documents()
    kept = kept_logprobs(caches.teacher(), rows, Keep(8, temperature=temperature), batch_tokens=64)
    plain, targets = logits_of(rows), targets_of(rows)
    at = (plain / temperature).log_softmax(-1)
    ids = plain.topk(8, -1).indices
    ids[:, -1] = torch.where((ids == targets[:, None]).any(-1), ids[:, -1], targets)
    assert torch.equal(kept.ids.long(), ids)
    torch.testing.assert_close(kept.logprobs.double(), at.gather(1, ids), rtol=1e-5, atol=1e-5)
    rest = at.exp().scatter(1, ids, 0.0).sum(-1).log()
    torch.testing.assert_close(kept.log_tail.double(), rest, rtol=1e-5, atol=1e-4)
    torch.testing.assert_close(
        kept.label_logprobs.double(), plain.gather(1, targets[:, None])[:, 0], rtol=1e-5, atol=1e-5
    )
    entropy = -(plain.exp() * plain).sum(-1)
    torch.testing.assert_close(kept.entropy.double(), entropy, rtol=1e-5, atol=1e-5)


def test_draws_are_the_teachers_own_in_the_mean():
    rows = caches.documents(4)
    number = 4000
    kept = kept_logprobs(caches.teacher(), rows, Keep(number, "sampled"))
    shares = torch.zeros(len(kept.ids), tiny_models.VOCAB).scatter_(1, kept.ids.long(), kept.logprobs.exp())
    true = logits_of(rows).exp().float()
    torch.testing.assert_close(shares.sum(-1), torch.ones(len(shares)))
    worst = ((shares - true).abs() / (true * (1 - true) / number).sqrt().clamp_min(1 / number)).max()
    assert worst < 5  # standard deviations
    assert kept.log_tail.isneginf().all()


def test_draws_do_not_depend_on_what_is_asked_beside():
    rows = caches.documents()
    together = kept_logprobs(caches.teacher(), rows, Keep(6, "sampled"))
    alone = kept_logprobs(caches.teacher(), rows[3:4], Keep(6, "sampled"))
    start = sum(len(one.targets) for one in rows[:3])
    assert torch.equal(together.ids[start : start + len(alone.ids)].sort().values, alone.ids.sort().values)


def test_every_batch_is_told():
    told = []
    kept_logprobs(caches.teacher(), caches.documents(), Keep(2), batch_tokens=30, on_batch=told.append)
    assert len(told) > 3
    assert sum(told) == sum(len(one.targets) for one in caches.documents())


def test_no_documents_are_no_answers():
    kept = kept_logprobs(caches.teacher(), [], Keep(3))
    assert [tuple(value.shape) for value in kept] == [(0, 3), (0, 3), (0,), (0,), (0,)]
    assert np.array_equal(kept.ids.numpy(), np.zeros((0, 3), np.int32))

"""What is measured of a row is what the trainer would do with it: under every method, from every kind of source."""

from dataclasses import replace

import numpy as np
import pytest
import tiny_models
import torch
from job.inspection import looked_at

import qtarget as qt
from qtarget.job.inspection.measured_rows import MeasuredSet, measure
from qtarget.job.inspection.pull import label_trust_pull, residual_pull
from qtarget.job.inspection.row_forward import ForwardReader
from qtarget.job.inspection.trained_rows import TrainedRow, TrainedRows
from qtarget.job.inspection.whole_frame import frames_of
from qtarget.target.statistics import LOG_NOT_Y, LOGP_Y
from qtarget.train import TargetSFTTrainer

NEEDS = {name: qt.method(name).needs for name in qt.METHODS}


@pytest.mark.parametrize("name", [name for name in qt.METHODS if name != "excess-loss-selected"])  # all tie at step 0
def test_every_method_pulls_as_its_loss_does(name: str):
    check_pulls(name, *looked_at.plain())


@pytest.mark.parametrize("name", [name for name, needs in NEEDS.items() if "teacher" not in needs])
def test_every_method_pulls_as_its_loss_does_beside_a_reference(name: str):
    check_pulls(name, *looked_at.with_reference())


def check_pulls(name: str, built: TargetSFTTrainer, rows: list[TrainedRow], found: MeasuredSet) -> None:
    method = found.open.methods[name]
    for start in range(0, len(rows), looked_at.BATCH_ROWS):
        group = slice(start, start + looked_at.BATCH_ROWS)
        out, gradient, _ = looked_at.defined(built, rows[group], method)
        weightless = torch.cat([torch.as_tensor(row.weight[row.learned]) for row in rows[group]]) == 0
        for part, expected in (("trust", out.trust), ("scale", out.scale), ("target_kl", out.target_kl),
                               ("gradient", gradient)):  # fmt: skip
            measured = np.concatenate([row.pulls[name][part] for row in found.rows[group]])
            seen = ~weightless if method.scope == "token" else torch.ones_like(weightless)  # the loss drops the others
            torch.testing.assert_close(
                torch.as_tensor(measured).double()[seen], expected.detach()[seen], rtol=2e-4, atol=2e-5, equal_nan=True
            )


@pytest.mark.parametrize("beyond", [1e-7, 5e-7, -1e-7])
def test_a_target_that_is_proper_to_rounding_has_a_finite_divergence(beyond: float):
    logp_y = torch.linspace(-30, -1e-4, 400)
    measured = {LOGP_Y: logp_y, LOG_NOT_Y: (-logp_y.expm1()).log()}
    gap = -logp_y.expm1()
    near, sure = (replace(qt.method("focal"), trust=trust) for trust in (1 + beyond, 1.0))
    found, exact = (label_trust_pull(method, measured, gap).target_kl for method in (near, sure))
    torch.testing.assert_close(found, exact, rtol=1e-4, atol=1e-4)
    focal = label_trust_pull(qt.method("focal"), measured, gap)
    assert bool(((focal.trust > 1) & (focal.trust <= 1 + 1e-6)).any())
    assert not bool(focal.target_kl.isinf().any())
    built, rows, _ = looked_at.plain()
    frame = next(frames_of(ForwardReader(built).read(rows[0])))
    near, sure = (
        qt.Method("near", trust=trust, residual=((1 - trust, qt.residual.teacher()),)) for trust in (1 + beyond, 1.0)
    )
    found, exact = (residual_pull(method, frame).target_kl for method in (near, sure))
    torch.testing.assert_close(found, exact, rtol=1e-4, atol=1e-4)


def test_statistics_are_those_of_whole_distributions():
    built, rows, found = looked_at.plain()
    for row, measured in zip(rows, found.rows, strict=True):
        logits = looked_at.logits_of(built.model, row)
        teacher = looked_at.logits_of(built.teachers[0].model, row).log_softmax(-1)
        logp, labels = logits.log_softmax(-1), torch.as_tensor(row.ids[row.learned])
        label = logp.gather(-1, labels[:, None])
        expected = {
            "logp_y": label[:, 0],
            "entropy": -(logp.exp() * logp).sum(-1),
            "rank": (logp > label).sum(-1) + 1,
            "top": logp.argmax(-1),
            "log_not_y": (-label[:, 0].expm1()).log(),
            "collision": (2 * logp).exp().sum(-1),
            "teacher 0 logp_y": teacher.gather(-1, labels[:, None])[:, 0],
            "teacher 0 overlap": torch.minimum(logp, teacher).exp().sum(-1),
            "reference_logp_y": label[:, 0],
        }
        for name, values in expected.items():
            torch.testing.assert_close(torch.as_tensor(measured.numbers[name]).double(), values.double(),
                                       rtol=1e-4, atol=1e-5)  # fmt: skip


def test_the_likeliest_tokens_hold_their_mass_and_the_tail_the_rest():
    built, rows, found = looked_at.plain()
    for row, measured in zip(rows, found.rows, strict=True):
        kept, at = measured.likeliest, 0
        logp = looked_at.logits_of(built.model, row).log_softmax(-1)
        for token, count in enumerate(kept.counts):
            ids = torch.as_tensor(kept.ids[at : at + count])
            assert len(set(ids.tolist())) == count
            assert int(row.ids[row.learned][token]) in ids
            torch.testing.assert_close(torch.as_tensor(kept.logprobs["student"][at : at + count]).double(),
                                       logp[token, ids], rtol=1e-4, atol=1e-4)  # fmt: skip
            rest = logp[token].exp().sum() - logp[token, ids].exp().sum()
            assert np.exp(kept.log_tail["student"][token]) == pytest.approx(float(rest), abs=1e-5)
            assert count >= 24 or rest <= 0.001 + 1e-6
            at += count


def test_packed_rows_are_taken_apart_again():
    data = tiny_models.prompt_completion(12)
    whole, packed = (
        looked_at.trainer("sft", data, packing=packing, max_length=48, padding_free=packing)
        for packing in (False, True)
    )
    assert len(packed.train_dataset) < len(whole.train_dataset) == 12
    texts = [
        {(tuple(row.ids.tolist()), tuple(row.labels.tolist())) for row in TrainedRows(built.train_dataset)}
        for built in (whole, packed)
    ]
    assert len(texts[0]) == 12
    assert texts[0] == texts[1]


def test_methods_without_their_sources_are_closed_and_say_what_to_write():
    built = looked_at.trainer("sft", tiny_models.token_rows(4))
    rows = list(TrainedRows(built.train_dataset))
    opened = measure(ForwardReader(built), rows, built.method, 2).open
    assert set(opened.methods) | set(opened.closed) == set(qt.METHODS)
    assert set(opened.closed) == {n for n in qt.METHODS if qt.method(n).needs & {"teacher", "token_weight"}}
    assert set(opened.closed) > {"kd", "kd-hybrid", "target-sft", "cft", "jsd", "unlikelihood"}
    assert "`teacher: path/or/hub-name`" in opened.closed["target-sft"]
    assert next(iter(opened.methods)) == "sft"

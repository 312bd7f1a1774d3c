"""The two kernels alone, beside plain torch in double precision: sizes, types, corners."""

import pytest
import torch
from fused.triton.test_laws import DEVICE
from torch import Tensor

ROWS = 3
MIXED = (0.4, 0.0, 0.7)
"""Exponents of student and sources."""


def drawn(vocab: int, dtype: torch.dtype = torch.float32, softcap: float | None = None, scale: float = 1.0):
    from qtarget.fused.triton import kernels as forms

    draw = torch.Generator().manual_seed(vocab)
    logits = [(3 * torch.randn(ROWS, vocab, generator=draw)).to(dtype).to(DEVICE) for _ in range(3)]
    labels = torch.randint(0, vocab, (ROWS,), generator=draw).to(DEVICE)
    return forms.LogitChunk(logits[0], tuple(logits[1:]), labels, scale, softcap)


def student_of(chunk) -> Tensor:
    """z in double precision."""
    z = chunk.logits_CV.double() * chunk.scale
    return z if chunk.softcap is None else chunk.softcap * torch.tanh(z / chunk.softcap)


def all_forms():
    from qtarget.fused.triton.kernels import STUDENT_FORM, UNIFORM_FORM, Form

    return STUDENT_FORM, UNIFORM_FORM, Form(MIXED[0], MIXED[1:]), Form(0.0, (1.0,))


def logits_of(form, chunk) -> Tensor:
    exponents = (form.student, *form.sources)
    return sum(a * t.double() for a, t in zip(exponents, (student_of(chunk), *chunk.sources), strict=False))


@pytest.mark.parametrize(("vocab", "softcap"), [(5, None), (5003, 5.0), (33003, None)])
def test_sums_of_every_form(vocab: int, softcap: float | None):
    from qtarget.fused.triton.kernels import STUDENT_FORM, measure_forms

    chunk = drawn(vocab, softcap=softcap, scale=0.8)
    sums = measure_forms(chunk, all_forms(), products=True)
    student = student_of(chunk).log_softmax(-1)
    pick = lambda values: values.gather(1, chunk.labels_C[:, None]).squeeze(1)  # noqa: E731
    for form, got in sums.items():
        logp = logits_of(form, chunk).log_softmax(-1)
        others = logp.scatter(1, chunk.labels_C[:, None], -torch.inf).logsumexp(-1)
        expected = {
            "log_norm": logits_of(form, chunk).logsumexp(-1),
            "label_logp": pick(logp),
            "log_not_label": others,
            "not_label": others.exp(),
            "negentropy": (logp.exp() * logp).sum(-1),
            "collision": (2 * logp).exp().sum(-1),
        }
        for name, value in expected.items():
            torch.testing.assert_close(getattr(got, name).double(), value, rtol=2e-6, atol=2e-6)
        torch.testing.assert_close(
            got.cross_with(sums[STUDENT_FORM]).double(), (logp.exp() * student).sum(-1), rtol=2e-6, atol=2e-6
        )


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("vocab", [29, 5003])
def test_the_gradient_of_a_mixture(vocab: int, dtype: torch.dtype):
    """Σ w·π̃ with the slope of scale and softcap, and the label's entry as it is given; in the logits' own type."""
    from qtarget.fused.triton.kernels import Pull, gradient_, measure_forms

    chunk = drawn(vocab, dtype, softcap=6.0, scale=1.5)
    weights = [torch.linspace(-1, 1 + i, ROWS, device=DEVICE) for i in range(len(all_forms()))]
    factor, at_label = torch.linspace(0.5, 2, ROWS, device=DEVICE), torch.linspace(-1, 0, ROWS, device=DEVICE)
    expected = sum(
        w[:, None] * logits_of(form, chunk).softmax(-1) for w, form in zip(weights, all_forms(), strict=True)
    )
    expected = expected.scatter(1, chunk.labels_C[:, None], at_label[:, None].double()) * factor[:, None]
    expected = expected * chunk.scale * (1 - (student_of(chunk) / chunk.softcap).square())
    sums = measure_forms(chunk, all_forms(), products=False)
    pulls = {form: Pull(w, sums[form]) for w, form in zip(weights, all_forms(), strict=True)}
    got = gradient_(chunk, pulls, at_label, factor)
    assert got.data_ptr() == chunk.logits_CV.data_ptr()
    steps = {torch.float32: 2e-6, torch.bfloat16: 2**-7, torch.float16: 2**-9}[
        dtype
    ]  # the interpreter cuts, not rounds
    torch.testing.assert_close(got.double(), expected, rtol=steps, atol=6e-8)


def test_tokens_ruled_out_take_no_mass_but_in_their_own_source():
    """The floor stands for −inf under any scale; a form of a source alone may still count them."""
    from qtarget.fused.triton.kernels import STUDENT_FORM, UNIFORM_FORM, Form, measure_forms

    chunk = drawn(29, scale=0.01)
    chunk.logits_CV[:, 3:9] = -1e30
    chunk.labels_C.fill_(4)
    masked, whole = Form(0.0, (1.0,)), Form(0.0, (1.0,), masked=False)
    sums = measure_forms(chunk, (STUDENT_FORM, UNIFORM_FORM, masked, whole), products=True)
    assert sums[UNIFORM_FORM].total.tolist() == [23.0] * ROWS
    assert (sums[STUDENT_FORM].label_logp == -1e30).all()
    assert (sums[masked].label_logp == -1e30).all()
    torch.testing.assert_close(sums[whole].label_logp.cpu(), chunk.sources[0].log_softmax(-1)[:, 4].cpu())
    assert all(number.isfinite().all() for one in sums.values() for number in one)


def test_a_nan_is_not_hidden():
    from qtarget.fused.triton.kernels import STUDENT_FORM, measure_forms

    chunk = drawn(29)
    chunk.logits_CV[1, 7] = torch.nan
    label_logp = measure_forms(chunk, (STUDENT_FORM,), products=False)[STUDENT_FORM].label_logp
    assert label_logp.isnan().tolist() == [False, True, False]


def test_rows_beyond_two_thousand_million_numbers():
    """Five rows so far apart that the last lies beyond what 32 bits count; only what is written takes memory."""
    from qtarget.fused.triton.kernels import STUDENT_FORM, LogitChunk, Pull, gradient_, measure_forms

    stride, vocab = 2**29 + 16, 29
    far = torch.empty(4 * stride + vocab, dtype=torch.float16, device=DEVICE).as_strided((5, vocab), (stride, 1))
    near = torch.randn(5, vocab, generator=torch.Generator().manual_seed(0)).half().to(DEVICE)
    far.copy_(near)
    labels, ones = torch.arange(5, device=DEVICE), torch.ones(5, device=DEVICE)
    results = []
    for logits in (far, near):
        chunk = LogitChunk(logits, (), labels)
        sums = measure_forms(chunk, (STUDENT_FORM,), products=False)[STUDENT_FORM]
        results += [sums.label_logp, gradient_(chunk, {STUDENT_FORM: Pull(ones, sums)}, -sums.not_label, ones)]
    torch.testing.assert_close(results[0], results[2], rtol=0, atol=0)
    torch.testing.assert_close(results[1], results[3], rtol=0, atol=0)


def slopes_toward(pool):
    from qtarget.target import slopes

    shares = (slopes.jensen_shannon, slopes.skew_forward, slopes.skew_reverse)
    plain = (slopes.reverse, slopes.sigmoid_mixed, slopes.variation, slopes.overlap)
    return [*(make(pool, 0.3) for make in shares), *(make(pool) for make in plain)]


@pytest.mark.parametrize(("vocab", "softcap"), [(5, None), (5003, 5.0)])
def test_sums_and_tangent_of_every_slope(vocab: int, softcap: float | None):
    """Beside the torch twins, with the student and a mixture of it with two sources, also where they are far apart."""
    from qtarget.fused.triton import kernels as forms
    from qtarget.fused.triton.slope_twins import TWINS, twin_of
    from qtarget.target.pool import Pool

    form, ones = forms.Form(MIXED[0], MIXED[1:]), torch.ones(ROWS, device=DEVICE)
    slopes = slopes_toward(Pool(MIXED[0], teachers=MIXED[1:]))
    assert {twin_of(slope) for slope in slopes} == set(TWINS.values())
    for slope in slopes:
        chunk = drawn(vocab, softcap=softcap, scale=0.8)
        chunk.sources[1][:, 1] = -200.0
        logp, logt = (logits_of(f, chunk).log_softmax(-1) for f in (forms.STUDENT_FORM, form))
        p, entries = logp.exp(), slope(logp.exp(), logt.exp(), logt - logp)
        share = slope.constants[0] if slope.constants else 0.0
        sums = forms.measure_forms(chunk, (forms.STUDENT_FORM, form), products=False)
        comparison = forms.ComparedForms(twin_of(slope), share, form, sums[forms.STUDENT_FORM], sums[form])
        cost, mean = forms.compare(chunk, comparison)
        torch.testing.assert_close(cost.double(), entries.cost.sum(-1), rtol=3e-6, atol=3e-6)
        torch.testing.assert_close(mean.double(), entries.pull.sum(-1), rtol=3e-6, atol=3e-6)
        tangent = entries.pull - p * entries.pull.sum(-1, keepdim=True)
        expected = tangent * chunk.scale
        if softcap is not None:
            expected = expected * (1 - (student_of(chunk) / softcap).square())
        pulls = {forms.STUDENT_FORM: forms.Pull(0 * ones, sums[forms.STUDENT_FORM])}
        got = forms.gradient_(chunk, pulls, 0 * ones, ones, forms.TangentPull(ones, comparison, mean))
        torch.testing.assert_close(got.double(), expected, rtol=1e-5, atol=1e-6)


def test_a_tie_but_for_rounding_pulls_nowhere_under_total_variation():
    """The student and a source that says the same with all its logits moved, so that only rounding lies between."""
    from qtarget.fused.triton import kernels as forms
    from qtarget.fused.triton.slope_twins import twin_of
    from qtarget.target import slopes
    from qtarget.target.pool import Pool

    form, ones = forms.Form(0.0, (1.0,)), torch.ones(ROWS, device=DEVICE)
    logits = 3 * torch.randn(ROWS, 5003, generator=torch.Generator().manual_seed(0)).to(DEVICE)
    chunk = forms.LogitChunk(logits, (logits + 0.7,), torch.arange(ROWS, device=DEVICE))
    sums = forms.measure_forms(chunk, (forms.STUDENT_FORM, form), products=False)
    kind = twin_of(slopes.variation(Pool(teachers=(1.0,))))
    comparison = forms.ComparedForms(kind, 0.0, form, sums[forms.STUDENT_FORM], sums[form])
    _, mean = forms.compare(chunk, comparison)
    pulls = {forms.STUDENT_FORM: forms.Pull(0 * ones, sums[forms.STUDENT_FORM])}
    got = forms.gradient_(chunk, pulls, 0 * ones, ones, forms.TangentPull(ones, comparison, mean))
    assert (mean.abs().max(), got.abs().max()) == (0, 0)

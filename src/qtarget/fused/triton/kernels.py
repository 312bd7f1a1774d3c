"""The kernels over one chunk of logits, for any method: every distribution in it is a log-linear form of them.

    ℓ = a·z + Σ_i b_i·t_i        π̃ = softmax(ℓ)

The student is ℓ = z, a teacher ℓ = t, a pool any mixture, the uniform distribution ℓ = 0. `measure_forms` reads the
logits once and sums up all forms online, in fp32; `gradient_` reads them again and writes Σ_j w_j·π̃_j − γ·onehot over
them. A slope compares the student with one form, both normalised: `compare` sums it up in a pass between the two. One
program has one row and each element has one writer, so there is nothing to wait for. Every pass applies the output
layer's scale and softcap itself, and the last their slope.
"""

# pyright: reportGeneralTypeIssues=false
# What is below `jit` is Triton's language.

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from types import MappingProxyType
from typing import NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from qtarget.fused.triton.slope_twins import twin_entries
from qtarget.target.pool import FLOOR as LOG_ZERO
from qtarget.target.rule import Number, Rule

MAX_SOURCES = 3
MAX_FORMS = 8
MEASURE_TILE, MEASURE_WARPS = 2048, 4
"""Entries of a form × vocabulary tile of the pass that sums up: 16 numbers a thread."""
WRITE_TILE, WRITE_WARPS = 2048, 8
"""The same of the pass that writes, and of the one that compares: one form at a time, 8 numbers a thread."""

_FLOOR = tl.constexpr(LOG_ZERO)
LOWEST = tl.constexpr(-3e38)
WIDTH = tl.constexpr(2 + MAX_SOURCES)
SUMS = tl.constexpr(7)


class Form(NamedTuple):
    """One log-linear form.

    Attributes:
        student: a.  sources: b, one exponent a source, the last zeros left out. Rules give each row its own.
        masked: whether tokens that the student cannot produce get no mass.
    """

    student: Number
    sources: tuple[Number, ...] = ()
    masked: bool = True

    @property
    def rules(self) -> list[Rule]:
        """The exponents that are not the same for every row."""
        return [each for each in (self.student, *self.sources) if isinstance(each, Rule)]


STUDENT_FORM, UNIFORM_FORM = Form(1.0), Form(0.0)


class LogitChunk(NamedTuple):
    """What the kernels read: logits before scale and softcap, the sources' finished logits, all [C, V]; labels [C].

    Attributes:
        exponents: what the rules among the forms' exponents come to, [C] each.
    """

    logits_CV: Tensor
    sources: tuple[Tensor, ...]
    labels_C: Tensor
    scale: float = 1.0
    softcap: float | None = None
    exponents: Mapping[Rule, Tensor] = MappingProxyType({})


class Sums(NamedTuple):
    """What one form sums up to, [C] each, relative to its largest entry.

    Attributes:
        top: max ℓ.  total: Σ e^(ℓ−top).  others: the same without the label.  own: Σ e^(ℓ−top)·(ℓ−top).
        cross: Σ e^(ℓ−top)·(z−max z).  square: Σ e^2(ℓ−top).  label: ℓ_y.
    """

    top: Tensor
    total: Tensor
    others: Tensor
    own: Tensor
    cross: Tensor
    square: Tensor
    label: Tensor

    @property
    def label_logp(self) -> Tensor:
        """log π̃_y, to all its digits also where it is nearly 0."""
        label = (self.label - self.top).exp()
        near = -torch.log1p(self.others / label)
        return torch.where(label >= self.others, near, self.label - self.top - self.total.log()).clamp(min=LOG_ZERO)

    @property
    def not_label(self) -> Tensor:
        """1 − π̃_y."""
        return self.others / self.total

    @property
    def log_not_label(self) -> Tensor:
        return (self.others.log() - self.total.log()).clamp(min=LOG_ZERO)

    @property
    def log_norm(self) -> Tensor:
        """log Σ e^ℓ."""
        return self.top + self.total.log()

    @property
    def negentropy(self) -> Tensor:
        return self.own / self.total - self.total.log()

    @property
    def collision(self) -> Tensor:
        return self.square / self.total.square()

    def cross_with(self, student: Sums) -> Tensor:
        """E_π̃[log p]."""
        return self.cross / self.total - student.total.log()


class ComparedForms(NamedTuple):
    """What a slope reads: its kind and constant, and the two distributions p and t, forms and their sums.

    Attributes:
        kind: as in `slope_twins.TWINS`.  share: the slope's constant.
        form: of t.  student: sums of p.  toward: sums of t.
    """

    kind: int
    share: float
    form: Form
    student: Sums
    toward: Sums

    @property
    def norms(self) -> Tensor:
        """What normalises both: max z, 1/Σ, max ℓ, 1/Σ, and log Σ of p less that of t; [5, C]."""
        p, t = self.student, self.toward
        return torch.stack([p.top, 1 / p.total, t.top, 1 / t.total, p.total.log() - t.total.log()])


def compare(chunk: LogitChunk, comparison: ComparedForms) -> tuple[Tensor, Tensor]:
    """A slope's divergence and E_p[h], [C] each, in one pass over the logits."""
    (rows, vocab), forms = chunk.logits_CV.shape, (comparison.form,)
    sums = chunk.logits_CV.new_empty((2, rows), dtype=torch.float32)
    launch = {"KIND": comparison.kind, "BLOCK": _block(vocab, WRITE_TILE), "num_warps": WRITE_WARPS}
    _compare[(rows,)](sums, comparison.norms, comparison.share, *_arguments(chunk, forms, 1), **launch)
    return sums[0], sums[1]


def measure_forms(chunk: LogitChunk, forms: tuple[Form, ...], products: bool) -> dict[Form, Sums]:
    """The sums of some forms, in one pass over the logits. The first form is the student's.

    Without `products` the sums own, cross and square are left at 0.
    """
    assert forms[0] == STUDENT_FORM
    (rows, vocab), padded = chunk.logits_CV.shape, _power_of_two(len(forms))
    sums = chunk.logits_CV.new_empty((padded, SUMS.value, rows), dtype=torch.float32)
    launch = {
        "FORMS": padded,
        "MOMENTS": products,
        "BLOCK": _block(vocab, MEASURE_TILE // padded),
        "num_warps": MEASURE_WARPS,
    }
    _measure[(rows,)](sums, *_arguments(chunk, forms, padded), **launch)
    return {form: Sums(*sums[i]) for i, form in enumerate(forms)}


@dataclass(frozen=True)
class Pull:
    """What the second pass needs of one form: its weight w, [C], and its sums."""

    weight: Tensor
    sums: Sums


@dataclass(frozen=True)
class TangentPull:
    """What the second pass needs of a slope: the tangent's weight w, its comparison, and E_p[h]; [C] each."""

    weight: Tensor
    comparison: ComparedForms
    mean: Tensor


def gradient_(
    chunk: LogitChunk,
    pulls: dict[Form, Pull],
    at_label_C: Tensor,
    factor_C: Tensor,
    tangent: TangentPull | None = None,
) -> Tensor:
    """factor·(Σ_j w_j·π̃_j) over the logits, `at_label_C` in the label's column; the logits' own slope applied.

    With `tangent` plus w·p∘(h − E_p h), at the label too.
    """
    (rows, vocab), forms = chunk.logits_CV.shape, tuple(pulls)
    weights = torch.stack([pull.weight / pull.sums.total for pull in pulls.values()])
    tops = torch.stack([pull.sums.top for pull in pulls.values()])
    launch = {"FORMS": len(forms), "KIND": 0, "BLOCK": _block(vocab, WRITE_TILE), "num_warps": WRITE_WARPS}
    norms, share = weights, 0.0
    if tangent is not None:
        norms = torch.cat([tangent.comparison.norms, tangent.weight[None], tangent.mean[None]])
        forms, share = (*forms, tangent.comparison.form), tangent.comparison.share
        launch["KIND"] = tangent.comparison.kind
    per_token = (weights, tops, at_label_C.contiguous(), factor_C.contiguous(), norms, share)
    _gradient[(rows,)](*per_token, *_arguments(chunk, forms, len(forms)), **launch)
    return chunk.logits_CV


def _arguments(chunk: LogitChunk, forms: tuple[Form, ...], padded: int) -> tuple:
    sources = max(len(form.sources) for form in forms)
    assert sources <= len(chunk.sources) <= MAX_SOURCES
    assert all(t.stride() == chunk.logits_CV.stride() for t in chunk.sources)
    filled = [*chunk.sources, *[chunk.logits_CV] * MAX_SOURCES][:MAX_SOURCES]
    softcap = chunk.softcap or 1.0
    shape = (chunk.logits_CV.shape[1], chunk.logits_CV.stride(0), chunk.scale, softcap)
    is_same = not any(form.rules for form in forms)
    table = _table(forms, padded, chunk.logits_CV.device) if is_same else _table_of_rows(forms, padded, chunk)
    step = 0 if is_same else table.stride(0)
    return table, step, chunk.logits_CV, *filled, chunk.labels_C, *shape, sources, chunk.softcap is not None


@lru_cache(maxsize=256)
def _table(forms: tuple[Form, ...], padded: int, device: torch.device) -> Tensor:
    """[masked, a, *b] of each form, and zeros; 0 in the place of rules."""
    rows = [[float(f.masked), f.student, *f.sources] for f in forms] + [[]] * (padded - len(forms))
    numbers = [[0.0 if isinstance(each, Rule) else each for each in row] for row in rows]
    return torch.tensor([row + [0.0] * (WIDTH.value - len(row)) for row in numbers], device=device)


def _table_of_rows(forms: tuple[Form, ...], padded: int, chunk: LogitChunk) -> Tensor:
    """The same for each row by itself, [C, padded, WIDTH]."""
    table = _table(forms, padded, chunk.logits_CV.device).repeat(len(chunk.logits_CV), 1, 1)
    for index, form in enumerate(forms):
        for place, exponent in enumerate((form.student, *form.sources)):
            if isinstance(exponent, Rule):
                table[:, index, 1 + place] = chunk.exponents[exponent]
    return table


def _block(vocab: int, most: int) -> int:
    return min(most, _power_of_two(vocab))


def _power_of_two(number: int) -> int:
    """The least one that is not below a number."""
    return 1 << (number - 1).bit_length()


@triton.jit
def _student(logits, cols, inside, scale, softcap, CAPPED: tl.constexpr):
    """z and its slope in the stored logit. The floor stands for −inf under any scale; −inf is a token left out."""
    raw = tl.load(logits + cols, mask=inside, other=0.0).to(tl.float32)
    z = tl.where(raw <= _FLOOR / 2, float("-inf"), raw) * scale
    slope = tl.full(z.shape, 1.0, tl.float32) * scale
    if CAPPED:
        fading = tl.exp(-2 * tl.abs(z / softcap))
        size = softcap * (1 - fading) / (1 + fading)
        slope = slope * 4 * fading / ((1 + fading) * (1 + fading))
        z = tl.where(z < 0, -size, size)
    return tl.where((z < _FLOOR) | (raw < 2 * _FLOOR), _FLOOR, z), slope


@triton.jit
def _source(logits, cols, inside):
    t = tl.load(logits + cols, mask=inside, other=0.0).to(tl.float32)
    return tl.where(t < _FLOOR, _FLOOR, t)


@triton.jit
def _all_forms(z, table, forms, source_0, source_1, source_2, cols, inside, SOURCES: tl.constexpr):
    """ℓ of every form, [forms, columns]."""
    row = table + forms * WIDTH
    out = tl.load(row + 1)[:, None] * z[None, :]
    if SOURCES > 0:
        out += tl.load(row + 2)[:, None] * _source(source_0, cols, inside)[None, :]
    if SOURCES > 1:
        out += tl.load(row + 3)[:, None] * _source(source_1, cols, inside)[None, :]
    if SOURCES > 2:
        out += tl.load(row + 4)[:, None] * _source(source_2, cols, inside)[None, :]
    outside = (z <= _FLOOR / 2)[None, :] & (tl.load(row) > 0)[:, None]
    return tl.where(outside, _FLOOR, out)


@triton.jit
def _one_form(z, row, source_0, source_1, source_2, cols, inside, SOURCES: tl.constexpr):
    """ℓ of one form, [columns]."""
    out = tl.load(row + 1) * z
    if SOURCES > 0:
        out += tl.load(row + 2) * _source(source_0, cols, inside)
    if SOURCES > 1:
        out += tl.load(row + 3) * _source(source_1, cols, inside)
    if SOURCES > 2:
        out += tl.load(row + 4) * _source(source_2, cols, inside)
    outside = tl.where(tl.load(row) > 0, _FLOOR, out)
    return tl.where(z <= _FLOOR / 2, outside, out)


@triton.jit
def _tangent(z, toward, norms, rows, share, KIND: tl.constexpr):
    """p, and a slope's cost and pull, from the logits of p and of what it is compared with."""
    near, far = z - tl.load(norms), toward - tl.load(norms + 2 * rows)
    p, t = tl.exp(near) * tl.load(norms + rows), tl.exp(far) * tl.load(norms + 3 * rows)
    cost, pull = twin_entries(p, t, far - near + tl.load(norms + 4 * rows), share, KIND)
    return p, cost, pull


@triton.jit
def _compare(
    sums,
    norms,
    share,
    table,
    table_step,
    logits,
    source_0,
    source_1,
    source_2,
    labels,
    vocab,
    stride,
    scale,
    softcap,
    SOURCES: tl.constexpr,
    CAPPED: tl.constexpr,
    KIND: tl.constexpr,
    BLOCK: tl.constexpr,
):
    row, rows = tl.program_id(0).to(tl.int64), tl.num_programs(0)
    table += row * table_step
    logits += row * stride
    source_0 += row * stride
    source_1 += row * stride
    source_2 += row * stride
    all_cost = tl.full((1,), 0.0, tl.float32)
    all_pull = tl.full((1,), 0.0, tl.float32)
    for start in range(0, vocab, BLOCK):
        cols = start + tl.arange(0, BLOCK)
        inside = cols < vocab
        z, _ = _student(logits, cols, inside, scale, softcap, CAPPED)
        toward = _one_form(z, table, source_0, source_1, source_2, cols, inside, SOURCES)
        _, cost, pull = _tangent(z, toward, norms + row, rows, share, KIND)
        all_cost += tl.sum(tl.where(inside, cost, 0.0), 0)
        all_pull += tl.sum(tl.where(inside, pull, 0.0), 0)
    one = tl.arange(0, 1)
    tl.store(sums + row + one, all_cost)
    tl.store(sums + rows + row + one, all_pull)


@triton.jit
def _measure(
    sums,
    table,
    table_step,
    logits,
    source_0,
    source_1,
    source_2,
    labels,
    vocab,
    stride,
    scale,
    softcap,
    SOURCES: tl.constexpr,
    CAPPED: tl.constexpr,
    FORMS: tl.constexpr,
    MOMENTS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    row, rows = tl.program_id(0).to(tl.int64), tl.num_programs(0)
    table += row * table_step
    logits += row * stride
    source_0 += row * stride
    source_1 += row * stride
    source_2 += row * stride
    label = tl.load(labels + row)
    forms = tl.arange(0, FORMS)
    top = tl.full((FORMS,), LOWEST, tl.float32)
    top_z = tl.full((1,), LOWEST, tl.float32)
    total = tl.full((FORMS,), 0.0, tl.float32)
    others, own, cross, square = total, total, total, total
    for start in range(0, vocab, BLOCK):
        cols = start + tl.arange(0, BLOCK)
        inside = cols < vocab
        z, _ = _student(logits, cols, inside, scale, softcap, CAPPED)
        exponent = _all_forms(z, table, forms, source_0, source_1, source_2, cols, inside, SOURCES)
        new_top = tl.maximum(top, tl.max(tl.where(inside[None, :], exponent, LOWEST), 1))
        fade, gap = tl.exp(top - new_top), exponent - new_top[:, None]
        mass = tl.where(inside[None, :], tl.exp(gap), 0.0)
        if MOMENTS:
            new_top_z = tl.maximum(top_z, tl.max(tl.where(inside, z, LOWEST), 0))
            own = fade * (own + (top - new_top) * total) + tl.sum(mass * gap, 1)
            cross = fade * (cross + (top_z - new_top_z) * total) + tl.sum(mass * (z - new_top_z)[None, :], 1)
            square = fade * fade * square + tl.sum(mass * mass, 1)
            top_z = new_top_z
        others = fade * others + tl.sum(tl.where((cols == label)[None, :], 0.0, mass), 1)
        total = fade * total + tl.sum(mass, 1)
        top = new_top
    only = label + tl.arange(0, 1)
    z, _ = _student(logits, only, only >= 0, scale, softcap, CAPPED)
    at_label = tl.sum(_all_forms(z, table, forms, source_0, source_1, source_2, only, only >= 0, SOURCES), 1)
    out = sums + forms * (SUMS * rows) + row
    tl.store(out, top)
    tl.store(out + rows, total)
    tl.store(out + 2 * rows, others)
    tl.store(out + 3 * rows, own)
    tl.store(out + 4 * rows, cross)
    tl.store(out + 5 * rows, square)
    tl.store(out + 6 * rows, at_label)


@triton.jit
def _gradient(
    weights,
    tops,
    at_labels,
    factors,
    norms,
    share,
    table,
    table_step,
    logits,
    source_0,
    source_1,
    source_2,
    labels,
    vocab,
    stride,
    scale,
    softcap,
    SOURCES: tl.constexpr,
    CAPPED: tl.constexpr,
    FORMS: tl.constexpr,
    KIND: tl.constexpr,
    BLOCK: tl.constexpr,
):
    row, rows = tl.program_id(0).to(tl.int64), tl.num_programs(0)
    table += row * table_step
    logits += row * stride
    source_0 += row * stride
    source_1 += row * stride
    source_2 += row * stride
    label, at_label, factor = tl.load(labels + row), tl.load(at_labels + row), tl.load(factors + row)
    for start in range(0, vocab, BLOCK):
        cols = start + tl.arange(0, BLOCK)
        inside = cols < vocab
        z, slope = _student(logits, cols, inside, scale, softcap, CAPPED)
        out = tl.full((BLOCK,), 0.0, tl.float32)
        for form in tl.static_range(FORMS):
            exponent = _one_form(z, table + form * WIDTH, source_0, source_1, source_2, cols, inside, SOURCES)
            out += tl.load(weights + form * rows + row) * tl.exp(exponent - tl.load(tops + form * rows + row))
        out = tl.where(cols == label, at_label, out)
        if KIND > 0:
            toward = _one_form(z, table + FORMS * WIDTH, source_0, source_1, source_2, cols, inside, SOURCES)
            p, _, pull = _tangent(z, toward, norms + row, rows, share, KIND)
            out += tl.load(norms + 5 * rows + row) * (pull - p * tl.load(norms + 6 * rows + row))
        tl.store(logits + cols, (out * factor * slope).to(logits.dtype.element_ty), mask=inside)

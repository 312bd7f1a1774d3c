"""The three matrix products of the fused loss: logits, gradient to the hidden states, gradient to the output layer.

Operands are fp32 on a CPU, unless it multiplies bf16 faster; on an accelerator bf16 stays bf16, and logits are bf16 too
where the kernels read them. An output layer in another type is widened for that, whole or in blocks of rows. Sums over
chunks are always kept in fp32, and in fp64 for fp64 inputs: on CUDA the product itself adds to them, without a wide
temporary.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor

from qtarget.fused.processor import bf16_is_fast, mkl_is_slow, onednn_has_avx512
from qtarget.target.evidence import Head
from qtarget.target.pool import FLOOR

ONEDNN_FROM = 10**8
"""Multiplications of a product from which on oneDNN is considered: a millisecond's work."""
HEAD_BLOCK = 1024
"""Rows of the output layer taken together where a product needs memory for them: what it takes then stays small, and in
cache.
"""


class Scratch(NamedTuple):
    """Bytes that the products take beside a chunk's logits and the gradients: for each token of a chunk, and once."""

    per_token: int
    fixed: int


@dataclass
class Products:
    """Matrix products in one operand type, and the gradients they add up to.

    Attributes:
        operand: dtype the products run in.  like: an empty tensor of the dtype and device sums and buffers have.
        gradients: to hidden [T, H], weight [V, H], bias [V]; None where not wanted.
        _unwritten: whether the output layer's gradient is memory as it came, to be written by the first chunk.
        widens_once: whether output layers of another dtype are widened whole and kept for the call, where memory is
            plentiful. Otherwise every product widens `HEAD_BLOCK` rows at a time into one buffer.
    """

    operand: torch.dtype
    like: Tensor
    gradients: list[Tensor | None]
    widens_once: bool
    _unwritten: bool = False
    _widened: dict[tuple[int, torch.Size], Tensor] = field(default_factory=dict)
    _block: Tensor | None = None

    @staticmethod
    def of(hidden_TH: Tensor, weight_VH: Tensor, wanted: list[bool], widens_once: bool = False) -> Products:
        """For one call; `wanted` says which of hidden, weight and bias get a gradient."""
        double = hidden_TH.dtype == torch.float64
        like = hidden_TH.new_empty(0, dtype=torch.float64 if double else torch.float32)
        shapes = (hidden_TH.shape, weight_VH.shape, weight_VH.shape[:1])
        gradients = [like.new_zeros(s) if w else None for s, w in zip(shapes, wanted, strict=True)]
        on_accelerator = like.device.type != "cpu"
        if on_accelerator and wanted[1]:  # the first chunk writes it whole; on a CPU fresh memory is zero as it comes
            gradients[1] = like.new_empty(weight_VH.shape)
        return Products(_operand(hidden_TH, weight_VH, like.dtype), like, gradients, widens_once, on_accelerator)

    @property
    def wanted(self) -> bool:
        return any(g is not None for g in self.gradients)

    def scratch(self, heads: Iterable[Head], logits: torch.dtype) -> Scratch:
        """What the products of a chunk take; a little more than they are seen to.

        Args:
            heads: the output layers of the student and of every teacher or reference given as `Dense`.
            logits: the dtype of their buffers.
        """
        heads, on_cpu = list(heads), self.like.device.type == "cpu"
        size, width = self.like.element_size(), max(head.weight.shape[1] for head in heads)
        rows = max(head.axis.widest for head in heads)
        block = min(HEAD_BLOCK, rows) if on_cpu else 0
        per_token = 2 * size * (width + block)
        if logits != self.operand:  # the gradient in the operands' type; on an accelerator the logits before
            per_token += self.operand.itemsize * rows
        widened = [head.weight.shape[1] for head in heads if head.weight.dtype != self.operand]
        fixed = self.operand.itemsize * min(HEAD_BLOCK, rows) * max(widened, default=0)
        if self.operand != self.like.dtype or mkl_is_slow():  # blocks of the output layer's gradient, then added
            fixed += 2 * size * block * width
        return Scratch(per_token, fixed)

    def logits_into(self, out_CV: Tensor, hidden_CH: Tensor, head: Head) -> None:
        """out = softcap·tanh(scale·(h Wᵀ + b)/softcap); −inf from the bias becomes the floor that stands for it."""
        left = hidden_CH.to(self.operand)
        onednn = _onednn_is_faster(left, head.weight)
        for rows, weight in self._blocks_of(head.weight, needed=onednn or self.operand != out_CV.dtype):
            self._product(left, weight.t(), out_CV[:, rows], onednn)
        if head.bias is not None:
            out_CV.add_(head.bias)
        if head.scale is not None:
            out_CV.mul_(head.scale)
        if head.softcap is not None:
            out_CV.div_(head.softcap).tanh_().mul_(head.softcap)
        if head.bias is not None:
            out_CV.clamp_(min=FLOOR)

    def add(
        self,
        part: slice,
        hidden_CH: Tensor,
        head: Head,
        gradient_CV: Tensor,
        factor_C: Tensor,
        logits_CV: Tensor,
    ) -> None:
        """Add a chunk: `gradient_CV` is to the logits, before each token's factor. The buffers are used up."""
        if head.softcap is not None:
            gradient_CV.mul_(logits_CV.div_(head.softcap).square_().neg_().add_(1))
        factor_C1 = (factor_C if head.scale is None else factor_C * head.scale)[:, None]
        to_hidden, to_weight, to_bias = self.gradients
        operand_CV = gradient_CV.to(self.operand)
        if to_hidden is not None:
            self._to_hidden(operand_CV, head.weight, to_hidden[part])
            to_hidden[part].mul_(factor_C1)
        if to_weight is not None:
            self._accumulate(operand_CV, hidden_CH.to(self.like.dtype) * factor_C1, to_weight)
        if to_bias is not None:
            to_bias.addmv_(gradient_CV.t(), factor_C1.squeeze(1))

    def add_finished(self, part: slice, hidden_CH: Tensor, weight: Tensor, gradient_CV: Tensor) -> None:
        """Add a chunk whose gradient is the one to h Wᵀ + b, each token's factor in it."""
        to_hidden, to_weight, to_bias = self.gradients
        operand_CV = gradient_CV.to(self.operand)
        if to_hidden is not None:
            self._to_hidden(operand_CV, weight, to_hidden[part])
        if to_weight is not None:
            self._accumulate(operand_CV, hidden_CH, to_weight)
        if to_bias is not None:
            to_bias.add_(gradient_CV.sum(0, dtype=to_bias.dtype))

    def finish(self) -> None:
        """To be called after the last chunk: the output layer's gradient is 0 where there was none."""
        if self._unwritten and self.gradients[1] is not None:
            self.gradients[1].zero_()

    def _to_hidden(self, operand_CV: Tensor, weight: Tensor, out_CH: Tensor) -> None:
        """out = gradient · W; `out_CH` is 0 before, and blocks of W add to it."""
        onednn = _onednn_is_faster(operand_CV, weight)
        for rows, block in self._blocks_of(weight, needed=False):
            multiply = self._product if len(block) == len(weight) else self._accumulate_product
            multiply(operand_CV[:, rows], block, out_CH, onednn)

    def _accumulate(self, operand_CV: Tensor, scaled_CH: Tensor, to_weight: Tensor) -> None:
        right = scaled_CH.to(self.operand)
        onednn = mkl_is_slow() and _onednn_is_faster(right, to_weight)
        multiply, self._unwritten = self._product if self._unwritten else self._accumulate_product, False
        for rows in _blocks(to_weight, needed=onednn or self.operand != to_weight.dtype):
            multiply(operand_CV[:, rows].t(), right, to_weight[rows], onednn)

    def _accumulate_product(self, left: Tensor, right: Tensor, out: Tensor, onednn: bool) -> None:
        """out += left · right."""
        if onednn:
            out.add_(torch.ops.mkldnn._linear_pointwise(left, right.t(), None, "none", [], ""))
        elif self.operand == out.dtype:
            out.addmm_(left, right)
        elif out.device.type == "cuda" and "dtype_out" in torch.ops.aten.addmm.overloads():  # torch 2.8
            torch.addmm(out, left, right, out_dtype=out.dtype, out=out)
        else:
            out.add_(left @ right)

    def _product(self, left: Tensor, right: Tensor, out: Tensor, onednn: bool) -> None:
        """out = left · right."""
        if onednn:
            out.copy_(torch.ops.mkldnn._linear_pointwise(left, right.t(), None, "none", [], ""))
        elif self.operand == out.dtype:
            torch.mm(left, right, out=out)
        elif out.device.type == "cuda" and "dtype_out" in torch.ops.aten.mm.overloads():  # torch 2.8
            torch.mm(left, right, out_dtype=out.dtype, out=out)
        else:
            out.copy_(left @ right)

    def _blocks_of(self, weight: Tensor, needed: bool) -> Iterator[tuple[slice, Tensor]]:
        """The output layer in the operand type, in blocks of rows where it has to be widened or blocks are `needed`.

        A widened block lies in a buffer that the next one overwrites.
        """
        weight = weight.detach()
        if weight.dtype != self.operand and self.widens_once:
            weight = self._widened_whole(weight)
        widen = weight.dtype != self.operand
        for rows in _blocks(weight, needed, everywhere=widen):
            yield rows, self._wide(weight[rows]) if widen else weight[rows]

    def _wide(self, rows: Tensor) -> Tensor:
        if self._block is None or self._block.numel() < rows.numel():
            self._block = self.like.new_empty(rows.numel(), dtype=self.operand)
        return self._block[: rows.numel()].view(rows.shape).copy_(rows)

    def _widened_whole(self, weight: Tensor) -> Tensor:
        key = (weight.data_ptr(), weight.shape)
        if key not in self._widened:
            self._widened[key] = weight.to(self.operand)
        return self._widened[key]


def _blocks(weight: Tensor, needed: bool, everywhere: bool = False) -> list[slice]:
    """Rows of the output layer to take together: all of them where nothing is gained by less.

    `needed`: blocks save memory on a CPU; `everywhere`: on any device.
    """
    cut = everywhere or (needed and weight.device.type == "cpu")
    size = HEAD_BLOCK if cut else max(len(weight), 1)
    return [slice(start, min(start + size, len(weight))) for start in range(0, len(weight), size)]


def _onednn_is_faster(left: Tensor, right: Tensor) -> bool:
    """Whether to take oneDNN's fp32 product, which inductor uses too, in the place of torch's default, MKL's.

    With AVX-512 it is as fast on an Intel CPU and faster on an AMD one. `torch.mm` offers no choice between the two,
    and this operator no `out`. It makes a kernel for each new shape, so small products are not worth it.
    """
    large = left.shape[0] * right.numel() >= ONEDNN_FROM
    return large and left.dtype == torch.float32 and left.device.type == "cpu" and onednn_has_avx512()


def _operand(hidden_TH: Tensor, weight_VH: Tensor, widest: torch.dtype) -> torch.dtype:
    """bf16 where both sides (or autocast) say so and the device multiplies it fast; fp16 is widened, since gradients
    would underflow.
    """
    device = hidden_TH.device.type
    if device == "cpu":
        both = hidden_TH.dtype == weight_VH.dtype == torch.bfloat16
        return torch.bfloat16 if both and bf16_is_fast() else widest
    if torch.is_autocast_enabled(device):
        chosen = torch.get_autocast_dtype(device)
    else:
        chosen = torch.promote_types(hidden_TH.dtype, weight_VH.dtype)
    return torch.bfloat16 if chosen == torch.bfloat16 else widest

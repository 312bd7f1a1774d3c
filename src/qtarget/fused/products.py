"""The three matrix products of the fused loss: logits, gradient to the hidden states, gradient to the output layer.

Operands are fp32 on a CPU, unless it multiplies bf16 faster; on an accelerator bf16 stays bf16, and logits are bf16 too
where the kernels read them. Sums over chunks are always kept in fp32, and in fp64 for fp64 inputs: on CUDA
the product itself adds to them, without a wide temporary.
"""

from __future__ import annotations

import re
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

from qtarget.target.evidence import Head
from qtarget.target.types import FLOOR

CPUINFO = Path("/proc/cpuinfo")
ONEDNN_FROM = 10**8
"""Multiplications of a product from which on oneDNN is considered: a millisecond's work."""
HEAD_BLOCK = 1024
"""Rows of the output layer to take at once where a product needs room of its own: that stays small, and in cache."""


@dataclass
class Products:
    """Matrix products in one operand type, and the gradients they add up to.

    Attributes:
        operand: dtype the products run in.  like: an empty tensor of the dtype and device sums and buffers have.
        gradients: to hidden [T, H], weight [V, H], bias [V]; None where not wanted.
    """

    operand: torch.dtype
    like: Tensor
    gradients: list[Tensor | None]
    _cast: dict[tuple[int, torch.Size], Tensor] = field(default_factory=dict)

    @staticmethod
    def of(hidden_TH: Tensor, weight_VH: Tensor, wanted: list[bool]) -> Products:
        """For one call; `wanted` says which of hidden, weight and bias get a gradient."""
        double = hidden_TH.dtype == torch.float64
        like = hidden_TH.new_empty(0, dtype=torch.float64 if double else torch.float32)
        shapes = (hidden_TH.shape, weight_VH.shape, weight_VH.shape[:1])
        gradients = [like.new_zeros(s) if w else None for s, w in zip(shapes, wanted, strict=True)]
        return Products(_operand(hidden_TH, weight_VH, like.dtype), like, gradients)

    @property
    def wanted(self) -> bool:
        return any(g is not None for g in self.gradients)

    def room(self, weight: Tensor, rows: int) -> int:
        """About how many numbers a token the products take beside a chunk's buffers: results, casts, scaled states.

        `rows`: of the output layer, as all ranks count them.
        """
        return 2 * (weight.shape[1] + (min(HEAD_BLOCK, rows) if weight.device.type == "cpu" else 0))

    def logits_into(self, out_CV: Tensor, hidden_CH: Tensor, head: Head) -> None:
        """out = softcap·tanh(scale·(h Wᵀ + b)/softcap); −inf from the bias becomes the floor that stands for it."""
        weight = self._weight(head.weight)
        left = hidden_CH.to(self.operand)
        onednn = _onednn_is_faster(left, weight)
        for rows in _blocks(weight, needed=onednn or self.operand != out_CV.dtype):
            self._product(left, weight[rows].t(), out_CV[:, rows], onednn)
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

    def _to_hidden(self, operand_CV: Tensor, weight: Tensor, out_CH: Tensor) -> None:
        right = self._weight(weight)
        self._product(operand_CV, right, out_CH, _onednn_is_faster(operand_CV, right))

    def _accumulate(self, operand_CV: Tensor, scaled_CH: Tensor, to_weight: Tensor) -> None:
        right = scaled_CH.to(self.operand)
        onednn = _mkl_is_slow() and _onednn_is_faster(right, to_weight)
        for rows in _blocks(to_weight, needed=onednn or self.operand != to_weight.dtype):
            self._accumulate_rows(operand_CV[:, rows].t(), right, to_weight[rows], onednn)

    def _accumulate_rows(self, left: Tensor, right: Tensor, to_weight: Tensor, onednn: bool) -> None:
        if onednn:
            to_weight.add_(torch.ops.mkldnn._linear_pointwise(left, right.t(), None, "none", [], ""))
        elif self.operand == to_weight.dtype:
            to_weight.addmm_(left, right)
        elif to_weight.device.type == "cuda" and "dtype_out" in torch.ops.aten.addmm.overloads():  # torch 2.8
            torch.addmm(to_weight, left, right, out_dtype=to_weight.dtype, out=to_weight)
        else:
            to_weight.add_(left @ right)

    def _product(self, left: Tensor, right: Tensor, out: Tensor, onednn: bool) -> None:
        if onednn:
            out.copy_(torch.ops.mkldnn._linear_pointwise(left, right.t(), None, "none", [], ""))
        elif self.operand == out.dtype:
            torch.mm(left, right, out=out)
        else:
            out.copy_(left @ right)

    def _weight(self, weight: Tensor) -> Tensor:
        """The weight in the operand type, cast once a call."""
        key = (weight.data_ptr(), weight.shape)
        if key not in self._cast:
            self._cast[key] = weight.detach().to(self.operand)
        return self._cast[key]


def _blocks(weight: Tensor, needed: bool) -> list[slice]:
    """Rows of the output layer to take together: all of them where nothing is gained by less."""
    size = HEAD_BLOCK if needed and weight.device.type == "cpu" else max(len(weight), 1)
    return [slice(start, start + size) for start in range(0, len(weight), size)]


def _onednn_is_faster(left: Tensor, right: Tensor) -> bool:
    """Whether to take oneDNN's fp32 product, which inductor uses too, in the place of torch's default, MKL's.

    With AVX-512 it is as fast on an Intel CPU and faster on an AMD one. `torch.mm` offers no choice between the two,
    and this operator no `out`. It makes a kernel for each new shape, so small products are not worth it.
    """
    large = left.shape[0] * right.numel() >= ONEDNN_FROM
    return large and left.dtype == torch.float32 and left.device.type == "cpu" and _onednn_has_avx512()


@cache
def _onednn_has_avx512() -> bool:
    has_product = torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")
    return has_product and torch.backends.cpu.get_cpu_capability() == "AVX512"


@cache
def _mkl_is_slow() -> bool:
    """Whether this CPU is an AMD one of family 26 (Zen 5) or later: twice as wide as AVX2, which MKL keeps to there.

    Only then is oneDNN worth its copies in the product that adds to the output layer's gradient.
    """
    family = re.search(r"^cpu family\s*: (\d+)", _processor(), re.MULTILINE)
    return "AuthenticAMD" in _processor() and family is not None and int(family[1]) >= 26


@cache
def _bf16_is_fast() -> bool:
    """Whether this CPU multiplies bf16 faster than fp32: with AMX, or an AMD one with AVX-512's bf16 (an Intel one
    without AMX is slower at it).
    """
    processor = _processor()
    return "amx_bf16" in processor or ("AuthenticAMD" in processor and "avx512_bf16" in processor)


@cache
def _processor() -> str:
    """What Linux says of this CPU; nothing elsewhere."""
    with suppress(OSError):
        return CPUINFO.read_text(encoding="utf-8", errors="replace")
    return ""


def _operand(hidden_TH: Tensor, weight_VH: Tensor, widest: torch.dtype) -> torch.dtype:
    """bf16 where both sides (or autocast) say so and the device multiplies it fast; fp16 is widened, since gradients
    would underflow.
    """
    device = hidden_TH.device.type
    if device == "cpu":
        both = hidden_TH.dtype == weight_VH.dtype == torch.bfloat16
        return torch.bfloat16 if both and _bf16_is_fast() else widest
    if torch.is_autocast_enabled(device):
        chosen = torch.get_autocast_dtype(device)
    else:
        chosen = torch.promote_types(hidden_TH.dtype, weight_VH.dtype)
    return torch.bfloat16 if chosen == torch.bfloat16 else widest

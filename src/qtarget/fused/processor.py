"""Which matrix product this CPU does fastest: what torch can be asked, and what Linux says of the processor."""

from __future__ import annotations

import re
from contextlib import suppress
from functools import cache
from pathlib import Path

import torch

CPUINFO = Path("/proc/cpuinfo")


@cache
def onednn_has_avx512() -> bool:
    """Whether oneDNN's fp32 product can be called directly here and uses AVX-512."""
    has_product = torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")
    return has_product and torch.backends.cpu.get_cpu_capability() == "AVX512"


@cache
def mkl_is_slow() -> bool:
    """Whether this CPU is an AMD one of family 26 (Zen 5) or later: twice as wide as AVX2, which MKL keeps to there.

    Only then is oneDNN worth its copies in the product that adds to the output layer's gradient.
    """
    family = re.search(r"^cpu family\s*: (\d+)", _description(), re.MULTILINE)
    return "AuthenticAMD" in _description() and family is not None and int(family[1]) >= 26


@cache
def bf16_is_fast() -> bool:
    """Whether this CPU multiplies bf16 faster than fp32: with AMX, or an AMD one with AVX-512's bf16 (an Intel one
    without AMX is slower at it).
    """
    description = _description()
    return "amx_bf16" in description or ("AuthenticAMD" in description and "avx512_bf16" in description)


@cache
def _description() -> str:
    """Linux's description of this CPU; "" elsewhere."""
    with suppress(OSError):
        return CPUINFO.read_text(encoding="utf-8")
    return ""

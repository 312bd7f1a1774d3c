"""What computes a chunk of tokens: the protocol that the two engines share, and the choice between them."""

from __future__ import annotations

import logging
from collections.abc import Collection
from functools import cache
from importlib.util import find_spec
from typing import Protocol

import torch
from torch import Tensor

from qtarget.fused.pools import TargetShares
from qtarget.fused.products import Products
from qtarget.fused.torch_engine import TorchChunk
from qtarget.fused.workspace import Workspace
from qtarget.target.evidence import Head, SupervisedTokens
from qtarget.target.pool import Pool
from qtarget.target.rule import Statistic


class ChunkEngine(Protocol):
    """C tokens on their way through one engine: started with their logits, measured, then made into gradients."""

    @property
    def tokens(self) -> SupervisedTokens:
        """Labels and evidence of these tokens."""
        ...

    @property
    def measured(self) -> dict[Statistic, Tensor]:
        """Statistics, [C] each, once `measure` has run."""
        ...

    @staticmethod
    def logits_like(products: Products) -> Tensor:
        """An empty tensor of the dtype and device that this engine's [C, V] buffers have."""
        ...

    @staticmethod
    def start(
        products: Products, hidden_CH: Tensor, head: Head, tokens: SupervisedTokens, workspace: Workspace
    ) -> ChunkEngine:
        """The chunk with its logits built, in the buffer that all chunks share."""
        ...

    def measure(self, pools: Collection[Pool], wanted: Collection[Statistic], keep_logits: bool) -> None:
        """Measure the wanted statistics; pools that gradients need are built. The logits may be overwritten."""
        ...

    def add_gradients(
        self, products: Products, part: slice, hidden_CH: Tensor, head: Head, q: TargetShares, factor_C: Tensor
    ) -> None:
        """Add factor·(p − Q), taken through softcap and scale, to the gradients in `products`. Uses the chunk up."""
        ...


def has_kernels(like: Tensor) -> bool:
    """Whether the Triton kernels run on a tensor's device: on CUDA, with triton, which comes with torch there."""
    return like.device.type == "cuda" and find_spec("triton") is not None


def choose_engine(
    like: Tensor,
    pools: Collection[Pool],
    wanted: Collection[Statistic],
    tokens: SupervisedTokens,
    head: Head,
    whole_target: bool,
) -> type[ChunkEngine]:
    """The Triton kernels where they run and cover all that a call asks for; torch operations elsewhere.

    fp64, and diagnostics for which Q itself is built (`whole_target`), are for torch. What else keeps a call from the
    kernels is said in the log. Triton is imported only here, and only where it runs.
    """
    if not has_kernels(like) or like.dtype == torch.float64:
        return TorchChunk
    if whole_target:
        _say_once('the diagnostic "target_kl" builds the whole target of such a method', "leave it out of diagnostics")
        return TorchChunk
    from qtarget.fused.triton import triton_engine

    unknown = triton_engine.uncovered(pools, wanted, tokens, head)
    if unknown is None:
        return triton_engine.TritonChunk
    _say_once(f"{unknown} has no Triton kernel", "docs/gpus.md says what has one")
    return TorchChunk


@cache
def _say_once(why: str, remedy: str) -> None:
    """Once a reason: what a call loses that is not for the kernels."""
    logging.getLogger(__name__).warning(
        "%s, so the loss runs on torch operations, which take more memory and time; %s", why, remedy
    )

"""Other people's ways to the same gradient, each as it comes: what a user of theirs would call.

A peer that cannot be had here says why instead.
"""

import functools
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec

import torch
import torch.nn.functional as F
from objectives import Inputs, OneDNNLinear, fused, has_onednn, plain
from torch import Tensor

Way = Callable[[Inputs], Tensor]
CHUNK = 256
"""Tokens a chunk where a peer lets one choose: twice what the library takes on a CPU."""


@dataclass(frozen=True)
class Peer:
    """One way of computing some objectives.

    Attributes:
        build: gives the way, importing what it needs.  objectives: those it computes.
        missing: why it cannot be had here, or None.  warm_whole: whether it must be warmed up on the shape itself.
        slow: whether it is so slow that one round must do.
    """

    name: str
    objectives: tuple[str, ...]
    build: Callable[[], Way]
    missing: Callable[[], str | None] = lambda: None
    warm_whole: bool = False
    slow: bool = False


def _compiled() -> Way:
    torch._dynamo.reset()
    return torch.compile(plain, dynamic=False)


def _torch_chunked(chunk: int | None) -> Way:
    """torch.nn.functional.linear_cross_entropy in chunks; None for the size it chooses itself."""
    chosen = {} if chunk is None else {"batch_chunk_size": chunk, "chunking_method": None}
    options = torch.nn.LinearCrossEntropyOptions(**chosen)
    return lambda x: F.linear_cross_entropy(x.hidden, x.weight, x.labels, options=options)


def _trl_fused() -> Way:
    """The fused head of TRL's SFTTrainer, with what its trainer asks of it; sft and dft as its compute_loss does."""
    from trl.kernels import ChunkedLogProbFunction
    from trl.trainer.utils import _CHUNKED_LOGPROB_CHUNK_SIZE

    def loss(x: Inputs) -> Tensor:
        asked = ("log_probs", "entropy", "is_top1")
        logp, *_ = ChunkedLogProbFunction.apply(
            x.hidden, x.weight, None, x.labels, 1.0, _CHUNKED_LOGPROB_CHUNK_SIZE, None, 1.0, asked
        )
        return -(logp.exp().detach() * logp if x.case.objective == "dft" else logp).mean()

    return loss


def _trl_gkd() -> Way:
    """GKDTrainer's loss on whole logits; beta 0 is KL(teacher‖student)."""
    from trl.experimental.gkd import GKDTrainer

    def loss(x: Inputs) -> Tensor:
        with torch.no_grad():
            teacher = F.linear(*x.teachers[0])
        student = F.linear(x.hidden, x.weight)
        return GKDTrainer.generalized_jsd_loss(student[None], teacher[None], labels=x.labels[None], beta=0.0)

    return loss


def _trl_divergence() -> Way:
    """DistillationTrainer's fused divergence; beta 0 is KL(teacher‖student)."""
    from trl.kernels.chunked_divergence import ChunkedDivergenceFunction

    def loss(x: Inputs) -> Tensor:
        found, _ = ChunkedDivergenceFunction.apply(x.hidden, x.weight, None, *_head_last(x), 0.0)
        return found.mean()

    return loss


def _head_last(x: Inputs) -> tuple[Tensor, Tensor, None]:
    hidden, weight = x.teachers[0]
    return hidden, weight, None


def _liger(chunk: int, compiled: bool) -> Way:
    """Liger's chunked distillation loss, soft part alone; beta 0 is KL(teacher‖student)."""
    from liger_kernel.chunked_loss import LigerFusedLinearJSDLoss

    soft = LigerFusedLinearJSDLoss(0.0, 1.0, beta=0.0, compiled=compiled, chunk_size=chunk)
    return lambda x: soft(x.hidden, x.weight, *x.teachers[0], x.labels)


def _liger_fused(chunk_mem_const: int) -> Way:
    """Liger's fused linear cross-entropy, with its token scaling for dft."""
    from liger_kernel.transformers.functional import liger_fused_linear_cross_entropy

    def loss(x: Inputs) -> Tensor:
        options = {"use_token_scaling": x.case.objective == "dft", "chunk_mem_const": chunk_mem_const}
        return liger_fused_linear_cross_entropy(x.hidden, x.weight, x.labels, **options)

    return loss


def _cut_cross_entropy(filter_eps: str | None) -> Way:
    """Apple's kernel; `filter_eps` None computes every entry, "high" leaves out gradients too small for bf16."""
    from cut_cross_entropy import linear_cross_entropy

    return lambda x: linear_cross_entropy(x.hidden, x.weight, x.labels, filter_eps=filter_eps, impl="cce")


def _quack() -> Way:
    from quack.linear_cross_entropy import chunked_linear_cross_entropy

    return lambda x: chunked_linear_cross_entropy(x.hidden, x.weight, x.labels)


def _no_onednn() -> str | None:
    return None if has_onednn() else "torch without oneDNN"


def _no_compiler() -> str | None:
    return None if any(map(shutil.which, ("c++", "g++", "clang++"))) else "no C++ compiler"


def _no_linear_cross_entropy() -> str | None:
    has = hasattr(F, "linear_cross_entropy") and hasattr(torch.nn, "LinearCrossEntropyOptions")
    return None if has else f"not in torch {torch.__version__}"


def _lacks(package: str) -> Callable[[], str | None]:
    return lambda: None if find_spec(package) else f"{package} is not installed"


PEERS = (
    Peer("plain autograd, products by oneDNN", ("sft", "dft", "kd"),
         lambda: functools.partial(plain, product=OneDNNLinear.apply), _no_onednn),
    Peer("torch.compile of plain", ("sft", "dft", "kd"), _compiled, _no_compiler, warm_whole=True),
    Peer("torch linear_cross_entropy, its defaults", ("sft",), lambda: _torch_chunked(None),
         _no_linear_cross_entropy, slow=True),
    Peer(f"torch linear_cross_entropy, chunks of {CHUNK}", ("sft",), lambda: _torch_chunked(CHUNK),
         _no_linear_cross_entropy),
    Peer("TRL SFTTrainer's fused head", ("sft", "dft"), _trl_fused, _lacks("trl")),
    Peer("TRL GKDTrainer's loss", ("kd",), _trl_gkd, _lacks("trl")),
    Peer("TRL DistillationTrainer's fused head", ("kd",), _trl_divergence, _lacks("trl")),
    Peer("Liger FusedLinearJSD, eager, its chunks of 1024", ("kd",), lambda: _liger(1024, False),
         _lacks("liger_kernel")),
    Peer(f"Liger FusedLinearJSD, eager, chunks of {CHUNK}", ("kd",), lambda: _liger(CHUNK, False),
         _lacks("liger_kernel")),
    Peer(f"Liger FusedLinearJSD, compiled, chunks of {CHUNK}", ("kd",), lambda: _liger(CHUNK, True),
         lambda: _lacks("liger_kernel")() or _no_compiler(), warm_whole=True),
)  # fmt: skip
ON_GPU = (
    Peer("Liger", ("sft", "dft"), lambda: _liger_fused(1), _lacks("liger_kernel")),
    Peer("Liger, 16", ("sft", "dft"), lambda: _liger_fused(16), _lacks("liger_kernel")),
    Peer("QuACK", ("sft",), _quack, _lacks("quack")),
    Peer("CCE", ("sft",), lambda: _cut_cross_entropy("high"), _lacks("cut_cross_entropy")),
    Peer("CCE, unfiltered", ("sft",), lambda: _cut_cross_entropy(None), _lacks("cut_cross_entropy")),
    Peer("TRL's head", ("sft", "dft"), _trl_fused, _lacks("trl")),
)
"""Peers on a GPU. Liger is at its own chunks and at sixteen times these."""
ELSEWHERE = {
    "Liger fused linear cross-entropy (with DFT's token scaling), Liger FusedLinearKLDiv": "Triton kernels for a GPU",
    "Apple cut-cross-entropy": "Triton kernels for a GPU; its fallback is torch.compile of plain",
    "QuACK chunked linear cross-entropy": "CuTe kernels for H100 and newer",
    "unsloth-zoo's fused loss": "needs a GPU to be imported",
}
"""Peers that no CPU can run, and why."""
OURS = Peer("qtarget", ("sft", "dft", "eaft", "kd", "target-sft", "target-sft, sparse"), lambda: fused)
PLAIN = Peer("plain autograd", OURS.objectives, lambda: plain)


def of(objective: str) -> list[Peer]:
    """Everyone who computes an objective: the library, plain autograd and the peers, also those that are missing."""
    return [OURS, PLAIN, *(peer for peer in PEERS if objective in peer.objectives)]


def named(name: str) -> Peer:
    return next(peer for peer in (OURS, PLAIN, *PEERS) if peer.name == name)

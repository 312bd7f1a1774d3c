"""What is measured: an objective on seeded inputs, as the library computes it and as a careful user writes it.

Every way of computing an objective takes `Inputs` and returns a loss that `backward` can be called on.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property

import torch
import torch.nn.functional as F
from torch import Tensor

import qtarget as qt

ETA, TOP_K, KEPT = 0.5, 20, 64
"""target-sft's share of the teacher, eaft's likeliest tokens, and the tokens a sparse teacher keeps."""


@dataclass(frozen=True)
class Case:
    """One objective on one shape. `objective` is a key of `METHODS`; `masked` the share of ignored labels."""

    objective: str
    tokens: int = 1024
    hidden: int = 512
    vocab: int = 32768
    dtype: str = "float32"
    teachers: int = 1
    masked: float = 0.0


METHODS: dict[str, Callable[[], qt.Method]] = {
    "sft": lambda: qt.method("sft"),
    "dft": lambda: qt.method("dft"),
    "eaft": lambda: qt.method("eaft", top_k=TOP_K),
    "kd": lambda: qt.method("kd"),
    "target-sft": lambda: qt.method("target-sft", eta=ETA),
    "target-sft, sparse": lambda: qt.method("target-sft", eta=ETA),
}
WITH_TEACHER = ("kd", "target-sft", "target-sft, sparse")


class Inputs:
    """Hidden states, heads and labels, seeded; logits of a spread like a trained model's."""

    def __init__(self, case: Case) -> None:
        draw, dtype = torch.Generator().manual_seed(0), getattr(torch, case.dtype)
        self.case = case
        self.hidden = self._hidden(draw).to(dtype).requires_grad_()
        self.weight = self._head(draw).to(dtype).requires_grad_()
        self.labels = torch.randint(0, case.vocab, (case.tokens,), generator=draw)
        if case.masked:
            self.labels[torch.arange(case.tokens) % round(1 / case.masked) == 0] = -100
        number = case.teachers if case.objective in WITH_TEACHER else 0
        self.teachers = [(self._hidden(draw).to(dtype), self._head(draw).to(dtype)) for _ in range(number)]

    def _hidden(self, draw: torch.Generator) -> Tensor:
        return torch.randn(self.case.tokens, self.case.hidden, generator=draw)

    def _head(self, draw: torch.Generator) -> Tensor:
        return torch.randn(self.case.vocab, self.case.hidden, generator=draw) * (2 / self.case.hidden**0.5)

    def forget(self) -> None:
        """No gradient, as a step begins."""
        self.hidden.grad = self.weight.grad = None

    @cached_property
    def evidence(self) -> tuple[qt.Dense | qt.Sparse, ...]:
        dense = tuple(qt.Dense(hidden, qt.Head(weight)) for hidden, weight in self.teachers)
        return (self.kept,) if self.case.objective == "target-sft, sparse" else dense

    @cached_property
    def kept(self) -> qt.Sparse:
        """The teacher's likeliest tokens and the mass of the rest, as a cache would have them."""
        hidden, weight = self.teachers[0]
        rows = [(part.float() @ weight.float().t()).log_softmax(-1).topk(KEPT) for part in hidden.split(256)]
        logprobs, ids = torch.cat([row.values for row in rows]), torch.cat([row.indices for row in rows])
        return qt.Sparse(ids, logprobs, torch.log1p(-logprobs.exp().sum(-1).clamp(max=1 - 1e-6)))


def fused(x: Inputs, method: qt.Method | None = None, **options: object) -> Tensor:
    """The library's."""
    method = method or METHODS[x.case.objective]()
    teacher = x.evidence if len(x.evidence) > 1 else x.evidence[0] if x.evidence else None
    options = {"diagnostics": (), **options}
    return qt.linear_q_target_loss(x.hidden, qt.Head(x.weight), x.labels, method, teacher=teacher, **options).loss


Product = Callable[[Tensor, Tensor], Tensor]
"""Hidden states and output layer to logits."""


def plain(x: Inputs, product: Product = F.linear) -> Tensor:
    """Whole logits and autograd."""
    return PLAIN[x.case.objective](x, product)


def _plain_sft(x: Inputs, product: Product) -> Tensor:
    return F.cross_entropy(product(x.hidden, x.weight), x.labels)


def _plain_dft(x: Inputs, product: Product) -> Tensor:
    nll = F.cross_entropy(product(x.hidden, x.weight), x.labels, reduction="none")
    return _mean((-nll).exp().detach() * nll, x.labels)


def _plain_eaft(x: Inputs, product: Product) -> Tensor:
    logits = product(x.hidden, x.weight)
    nll = F.cross_entropy(logits, x.labels, reduction="none")
    with torch.no_grad():
        top = logits.topk(TOP_K, -1).values.log_softmax(-1)
        trust = -(top.exp() * top).sum(-1) / torch.log(torch.tensor(float(TOP_K)))
    return _mean(trust * nll, x.labels)


def _plain_kd(x: Inputs, product: Product) -> Tensor:
    logits = product(x.hidden, x.weight)
    with torch.no_grad():
        teacher = product(*x.teachers[0]).softmax(-1)
    return _mean(F.cross_entropy(logits, teacher, reduction="none"), x.labels)


def _plain_target_sft(x: Inputs, product: Product) -> Tensor:
    logp = product(x.hidden, x.weight).log_softmax(-1)
    labels = x.labels.clamp(min=0)[:, None]
    with torch.no_grad():
        trust = logp.gather(1, labels).exp()
        teacher = product(*x.teachers[0]).log_softmax(-1)
        target = (1 - trust) * ((1 - ETA) * logp + ETA * teacher).softmax(-1)
        target.scatter_add_(1, labels, trust)
    return _mean(-(target * logp).sum(-1), x.labels)


def _mean(loss_T: Tensor, labels_T: Tensor) -> Tensor:
    kept = labels_T != -100
    return loss_T.masked_fill(~kept, 0.0).sum() / kept.sum()


PLAIN: dict[str, Callable[[Inputs, Product], Tensor]] = {
    "sft": _plain_sft, "dft": _plain_dft, "eaft": _plain_eaft, "kd": _plain_kd,
    "target-sft": _plain_target_sft, "target-sft, sparse": _plain_target_sft,
}  # fmt: skip
"""The twin of a sparse teacher is the dense one, with its teacher's own product."""


def has_onednn() -> bool:
    return torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")


def onednn(left: Tensor, right: Tensor) -> Tensor:
    """left · rightᵀ by oneDNN, where torch's own choice for fp32 is MKL."""
    return torch.ops.mkldnn._linear_pointwise(left, right, None, "none", [], "")


class OneDNNLinear(torch.autograd.Function):
    """F.linear with its three products by oneDNN: what of a ratio is the library's choice of product."""

    @staticmethod
    def forward(ctx, hidden: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(hidden, weight)
        return onednn(hidden, weight)

    @staticmethod
    def backward(ctx, upstream: Tensor) -> tuple[Tensor, Tensor]:
        hidden, weight = ctx.saved_tensors
        return onednn(upstream, weight.t()), onednn(upstream.t(), hidden.t())


def bare(x: Inputs, by_onednn: bool = False) -> None:
    """The matrix products alone, on whole logits: one for each teacher's logits, three for the student."""
    dense = [] if x.case.objective == "target-sft, sparse" else x.teachers
    with torch.no_grad():
        product = onednn if by_onednn else F.linear
        for hidden, weight in dense:
            product(hidden, weight)
        logits = product(x.hidden, x.weight)
        product(logits, x.weight.t())
        product(logits.t(), x.hidden.t())


def small(case: Case) -> Case:
    """The same code on next to nothing: what is loaded and compiled once is then not measured."""
    return replace(case, tokens=8, hidden=64, vocab=256)

"""What one call of the fused loss computes, and with what."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import pairwise

from torch import Tensor

from qtarget.fused.engine import ChunkEngine, choose_engine
from qtarget.fused.torch_engine import TorchChunk
from qtarget.target.evidence import Head, SupervisedTokens
from qtarget.target.pool import Pool
from qtarget.target.rule import Statistic, exponent_reads, reads
from qtarget.target.statistics import ENTROPY, SCALE, TRUST, cross, label_logp, negentropy, teacher_entropy
from qtarget.target.types import Method

TEACHER_ENTROPY = teacher_entropy(0)


@dataclass(frozen=True)
class LossPlan:
    """What one call computes, and how: decided before any chunk.

    Attributes:
        chunk_tokens: the most tokens of a chunk.  diagnostics: names, each measured for every token.
        engine: what computes every chunk.  widens_once: whether a narrow output layer is widened
        whole, once a call, or block by block in every chunk.
    """

    method: Method
    tokens: SupervisedTokens
    head: Head
    chunk_tokens: int
    diagnostics: tuple[str, ...]
    engine: type[ChunkEngine] = TorchChunk
    widens_once: bool = True

    def with_engine_for(self, hidden_TH: Tensor) -> LossPlan:
        """The plan with the engine for all its chunks."""
        what = (self.method.pools, self.measured, self.tokens, self.head, self.needs_whole_target)
        return replace(self, engine=choose_engine(hidden_TH, *what))

    @property
    def measured(self) -> tuple[Statistic, ...]:
        """All that is measured."""
        return (*exponent_reads(self.method.pools), *self.first, *self.second)

    @property
    def first(self) -> tuple[Statistic, ...]:
        """What trust, scale and coefficients read."""
        return tuple(s for n in self.method.numbers for s in reads(n))

    @property
    def second(self) -> tuple[Statistic, ...]:
        """What the value and the diagnostics read, besides trust and scale."""
        value, residual = self.method.value, self.method.residual
        of_value = (cross(term.pool) for term in residual) if value is None else reads(value)
        wanted = [s for s in of_value if s not in (TRUST, SCALE)]
        if "entropy" in self.diagnostics:
            wanted.append(ENTROPY)
        if "teacher_entropy" in self.diagnostics:
            wanted.append(TEACHER_ENTROPY)
        if "target_kl" in self.diagnostics and (pool := self.only_pool) is not None:
            wanted += [cross(pool), negentropy(pool), label_logp(pool)]
        return tuple(wanted)

    @property
    def only_pool(self) -> Pool | None:
        """The single residual, where KL(Q‖p) has a closed form in that pool's statistics."""
        residual = self.method.residual
        single = len(residual) == 1 and not residual[0].pool.is_student and residual[0].pool.tangent is None
        return residual[0].pool if single else None

    @property
    def needs_whole_target(self) -> bool:
        """Whether KL(Q‖p) has no closed form and Q is built for it, chunk by chunk."""
        closed = self.only_pool is not None or all(t.pool.is_student for t in self.method.residual)
        return "target_kl" in self.diagnostics and not closed

    def chunks(self) -> Iterator[slice]:
        """Even chunks of at most `chunk_tokens`."""
        total = len(self.tokens.where)
        number = -(-total // self.chunk_tokens)
        bounds = [total * i // number for i in range(number + 1)] if number else [0]
        return (slice(a, b) for a, b in pairwise(bounds))

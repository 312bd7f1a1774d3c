"""A generator that draws fixed blocks of requests, so that a killed drawing goes on to the same samples bit by bit."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from qtarget.evaluate.nouns import Completion, Generator, OnTokens, Request, SamplingProtocol, ignore_tokens

BATCHES_OF_BLOCK = 8
"""Batches of a block: more keep batches full, fewer lose less when the process is killed."""


@dataclass(frozen=True)
class WholeBlocks:
    """Draws every block that lacks a sample as a whole, and gives the samples that were asked for.

    The seed of a sample decides its draw up to the rounding of the logits, which depends on what stands beside it in
    the batch. In blocks that is always the same, whatever was there before.

    Attributes:
        requests: all that will ever be asked, in their order.
    """

    source: Generator
    requests: tuple[Request, ...]

    @property
    def batch_size(self) -> int:
        return getattr(self.source, "batch_size", 1)

    @property
    def tokenizer(self) -> Any:
        return self.source.tokenizer

    def fingerprint(self) -> dict[str, Any]:
        """The source's own: blocks change none of it."""
        return self.source.fingerprint()

    def generate(
        self, requests: Sequence[Request], ask: SamplingProtocol, on_tokens: OnTokens = ignore_tokens
    ) -> Iterator[Completion]:
        asked, size = set(requests), BATCHES_OF_BLOCK * self.batch_size
        for first in range(0, len(self.requests), size):
            block = self.requests[first : first + size]
            if asked.isdisjoint(block):
                continue
            for completion in self.source.generate(block, ask, on_tokens):
                if completion.request in asked:
                    yield completion

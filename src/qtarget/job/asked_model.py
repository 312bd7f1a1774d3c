"""A model whose predictions a cache is written from: loaded here, or on a server."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from qtarget.models.identity import weights_identity
from qtarget.outcomes import Refusal
from qtarget.teacher import Document, Keep, KeptLogprobs, LiveModel, kept_logprobs
from qtarget.teacher.cache import CacheOrigin
from qtarget.teacher.served_store import ServedStore

OnBatch = Callable[[int], None]


class AskedModel(Protocol):
    """A model that is asked for what a cache keeps of its distributions, and that says which model it is."""

    @property
    def vocabulary(self) -> int:
        """Tokens that its distribution is over."""
        ...

    @property
    def place(self) -> str:
        """Where it computes, for people to read."""
        ...

    @property
    def may_change(self) -> bool:
        """Whether the same name may stand for another model when a cache is continued later."""
        ...

    def keeping(self, keep: Keep) -> "AskedModel":
        """The same, asked for what a plan keeps of each distribution.

        Raises:
            Refusal: its server was asked for another number of tokens.
        """
        ...

    def answer(self, documents: Sequence[Document], on_batch: OnBatch | None = None) -> KeptLogprobs:
        """What is kept about every supervised token, document after document."""
        ...

    def origin(self, rendering: Mapping[str, str]) -> CacheOrigin:
        """The identity that a cache of it records: training refuses a cache of anything else."""
        ...


@dataclass(frozen=True)
class LoadedHere:
    """A model in memory, from the directory or hub name `source`."""

    live: LiveModel
    source: str
    keep: Keep
    batch_tokens: int
    may_change: bool = False

    @property
    def vocabulary(self) -> int:
        assert self.live.vocab is not None
        return self.live.vocab

    @property
    def place(self) -> str:
        return str(self.live.model.device)

    def keeping(self, keep: Keep) -> "LoadedHere":
        return replace(self, keep=keep)

    def answer(self, documents: Sequence[Document], on_batch: OnBatch | None = None) -> KeptLogprobs:
        return kept_logprobs(self.live, documents, self.keep, self.batch_tokens, on_batch)

    def origin(self, rendering: Mapping[str, str]) -> CacheOrigin:
        quantised = getattr(self.live.model.config, "quantization_config", None)
        dtype = str(self.live.model.dtype).removeprefix("torch.")
        return CacheOrigin(
            **rendering,
            teacher=weights_identity(self.source),
            compute_dtype=f"{dtype}, {quantised.quant_method.value}" if quantised is not None else dtype,
            vocabulary=self.vocabulary,
        )


@dataclass(frozen=True)
class OnServer:
    """A server's model."""

    store: ServedStore
    may_change: bool = True

    @property
    def vocabulary(self) -> int:
        return self.store.vocab

    @property
    def place(self) -> str:
        return f"server at {self.store.url}"

    def keeping(self, keep: Keep) -> "OnServer":
        if keep != replace(self.store.keep, k=min(self.store.keep.k, self.vocabulary)):
            raise Refusal(
                f"`cache_max_k: {self.store.keep.k}` is more than all tokens but one of {self.store.url}; write "
                f"`cache_max_k: {keep.k}`."
            )
        return self

    def answer(self, documents: Sequence[Document], on_batch: OnBatch | None = None) -> KeptLogprobs:
        return self.store.answer(documents, on_batch)

    def origin(self, rendering: Mapping[str, str]) -> CacheOrigin:
        origin = CacheOrigin(
            **rendering, teacher=self.store.weights, compute_dtype=self.store.dtype, vocabulary=self.store.vocab
        )
        return origin if self.store.has_entropy else replace(origin, entropy="lower bound")

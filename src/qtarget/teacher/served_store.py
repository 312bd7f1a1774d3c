"""Teachers that are asked over a network, of whatever kind their server is."""

from collections.abc import Callable, Sequence
from typing import Protocol, runtime_checkable

from transformers import PreTrainedTokenizerBase

from qtarget.teacher.distributions import Keep, KeptLogprobs
from qtarget.teacher.documents import Document
from qtarget.teacher.engines.engine_teacher import open_engine
from qtarget.teacher.served.client import open_teacher
from qtarget.teacher.source_name import engine_of


@runtime_checkable
class ServedStore(Protocol):
    """A server's teacher: a `LogprobStore` that says which model it has."""

    is_remote: bool

    @property
    def keep(self) -> Keep:
        """What is kept of each distribution."""
        ...

    @property
    def url(self) -> str:
        """Its address, as a configuration names it."""
        ...

    @property
    def vocab(self) -> int:
        """Ids below this are tokens."""
        ...

    @property
    def has_entropy(self) -> bool:
        """Whether the entropy it gives is the model's, and no lower bound."""
        ...

    @property
    def weights(self) -> str:
        """Which weights it holds, as a cache's plan says it."""
        ...

    @property
    def dtype(self) -> str:
        """What they are computed in, as a cache's plan says it."""
        ...

    @property
    def identity(self) -> str:
        """Differs for another model."""
        ...

    def answer(self, documents: Sequence[Document], on_batch: Callable[[int], None] | None = None) -> KeptLogprobs:
        """What is kept about every supervised token, document after document."""
        ...


def open_store(address: str, keep: Keep, tokenizer: PreTrainedTokenizerBase, *, patience: float = 600.0) -> ServedStore:
    """Open the teacher at an address of any kind: ours (`http://…`), vLLM's (`vllm+http://…`), SGLang's.

    Raises:
        TeacherUnavailableError: nothing answers there.
        ValueError: the address, or what answers there, is wrong.
    """
    opened = open_teacher if engine_of(address) is None else open_engine
    return opened(address, keep, tokenizer, patience=patience)

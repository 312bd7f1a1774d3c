"""A source that looks up kept distributions, on disk or on a server, ahead of the step that reads them."""

from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.utils.data import get_worker_info

from qtarget import LabelOnly, Sparse
from qtarget.teacher.background import in_background
from qtarget.teacher.distributions import Keep, KeptLogprobs
from qtarget.teacher.documents import Document, documents_in, lay_out


class LogprobStore(Protocol):
    """Where kept distributions are looked up: a cache on disk or a server."""

    @property
    def keep(self) -> Keep:
        """What is kept of each distribution."""
        ...

    @property
    def is_remote(self) -> bool:
        """Whether `answer` waits for a network: it is then called in a background thread, ahead of the step."""
        ...

    def answer(self, documents: Sequence[Document]) -> KeptLogprobs:
        """What is kept about every supervised token, document after document."""
        ...


@dataclass(frozen=True, eq=False)
class KeptSource:
    """Evidence about a batch from the kept distributions of its documents.

    Args:
        store: where they are looked up.
        label_only: give the label's log-probability alone, for methods that read no more.
    """

    store: LogprobStore
    label_only: bool = False

    def read(self, batch: Mapping[str, Any]) -> dict[str, Tensor] | Future[dict[str, Tensor]]:
        """Tensors `[B, S, ...]` by name, or a future of them where the store is remote."""
        if self.store.is_remote and get_worker_info() is None:
            return in_background(lambda: self._read(batch))
        return self._read(batch)

    def _read(self, batch: Mapping[str, Any]) -> dict[str, Tensor]:
        places = documents_in(batch)
        kept = self.store.answer([place.document for place in places])._asdict()
        names = ("label_logprobs",) if self.label_only else ("ids", "logprobs", "log_tail", "entropy")
        return lay_out({name: kept[name] for name in names}, places, batch["input_ids"].shape)

    def unpack(self, read: Any, device: torch.device) -> Sparse | LabelOnly:
        tensors = read.result() if isinstance(read, Future) else read
        tensors = {name: value.to(device, non_blocking=True) for name, value in tensors.items()}
        if self.label_only:
            return LabelOnly(tensors["label_logprobs"])
        keep = self.store.keep
        has_entropy = getattr(self.store, "has_entropy", True)  # else it is a lower bound, which no method reads
        return Sparse(
            tensors["ids"].long(),
            tensors["logprobs"].float(),
            tensors["log_tail"].float(),
            entropy=tensors["entropy"].float() if has_entropy else None,
            tail="none" if keep.how == "sampled" else "student",
            temperature=keep.temperature,
        )

    def evidence(self, inputs: Mapping[str, Any], labels: Tensor) -> Sparse | LabelOnly:
        return self.unpack(self._read({**inputs, "labels": labels}), labels.device)

"""A source that looks up what was kept of a teacher's distributions, ahead of the step that wants it."""

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
    """Whoever has something kept: a cache on disk, a server."""

    @property
    def keep(self) -> Keep:
        """What was kept."""
        ...

    @property
    def is_remote(self) -> bool:
        """Whether an answer takes a while, so that it is best asked for in the background."""
        ...

    def answer(self, documents: Sequence[Document]) -> KeptLogprobs:
        """What was kept about every asked token, document after document."""
        ...


@dataclass(frozen=True, eq=False)
class KeptSource:
    """Evidence from what was kept, found by the content of a batch's documents.

    Args:
        label_only: hand on the label's log-probability alone, for methods that read no more.
    """

    answers: LogprobStore
    label_only: bool = False

    def read(self, batch: Mapping[str, Any]) -> dict[str, Tensor] | Future[dict[str, Tensor]]:
        """Tensors `[B, S, ...]`, or a future of them where the answer takes a while."""
        if self.answers.is_remote and get_worker_info() is None:
            return in_background(lambda: self._read(batch))
        return self._read(batch)

    def _read(self, batch: Mapping[str, Any]) -> dict[str, Tensor]:
        places = documents_in(batch)
        kept = self.answers.answer([place.document for place in places])._asdict()
        names = ("label_logprobs",) if self.label_only else ("ids", "logprobs", "log_tail", "entropy")
        return lay_out({name: kept[name] for name in names}, places, batch["input_ids"].shape)

    def unpack(self, read: Any, device: torch.device) -> Sparse | LabelOnly:
        found = read.result() if isinstance(read, Future) else read
        found = {name: value.to(device, non_blocking=True) for name, value in found.items()}
        if self.label_only:
            return LabelOnly(found["label_logprobs"])
        keep = self.answers.keep
        return Sparse(
            found["ids"].long(),
            found["logprobs"].float(),
            found["log_tail"].float(),
            entropy=found["entropy"].float(),
            tail="none" if keep.how == "sampled" else "student",
            temperature=keep.temperature,
        )

    def evidence(self, inputs: Mapping[str, Any], labels: Tensor) -> Sparse | LabelOnly:
        return self.unpack(self._read({**inputs, "labels": labels}), labels.device)

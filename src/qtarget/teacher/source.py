"""What a teacher or a reference is to the trainer: whatever can say, at each position of a batch, what comes next."""

from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from qtarget import Dense, LabelOnly, Sparse

ModelEvidence = Dense | Sparse | LabelOnly


class EvidenceSource(Protocol):
    """Live in memory, cached on disk, behind a server, or a user's own."""

    def evidence(self, inputs: Mapping[str, Any], labels: Tensor) -> ModelEvidence:
        """Evidence laid out like `input_ids` `[B, S, ...]`: position t speaks of token t + 1.

        Args:
            inputs: what the student is given: `input_ids` `[B, S]`, and `attention_mask`, `position_ids` (which
                restart at 0 where a document begins) and the like where the batch has them.
            labels: `[B, S]`, unshifted, −100 at tokens that are not supervised. Only what is said of the others is
                read, so a source may say nothing of these.
        """
        ...


@runtime_checkable
class ReadsAhead(EvidenceSource, Protocol):
    """A source that needs no accelerator: it is asked where batches are made, ahead of the step that wants them."""

    def read(self, batch: Mapping[str, Any]) -> Any:
        """The evidence about a batch (`input_ids`, `labels`, ...) as tensors `[B, S, ...]` by name, or a future of
        them. It travels with the batch.
        """
        ...

    def unpack(self, read: Any, device: torch.device) -> ModelEvidence:
        """The evidence in what `read` returned, on a device."""
        ...

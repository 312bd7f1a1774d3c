"""What a teacher or a reference is to the trainer: anything that says, at each position of a batch, what comes next."""

from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from qtarget import Dense, LabelOnly, Sparse

SourceEvidence = Dense | Sparse | LabelOnly


class EvidenceSource(Protocol):
    """A teacher or a reference: live in memory, cached on disk, behind a server, or a class of the user's."""

    def evidence(self, inputs: Mapping[str, Any], labels: Tensor) -> SourceEvidence:
        """Evidence laid out like `input_ids`, `[B, S, ...]`: what stands at position t is about token t + 1.

        Args:
            inputs: the student's inputs: `input_ids` `[B, S]`, and `attention_mask`, `position_ids` (which restart at 0
                where a document begins) and the like where the batch has them.
            labels: `[B, S]`, not shifted, −100 at tokens that are not supervised. Evidence about those is not read, so
                it may be anything.
        """
        ...


@runtime_checkable
class ReadsAhead(EvidenceSource, Protocol):
    """A source that needs no accelerator. It is asked where batches are made, ahead of the step that uses them."""

    def read(self, batch: Mapping[str, Any]) -> Any:
        """The evidence about a batch (`input_ids`, `labels`, ...) as tensors `[B, S, ...]` by name, or a future of
        them. It travels with the batch.
        """
        ...

    def unpack(self, read: Any, device: torch.device) -> SourceEvidence:
        """Evidence on a device, from what `read` returned."""
        ...

"""Buffers that every chunk of the fused loss overwrites, and the count of what stands beside them."""

from torch import Tensor

DOT_BLOCK = 1024
"""Columns of a chunk that a CPU multiplies and sums at once."""


class Workspace:
    """Buffers by name, allocated once: fresh large blocks cost more than the arithmetic done in them."""

    def __init__(self, chunk: int, vocab: int, like: Tensor) -> None:
        self._shape, self._like = (chunk, vocab), like
        self._buffers: dict[str, Tensor] = {}
        self._part: Tensor | None = None
        self._temporaries = self._parts = 0

    def count_temporaries(self, blocks: int) -> None:
        """Note that up to `blocks` tensors of [chunk, vocab] are alive at once outside of the workspace."""
        self._temporaries = max(self._temporaries, blocks)

    def count_parts(self, parts: int) -> None:
        """Note that up to `parts` tensors of some columns of a chunk are alive at once outside of the workspace."""
        self._parts = max(self._parts, parts)

    def numbers_per_token(self, columns: int) -> int:
        """How many numbers were held for each token, had a row of the vocabulary `columns` of them."""
        parts = self._parts + (self._part is not None)
        part = self.width(columns)  # of `columns`, not of this rank's own: all must agree
        return (len(self._buffers) + self._temporaries) * columns + parts * part

    def width(self, columns: int) -> int:
        """How many of a chunk's columns are multiplied and summed at once."""
        return min(DOT_BLOCK, columns) if self._like.device.type == "cpu" else columns

    def part(self, rows: int, columns: int) -> Tensor:
        """A buffer for some columns of a chunk, [rows, columns], which the next call overwrites."""
        if self._part is None or self._part.numel() < rows * columns:
            self._part = self._like.new_empty(rows * columns)
        return self._part[: rows * columns].view(rows, columns)

    def __call__(self, name: str, rows: int) -> Tensor:
        if name not in self._buffers:
            self._buffers[name] = self._like.new_empty(self._shape)
        return self._buffers[name][:rows]

"""Counts the bytes of the tensors that live while some code runs, and what they were at the peak."""

import weakref
from collections import Counter
from collections.abc import Iterable
from typing import Any

from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

ACTIVATIONS, GRADIENTS = "activations", "gradients"


class LiveBytes(TorchDispatchMode):
    """A context in which every tensor that an operation makes is counted until it is freed, by kind.

    Tensors that exist before count from when they are given to `count`.

    Attributes:
        live: bytes now, by kind.  peak: bytes by kind when their sum was largest.
    """

    def __init__(self) -> None:
        super().__init__()
        self.live: Counter[str] = Counter()
        self.peak: Counter[str] = Counter()
        self._sizes: dict[int, tuple[str, int]] = {}
        self._watched: dict[int, Any] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        self.count(tree_leaves(out), ACTIVATIONS)
        return out

    def count(self, values: Iterable[Any], kind: str) -> None:
        """Count tensors that are not counted yet, as of a kind."""
        for value in values:
            if isinstance(value, Tensor):
                self._count_one(value, kind)
        if self.live.total() >= self.peak.total():
            self.peak = Counter(self.live)

    def _count_one(self, tensor: Tensor, kind: str) -> None:
        storage = tensor.untyped_storage()
        key = storage._cdata
        if key in self._sizes:
            return
        self._sizes[key] = (kind, storage.nbytes())
        self.live[kind] += storage.nbytes()
        self._watched[key] = weakref.ref(storage, lambda _: self._forget(key))

    def _forget(self, key: int) -> None:
        kind, size = self._sizes.pop(key)
        self._watched.pop(key)
        self.live[kind] -= size

    def watch_gradients(self, model: nn.Module) -> None:
        """Count the gradients of a model's weights as gradients, as soon as they are made."""
        for weight in model.parameters():
            if weight.requires_grad:
                weight.register_post_accumulate_grad_hook(self._as_gradient)

    def _as_gradient(self, weight: Tensor) -> None:
        assert weight.grad is not None
        key = weight.grad.untyped_storage()._cdata
        kind, size = self._sizes.get(key, (GRADIENTS, 0))
        if kind != GRADIENTS:
            self._sizes[key] = (GRADIENTS, size)
            self.live[kind] -= size
            self.live[GRADIENTS] += size

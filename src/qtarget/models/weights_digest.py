"""sha256 over every byte of the weights of a model in memory, equal on every device."""

import hashlib
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, cast

import torch
from torch import Tensor, nn

_PIECE = 1 << 24
"""Bytes that are copied to the CPU and hashed at once."""
_THREADS = 4
"""Pieces that are hashed at once; hashing leaves Python's lock."""


def stored_tensors(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """The tensors of a model's state, as they are in memory: weights, kept buffers, scales of quantised weights.

    Of a weight that ZeRO-3 cuts over ranks, this rank's part; of one that accelerate has offloaded, where it is kept.
    """
    for name, tensor in model.state_dict(keep_vars=True).items():
        if isinstance(tensor, Tensor):
            found = getattr(tensor, "ds_tensor", tensor)
            yield name, (_offloaded(model, name) if found.is_meta else found)


def _offloaded(model: nn.Module, name: str) -> Tensor:
    """A weight that accelerate loads for each use; the empty one where nothing keeps it, as under FSDP's loading."""
    path, _, last = name.rpartition(".")
    module: Any = model.get_submodule(path)
    hook = getattr(module, "_hf_hook", None)
    for each in getattr(hook, "hooks", [hook]):
        if (kept := getattr(each, "weights_map", None)) is not None:
            return kept[last]
    return getattr(module, last)


@torch.no_grad()
def weights_digest(tensors: Iterable[tuple[str, Tensor]]) -> str:
    """sha256 over names, shapes, dtypes and all bytes of tensors, in the order of their names.

    Of a DTensor this rank's part is hashed; a tensor on "meta", which has no bytes, is left out.
    """
    named = sorted((part for name, each in tensors for part in _plain(name, each.detach())), key=lambda part: part[0])
    digest = hashlib.sha256()
    with ThreadPoolExecutor(_THREADS) as pool:
        pieces = pool.map(_hashed, (piece for _, tensor in named for piece in _pieces(tensor)))
        for name, tensor in named:
            digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
            for _ in range(len(_starts(tensor))):
                digest.update(next(pieces))
    return digest.hexdigest()


def _plain(name: str, tensor: Tensor) -> Iterator[tuple[str, Tensor]]:
    """The tensors that one is made of: a DTensor of its part, a quantised one of numbers and scales."""
    if hasattr(tensor, "__tensor_flatten__"):
        for inside in cast(Any, tensor).__tensor_flatten__()[0]:
            if isinstance(part := getattr(tensor, inside), Tensor):  # a DTensor has its mesh of devices there too
                yield from _plain(f"{name}/{inside}", part)
    elif not tensor.is_meta:
        yield name, tensor


def _starts(tensor: Tensor) -> range:
    return range(0, tensor.numel() * tensor.element_size(), _PIECE)


def _pieces(tensor: Tensor) -> Iterator[Tensor]:
    flat = tensor.contiguous().flatten().view(torch.uint8)
    return (flat[start : start + _PIECE] for start in _starts(tensor))


def _hashed(piece: Tensor) -> bytes:
    return hashlib.sha256(piece.cpu().numpy().data).digest()

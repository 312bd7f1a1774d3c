"""Which of torch's attention kernels a training may take: all but cuDNN's."""

from collections.abc import Iterator
from contextlib import contextmanager

from torch.backends import cuda


@contextmanager
def without_cudnn_attention() -> Iterator[None]:
    """Keep torch's `scaled_dot_product_attention` off cuDNN's kernels for the duration.

    torch takes them by default on Hopper cards where rows are padded. Their gradient is NaN, though all before it is
    finite, where a batch is 64 tokens longer than a multiple of 128 and a head scores all keys far below zero, as heads
    of Qwen2.5 do (pytorch/pytorch#196678: torch 2.11 to 2.13). Flash and memory-efficient attention take their place.
    """
    was_enabled = cuda.cudnn_sdp_enabled()
    cuda.enable_cudnn_sdp(False)
    try:
        yield
    finally:
        cuda.enable_cudnn_sdp(was_enabled)

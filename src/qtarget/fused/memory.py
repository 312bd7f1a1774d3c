"""How much memory is free, where that can be known cheaply."""

from __future__ import annotations

import re
from contextlib import suppress
from pathlib import Path

import torch

MEMINFO = Path("/proc/meminfo")


def free_bytes(device: torch.device) -> int | None:
    """Bytes that could be allocated on a device now: of an NVIDIA GPU, or of a Linux machine; None elsewhere."""
    if device.type == "cuda":
        cached = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return torch.cuda.mem_get_info(device)[0] + cached
    if device.type != "cpu":
        return None
    with suppress(OSError):
        available = re.search(r"^MemAvailable:\s+(\d+) kB", MEMINFO.read_text(encoding="ascii"), re.MULTILINE)
        return 1024 * int(available[1]) if available else None
    return None

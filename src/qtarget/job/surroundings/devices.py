"""Processors and their memory, and the precisions in which they compute."""

import os
import platform
import re
import time
from collections.abc import Iterator
from pathlib import Path

import torch

from qtarget.fused.memory import free_bytes
from qtarget.job.surroundings.observation import Observation

_GIB = 2**30
SIDE, SIDE_ON_GPU = 512, 4096
"""Rows and columns of the matrices that are multiplied."""
ROUNDS = 3
DTYPES_TRIED = ("float32", "bfloat16", "float16")
MUCH_SLOWER = 2.0
LITTLE_MEMORY = 2 * _GIB


def devices_found() -> Iterator[Observation]:
    """The processor with its threads, accelerators, and how much memory of each is free."""
    yield Observation("devices", "cpu", f"{_processor()}, {torch.backends.cpu.get_cpu_capability()}")
    yield _threads()
    yield _memory("cpu", "memory", _total_memory())
    for index in range(torch.cuda.device_count()):
        device = f"cuda:{index}"
        facts = torch.cuda.get_device_properties(index)
        yield Observation("devices", device, f"{facts.name}, compute capability {facts.major}.{facts.minor}")
        yield _memory(device, f"{device} memory", facts.total_memory)
    if torch.backends.mps.is_available():
        yield Observation("devices", "mps", "Apple's GPU", "note", "not tested; `use_cpu: true` keeps off it")
    if not torch.accelerator.is_available():
        yield Observation("devices", "accelerator", "none: everything runs on the processor")


def _threads() -> Observation:
    threads, cores = torch.get_num_threads(), usable_cores()
    found = f"{threads} of torch, for {cores} core{'s' if cores != 1 else ''}"
    if threads > cores:
        return Observation(
            "devices", "threads", found, "note", f"too many slow it down: export OMP_NUM_THREADS={cores}"
        )
    if threads < cores and "OMP_NUM_THREADS" in os.environ:
        said = os.environ["OMP_NUM_THREADS"]
        return Observation("devices", "threads", f"{found} (OMP_NUM_THREADS={said})", "note", "unset OMP_NUM_THREADS")
    return Observation("devices", "threads", found)


def usable_cores() -> int:
    """Cores that this process may run on."""
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity is not None else os.cpu_count() or 1


def _memory(device: str, name: str, total: int | None) -> Observation:
    free = free_bytes(torch.device(device))
    if free is None:
        return Observation("devices", name, "how much is free is not known here", "note")
    of = "" if total is None else f" of {total / _GIB:.1f}"
    found = f"{free / _GIB:.1f}{of} GiB free"
    if free < LITTLE_MEMORY:
        return Observation("devices", name, found, "note", "little: end other programs, or train a smaller model")
    return Observation("devices", name, found)


def _total_memory() -> int | None:
    try:
        import psutil
    except ImportError:
        return None
    return int(psutil.virtual_memory().total)


def _processor() -> str:
    """The processor's name."""
    try:
        named = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(encoding="utf-8"), re.MULTILINE)
    except OSError:
        named = None
    return named[1] if named else platform.processor() or platform.machine()


def precisions_found() -> Iterator[Observation]:
    """Each precision on each kind of device: whether a layer and its gradient compute, and how fast."""
    for device in ("cpu", *(["cuda"] if torch.cuda.is_available() else [])):
        speeds = {name: _speed(device, name) for name in DTYPES_TRIED}
        for name, speed in speeds.items():
            yield _precision(device, name, speed, speeds["float32"])


def _precision(device: str, name: str, speed: float | str, whole: float | str) -> Observation:
    where = f"{name} on {device}"
    if isinstance(speed, str):
        state = "fails" if name == "float32" else "note"
        return Observation("precision", where, f"does not work: {speed}", state)
    times = f", {speed / whole:.1f} times float32" if isinstance(whole, float) and name != "float32" else ""
    found = f"works, {speed:,.0f} GFLOP/s{times}"
    if device == "cpu" and name == "float16":
        return Observation("precision", where, f"{found}; not for training, which takes bf16 there")
    if isinstance(whole, float) and speed * MUCH_SLOWER < whole:
        return Observation(
            "precision", where, found, "note", "slow here: leave `bf16` out" if name == "bfloat16" else ""
        )
    return Observation("precision", where, found)


def _speed(device: str, name: str) -> float | str:
    """GFLOP/s of a product of two matrices, the best of a few; what is wrong where its gradient does not compute."""
    try:
        side = SIDE if device == "cpu" else SIDE_ON_GPU
        matrix = torch.randn(side, side, device=device, generator=torch.Generator(device)).to(getattr(torch, name))
        weight = matrix.clone().requires_grad_()
        (matrix @ weight).float().sum().backward()
        best = min(_seconds(matrix, device) for _ in range(ROUNDS))
    except RuntimeError as error:
        return str(error).splitlines()[0]
    return 2 * side**3 / best / 1e9


def product_speed(device: str, name: str) -> float:
    """Operations a second of a product of two matrices on a device, in a type of number.

    Raises:
        ValueError: the device does not compute in it.
    """
    speed = _speed(device, name)
    if isinstance(speed, str):
        raise ValueError(f"{device} does not compute in {name}: {speed}")
    return speed * 1e9


def _seconds(matrix: torch.Tensor, device: str) -> float:
    start = time.perf_counter()
    _ = matrix @ matrix
    if device != "cpu":
        torch.cuda.synchronize()
    return time.perf_counter() - start

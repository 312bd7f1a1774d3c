"""CPU seconds in interleaved rounds, peak memory in fresh processes, and the machine they were taken on."""

import gc
import importlib.metadata
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

Times = dict[str, dict[str, list[float]]]
Spread = dict[str, float]
"""Median of the rounds, with the least and the largest."""
STATUS, CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")
RESET_PEAK = "5"


def in_turn(steps: Mapping[str, Callable[[], Any]], rounds: int, between: Callable[[], Any] = lambda: None) -> Times:
    """CPU and wall seconds of each step, in turn, after one round that is not counted.

    Args:
        between: called before each step, off the clock.
    """
    found: Times = {name: {"cpu": [], "wall": []} for name in steps}
    for round_ in range(rounds + 1):
        for name, step in steps.items():
            between()
            wall, cpu = time.perf_counter(), time.process_time()
            step()
            if round_:
                found[name]["cpu"].append(time.process_time() - cpu)
                found[name]["wall"].append(time.perf_counter() - wall)
    return found


def spread(values: Sequence[float]) -> Spread:
    return {"median": statistics.median(values), "least": min(values), "largest": max(values)}


def ratio(times: Times, over: str, under: str, clock: str = "cpu") -> Spread:
    """How many times the seconds of `under` those of `over` are, round by round."""
    return spread([a / b for a, b in zip(times[over][clock], times[under][clock], strict=True)])


def medians(times: Times) -> dict[str, dict[str, float]]:
    return {name: {clock: statistics.median(all_) for clock, all_ in of.items()} for name, of in times.items()}


def growth_mib(step: Callable[[], Any]) -> float:
    """How far the resident set of this process rises above where it stood while a step runs, in MiB. Linux only."""
    gc.collect()
    before = _resident_mib("VmRSS")
    CLEAR.write_text(RESET_PEAK, encoding="ascii")
    step()
    return _resident_mib("VmHWM") - before


def _resident_mib(field: str) -> float:
    lines = STATUS.read_text(encoding="utf-8").splitlines()
    return int(next(line for line in lines if line.startswith(field)).split()[1]) / 1024


def has_peak() -> bool:
    """Whether the system says how much memory a process had at most."""
    return STATUS.is_file() and os.access(CLEAR, os.W_OK)


def fresh(script: Path, *arguments: str) -> Any:
    """What a script prints last, as JSON, run with one thread in a process of its own."""
    single = {name: "1" for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS")}
    command = [sys.executable, str(script), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, encoding="utf-8", env={**os.environ, **single})
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} failed:\n{done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def forked(work: Callable[[], float]) -> float:
    """A number found by a copy of this process, which must not have computed anything yet."""
    read, write = os.pipe()
    if child := os.fork():
        os.close(write)
        with os.fdopen(read, encoding="ascii") as answer:
            said = answer.read()
        os.waitpid(child, 0)
        return float(said)
    try:
        os.write(write, str(work()).encode())
    finally:
        os._exit(0)


def processor() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8", errors="replace").splitlines() if info.exists() else ()
    pairs = (line.partition(":") for line in reversed(lines))
    said = {key.strip(): value.strip() for key, _, value in pairs}
    name, family = said.get("model name", platform.machine()), said.get("cpu family")
    family = "" if family is None else f" (family {family})"
    return f"{name}{family}, {torch.backends.cpu.get_cpu_capability()}"


def versions(*packages: str) -> dict[str, str | None]:
    """Installed versions; None where a package is not there."""
    return {name: _version(name) for name in packages}


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None

"""The fused loss on an NVIDIA GPU: the laws through its kernels, time and memory beside others, and a whole step.

    python benchmarks/fused_gpu.py [--rounds 10] [--steps 24] [--json benchmarks/results/fused_gpu.json]

The loss is timed beside plain torch and the peers that are installed:

    pip install liger-kernel==0.8.5 cut-cross-entropy quack-kernels

QuACK needs an H100 or newer. A peer that is missing or fails is told with why, and the rest goes on. Times are CUDA
events, the median of interleaved rounds. Memory is the peak above inputs and gradients. The whole step is a training of
a model of 1.3 billion random parameters by our trainer and by TRL's. Exits non-zero when a law fails or a target is
missed.
"""

import argparse
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from objectives import Case, Inputs, bare, fused, plain
from peers import ON_GPU, Peer, Way
from timing import versions

from qtarget.disk.files import write_json

LAWS = Path(__file__).parents[1] / "tests" / "fused" / "triton"
SHAPE = {"tokens": 8192, "vocab": 151936, "dtype": "bfloat16"}
CASES = [Case(objective, hidden=h, **SHAPE) for objective in ("sft", "dft", "target-sft") for h in (2048, 4096)]
LOW = 80 * 2**20
"""Bytes of buffers in the smallest setting."""
MOST = 4.5 * 2**30
"""Bytes beside inputs and gradients that the usual setting may take at H=4096, and in proportion at other widths."""
WARM = 3
"""Rounds before those that count."""


def targets(case: Case) -> dict[tuple[str, str], float]:
    """(over, under) -> the least ratio of the two."""
    found = {
        ("bare products", "qtarget"): 1 / 1.12,
        ("most MiB", "qtarget's memory"): 1.0,
        ("sum and 80 MiB", "low memory's memory"): 1.0,
    }
    if case.objective == "target-sft":
        return found | {("plain", "qtarget"): 1.8}
    return found | {("Liger", "qtarget"): 1.4 if case.hidden >= 4096 else 2.0, ("Liger, 16", "qtarget"): 1.0}


def ways(case: Case) -> tuple[dict[str, Way], dict[str, str]]:
    """Everyone who computes the objective here, and why others do not."""
    upcast = lambda hidden, weight: F.linear(hidden, weight).float()  # noqa: E731
    found: dict[str, Way] = {
        "qtarget": fused,
        "low memory": partial(fused, buffer_bytes=LOW),
        "plain": partial(plain, product=upcast),
    }
    missing: dict[str, str] = {}
    for peer in (each for each in ON_GPU if case.objective in each.objectives):
        way = peer.missing() or _tried(peer, case)
        if isinstance(way, str):
            missing[peer.name] = way
        else:
            found[peer.name] = way
    return found, missing


def _tried(peer: Peer, case: Case) -> Way | str:
    """A peer's way, after a step of the case; or why it cannot do one here."""
    try:
        way = peer.build()
        way(placed(case)).backward()
    except Exception as error:  # whatever a peer raises is its reason
        said = str(error).strip().splitlines() or [""]
        return f"{type(error).__name__}: {said[0]}"[:200]
    return way


def placed(case: Case) -> Inputs:
    """Inputs on the GPU; on the CPU where there is none, to try the script."""
    x, device = Inputs(case), "cuda" if torch.cuda.is_available() else "cpu"
    x.hidden, x.weight = (t.detach().to(device).requires_grad_() for t in (x.hidden, x.weight))
    x.labels, x.teachers = x.labels.to(device), [(hidden.to(device), head.to(device)) for hidden, head in x.teachers]
    return x


def milliseconds(step: Callable[[], object]) -> float:
    if not torch.cuda.is_available():
        begin = time.perf_counter()
        step()
        return 1000 * (time.perf_counter() - begin)
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    start.record()
    step()
    end.record()
    torch.cuda.synchronize()
    return start.elapsed_time(end)


def extra_mib(x: Inputs, way: Way) -> float:
    """Peak memory of a step above what stands before it and the gradients that stay after it."""
    x.forget()
    torch.cuda.empty_cache()
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    way(x).backward()
    gradients = sum(t.numel() * t.element_size() for t in (x.hidden.grad, x.weight.grad))
    return (torch.cuda.max_memory_allocated() - before - gradients) / 2**20


def measured(case: Case, rounds: int) -> dict[str, Any]:
    """Times and memory of everyone on one case, and each target beside what was reached."""
    found, missing = ways(case)
    x = placed(case)
    steps: dict[str, Callable[[], object]] = {name: lambda way=way: way(x).backward() for name, way in found.items()}
    steps["bare products"] = lambda: bare(x)
    times: dict[str, list[float]] = {name: [] for name in steps}
    for round_ in range(rounds + WARM):
        for name, step in steps.items():
            x.forget()
            taken = milliseconds(step)
            if round_ >= WARM:
                times[name].append(taken)
    numbers = {name: statistics.median(values) for name, values in times.items()}
    if torch.cuda.is_available():
        numbers |= {f"{name}'s memory": extra_mib(x, way) for name, way in found.items()}
    total = 4 * case.vocab * case.hidden  # the output layer's gradient is summed in fp32, beside what is handed over
    numbers |= {"sum and 80 MiB": (total + LOW) / 2**20, "most MiB": MOST * case.hidden / 4096 / 2**20}
    reached = {
        f"{over} / {under}": {"ratio": numbers[over] / numbers[under], "target": least}
        for (over, under), least in targets(case).items()
        if over in numbers and under in numbers
    }
    row = {"case": asdict(case), "ms and MiB": numbers, "targets": reached}
    return row | {"not measured": missing, "rounds": times}


def tell(row: dict[str, Any]) -> bool:
    """Print one case; whether every target that was measured was reached."""
    print(f"{row['case']['objective']}, H = {row['case']['hidden']}")
    for name, value in row["ms and MiB"].items():
        print(f"  {name:26} {value:10.2f}", "MiB" if name.endswith(("'s memory", "MiB")) else "ms")
    for name, why in row["not measured"].items():
        print(f"  {name:26} not measured: {why}")
    for name, value in row["targets"].items():
        missed = "" if value["ratio"] >= value["target"] else "   missed"
        print(f"  {name:44} {value['ratio']:6.2f}   at least {value['target']:.2f}{missed}")
    return all(value["ratio"] >= value["target"] for value in row["targets"].values())


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--steps", type=int, default=24, help="of each training of a model; 0 leaves them out")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--scale", type=int, default=1, help="divide tokens, vocabulary and width, to try the script")
    options = parser.parse_args()
    if not torch.cuda.is_available():
        print("fused_gpu.py needs an NVIDIA GPU, and torch finds none here: nothing was measured")
        return 2
    lawful = subprocess.run([sys.executable, "-m", "pytest", "-q", str(LAWS)]).returncode == 0
    by = options.scale
    cases = [replace(c, tokens=c.tokens // by, vocab=c.vocab // by, hidden=c.hidden // by) for c in CASES]
    packages = ("torch", "triton", "transformers", "trl", "liger-kernel", "cut-cross-entropy", "quack-kernels")
    about = {"gpu": torch.cuda.get_device_name(), **versions(*packages, "qtarget")}
    found: dict[str, Any] = {"about": about, "laws hold": lawful, "rows": [], "step": {}}
    reached = True
    for case in cases:
        found["rows"].append(measured(case, options.rounds))
        reached = tell(found["rows"][-1]) and reached
        _keep(options.json, found)
    if options.steps:
        from step_gpu import steps_of  # loads trl, which the losses do without

        for name, row in steps_of(options.steps, by):
            found["step"][name] = row
            _keep(options.json, found)
    return 0 if lawful and reached else 1


def _keep(path: Path | None, found: dict[str, Any]) -> None:
    if path:
        write_json(path, found)


if __name__ == "__main__":
    sys.exit(main())

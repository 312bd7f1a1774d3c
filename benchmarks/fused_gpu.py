"""The fused loss on an NVIDIA GPU: the laws through its kernels, then time and memory beside plain torch and Liger.

    python benchmarks/fused_gpu.py [--rounds 10] [--json benchmarks/results/fused_gpu.json]

Times are CUDA events, the median of interleaved rounds. Memory is the peak above inputs and gradients. Liger is 0.8.5
(pip install liger-kernel==0.8.5), at its own chunk and at chunk_mem_const=16. Exits non-zero when a law fails or a
target is missed.
"""

import argparse
import statistics
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path

import torch
import torch.nn.functional as F
from objectives import Case, Inputs, bare, fused, plain
from timing import versions
from torch import Tensor

from qtarget.disk.files import write_json

LAWS = Path(__file__).parents[1] / "tests" / "fused" / "triton"
LIGER = "0.8.5"
SHAPE = {"tokens": 8192, "vocab": 151936, "dtype": "bfloat16"}
CASES = [Case(objective, hidden=h, **SHAPE) for objective in ("sft", "dft", "target-sft") for h in (2048, 4096)]
LOW = 80 * 2**20
"""Bytes of buffers in the smallest setting."""
MOST = 4.5 * 2**30
"""Bytes beside inputs and gradients that the usual setting may take at H=4096, and in proportion at other widths."""
Way = Callable[[Inputs], Tensor]


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


def ways(case: Case) -> dict[str, Way]:
    """Everyone who computes the objective here."""
    upcast = lambda hidden, weight: F.linear(hidden, weight).float()  # noqa: E731
    found: dict[str, Way] = {
        "qtarget": fused,
        "low memory": partial(fused, buffer_bytes=LOW),
        "plain": partial(plain, product=upcast),
    }
    if case.objective != "target-sft":
        scaled = case.objective == "dft"
        found["Liger"] = partial(_liger, scaled=scaled, chunk_mem_const=1)
        found["Liger, 16"] = partial(_liger, scaled=scaled, chunk_mem_const=16)
    return found


def _liger(x: Inputs, scaled: bool, chunk_mem_const: int) -> Tensor:
    from liger_kernel.transformers.functional import liger_fused_linear_cross_entropy

    options = {"use_token_scaling": scaled, "chunk_mem_const": chunk_mem_const}
    return liger_fused_linear_cross_entropy(x.hidden, x.weight, x.labels, **options)


def on_gpu(case: Case) -> Inputs:
    x = Inputs(case)
    x.hidden, x.weight = (t.detach().cuda().requires_grad_() for t in (x.hidden, x.weight))
    x.labels, x.teachers = x.labels.cuda(), [(hidden.cuda(), weight.cuda()) for hidden, weight in x.teachers]
    return x


def milliseconds(step: Callable[[], object]) -> float:
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


def measured(case: Case, rounds: int) -> dict:
    """Times and memory of everyone on one case, and each target beside what was reached."""
    x, found = on_gpu(case), ways(case)
    steps = {name: lambda way=way: way(x).backward() for name, way in found.items()}
    steps["bare products"] = lambda: bare(x)
    times: dict[str, list[float]] = {name: [] for name in steps}
    for round_ in range(rounds + 3):
        for name, step in steps.items():
            x.forget()
            taken = milliseconds(step)
            if round_ >= 3:
                times[name].append(taken)
    numbers = {name: statistics.median(values) for name, values in times.items()}
    numbers |= {f"{name}'s memory": extra_mib(x, way) for name, way in found.items()}
    total = 4 * case.vocab * case.hidden  # the output layer's gradient is summed in fp32, beside what is handed over
    numbers |= {"sum and 80 MiB": (total + LOW) / 2**20, "most MiB": MOST * case.hidden / 4096 / 2**20}
    reached = {
        f"{over} / {under}": {"ratio": numbers[over] / numbers[under], "target": least}
        for (over, under), least in targets(case).items()
    }
    return {"case": asdict(case), "ms and MiB": numbers, "targets": reached, "rounds": times}


def tell(row: dict) -> bool:
    """Print one case; whether every target was reached."""
    print(f"{row['case']['objective']}, H = {row['case']['hidden']}")
    for name, value in row["ms and MiB"].items():
        print(f"  {name:26} {value:10.2f}", "MiB" if name.endswith(("'s memory", "MiB")) else "ms")
    for name, value in row["targets"].items():
        missed = "" if value["ratio"] >= value["target"] else "   missed"
        print(f"  {name:44} {value['ratio']:6.2f}   at least {value['target']:.2f}{missed}")
    return all(value["ratio"] >= value["target"] for value in row["targets"].values())


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--scale", type=int, default=1, help="divide tokens, vocabulary and width, to try the script")
    options = parser.parse_args()
    if not torch.cuda.is_available():
        print("fused_gpu.py needs an NVIDIA GPU, and torch finds none here: nothing was measured")
        return 2
    if versions("liger-kernel")["liger-kernel"] != LIGER:
        print(f"fused_gpu.py compares with liger-kernel {LIGER}: pip install liger-kernel=={LIGER}")
        return 2
    lawful = subprocess.run([sys.executable, "-m", "pytest", "-q", str(LAWS)]).returncode == 0
    by = options.scale
    cases = [replace(c, tokens=c.tokens // by, vocab=c.vocab // by, hidden=c.hidden // by) for c in CASES]
    rows = [measured(case, options.rounds) for case in cases]
    reached = [tell(row) for row in rows]
    if options.json:
        about = {"gpu": torch.cuda.get_device_name(), **versions("torch", "triton", "liger-kernel", "qtarget")}
        write_json(options.json, {"about": about, "laws hold": lawful, "rows": rows})
    return 0 if lawful and all(reached) else 1


if __name__ == "__main__":
    sys.exit(main())

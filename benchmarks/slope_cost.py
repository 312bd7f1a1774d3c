"""What a divergence costs beside target-sft from the same whole teacher: forward and backward of the fused loss.

    python benchmarks/slope_cost.py [--rounds 5] [--json benchmarks/results/slope_cost.json]

On a GPU CUDA events in bf16, else processor seconds of one thread in fp32; the median of the rounds' ratios, taken in
turn. Exits non-zero where a method that is one tangent costs more than 1.15 times what target-sft does;
entropy-aware-kl is a tangent and the teacher itself.
"""

import argparse
import sys
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path

import torch
from fused_gpu import milliseconds, placed
from objectives import Case, Inputs, fused
from timing import in_turn, ratio, spread, versions

import qtarget as qt
from qtarget.disk.files import write_json

BESIDE, MOST = "target-sft", 1.15
ONE_TANGENT = ("reverse-kl", "jsd", "skew-kl", "skew-reverse-kl", "todi", "tvd")
SLOPES = (*ONE_TANGENT, "entropy-aware-kl")
ON_CPU = (Case(BESIDE, 512, 512, 32768), Case(BESIDE, 256, 2048, 32768))
ON_GPU = (Case(BESIDE, 8192, 2048, 151936, "bfloat16"), Case(BESIDE, 8192, 4096, 151936, "bfloat16"))
WARM_UP = 2


def on_cuda(steps: dict[str, Callable[[], None]], rounds: int, between: Callable[[], None]) -> dict[str, dict]:
    """How many times target-sft's milliseconds those of each other are."""
    times: dict[str, list[float]] = {name: [] for name in steps}
    for round_ in range(rounds + WARM_UP):
        for name, step in steps.items():
            between()
            taken = milliseconds(step)
            if round_ >= WARM_UP:
                times[name].append(taken)
    ratios = {name: [a / b for a, b in zip(times[name], times[BESIDE], strict=True)] for name in SLOPES}
    return {name: spread(values) for name, values in ratios.items()} | {"ms of target-sft": spread(times[BESIDE])}


def on_cpu(steps: dict[str, Callable[[], None]], rounds: int, between: Callable[[], None]) -> dict[str, dict]:
    """The same in processor seconds."""
    times = in_turn(steps, rounds, between=between)
    found = {name: ratio(times, name, BESIDE) for name in SLOPES}
    return found | {"s of target-sft": spread(times[BESIDE]["cpu"])}


def step(x: Inputs, method: qt.Method) -> None:
    fused(x, method).backward()


def measured(case: Case, rounds: int) -> dict:
    on_gpu_here = torch.cuda.is_available()
    x = placed(case) if on_gpu_here else Inputs(case)
    steps = {name: partial(step, x, qt.method(name)) for name in (BESIDE, *SLOPES)}
    found = (on_cuda if on_gpu_here else on_cpu)(steps, rounds, x.forget)
    return {"case": asdict(case), "times target-sft": found}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    rows = [measured(case, options.rounds) for case in (ON_GPU if torch.cuda.is_available() else ON_CPU)]
    for row in rows:
        print(row["case"])
        for name, value in row["times target-sft"].items():
            print(f"  {name:20} {value['median']:.3f}  ({value['least']:.3f} to {value['largest']:.3f})")
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU, one thread"
    if options.json:
        write_json(options.json, {"about": {"device": device, **versions("torch", "triton")}, "rows": rows})
    return int(any(row["times target-sft"][name]["median"] > MOST for row in rows for name in ONE_TANGENT))


if __name__ == "__main__":
    sys.exit(main())

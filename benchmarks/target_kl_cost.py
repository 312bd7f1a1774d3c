"""What the diagnostic target_kl costs the fused loss on a CPU: forward and backward with it over without any.

    python benchmarks/target_kl_cost.py [--rounds 5] [--json benchmarks/results/target_kl_cost.json]

Of `CLOSED` methods KL(Q‖p) has a closed form in statistics of the one residual; for the `BUILT` ones the target is
built, chunk by chunk. Processor seconds of one thread in fp32; the median of the rounds' ratios, taken in turn. On a
GPU a step of a `BUILT` method leaves the kernels besides, which is not measured here.
"""

import argparse
from dataclasses import asdict
from functools import partial
from pathlib import Path

import torch
from objectives import Case, Inputs
from timing import in_turn, ratio, spread, versions

import qtarget as qt
from qtarget.disk.files import write_json

CLOSED, BUILT = ("sft", "target-sft"), ("reverse-kl", "jsd", "gem", "confidence-penalty")
CASES = (Case("target-sft", 512, 512, 32768), Case("target-sft", 256, 2048, 32768))
ASKED = {"without": (), "with": ("target_kl",)}


def step(x: Inputs, method: qt.Method, diagnostics: tuple[str, ...]) -> None:
    """A step of the loss; a method without a teacher is given none."""
    teacher = x.evidence[0] if "teacher" in method.needs else None
    qt.linear_q_target_loss(
        x.hidden, qt.Head(x.weight), x.labels, method, teacher=teacher, diagnostics=diagnostics
    ).loss.backward()


def measured(case: Case, rounds: int) -> dict:
    x, found = Inputs(case), {}
    for name in (*CLOSED, *BUILT):
        steps = {way: partial(step, x, qt.method(name), of) for way, of in ASKED.items()}
        times = in_turn(steps, rounds, between=x.forget)
        found[name] = {"times": ratio(times, "with", "without"), "seconds": spread(times["without"]["cpu"])}
    return {"case": asdict(case), "methods": found}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    rows = [measured(case, options.rounds) for case in CASES]
    for row in rows:
        print(row["case"])
        for name, each in row["methods"].items():
            times = each["times"]
            print(f"  {name:20} {times['median']:.3f}  ({times['least']:.3f} to {times['largest']:.3f})")
    if options.json:
        write_json(options.json, {"about": {"device": "CPU, one thread", **versions("torch")}, "rows": rows})


if __name__ == "__main__":
    main()

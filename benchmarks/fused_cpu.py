"""The fused loss beside the plain autograd loss over whole logits, on one CPU thread: time, memory, price of
diagnostics.

    python benchmarks/fused_cpu.py [--rounds 5] [--json benchmarks/results/fused_cpu.json]

Times are process CPU seconds, interleaved in one run, the least of the rounds. Memory is the growth of the peak
resident set of a fresh process. Exits non-zero when a ratio misses its target.
"""

import argparse
import json
import platform
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F

import qtarget as qt

H, V, TEACHER_H = 512, 32768, 512
METHODS = ("sft", "dft", "eaft", "target-sft")
SPEED_TARGETS = {"sft": 1.20, "dft": 1.20, "target-sft": 1.35}
MEMORY_TARGET = 10.0
DIAGNOSTICS = ("trust", "scale", "p_y", "entropy", "target_kl", "teacher_entropy")
Step = Callable[[], None]


def inputs(tokens: int) -> dict[str, torch.Tensor]:
    """Hidden states, heads and labels, seeded; logits of a spread like a trained model's."""
    g = torch.Generator().manual_seed(0)
    draw = lambda *shape: torch.randn(*shape, generator=g)  # noqa: E731
    return {
        "hidden": draw(tokens, H).requires_grad_(),
        "weight": (draw(V, H) / H**0.5 * 2).requires_grad_(),
        "teacher_hidden": draw(tokens, TEACHER_H),
        "teacher_weight": draw(V, TEACHER_H) / TEACHER_H**0.5 * 2,
        "labels": torch.randint(0, V, (tokens,), generator=g),
    }


def plain_step(name: str, x: dict[str, torch.Tensor]) -> None:
    """What a careful user writes: whole logits, autograd."""
    logits = x["hidden"] @ x["weight"].t()
    if name == "sft":
        F.cross_entropy(logits, x["labels"]).backward()
        return
    logp = logits.log_softmax(-1)
    label = logp.gather(1, x["labels"][:, None]).squeeze(1)
    if name == "dft":
        (-label.exp().detach() * label).mean().backward()
    elif name == "eaft":
        with torch.no_grad():
            top = logits.topk(20, -1).values.log_softmax(-1)
            weight = -(top.exp() * top).sum(-1) / torch.log(torch.tensor(20.0))
        (-weight * label).mean().backward()
    else:
        with torch.no_grad():
            teacher = (x["teacher_hidden"] @ x["teacher_weight"].t()).log_softmax(-1)
            trust = label.exp()
            target = (1 - trust)[:, None] * (0.5 * logp + 0.5 * teacher).softmax(-1)
            target.scatter_add_(1, x["labels"][:, None], trust[:, None])
        (-(target * logp).sum(-1)).mean().backward()


def fused_step(name: str, x: dict[str, torch.Tensor], diagnostics: tuple[str, ...] = ()) -> None:
    """The library's."""
    method = qt.method(name)
    teacher = qt.Dense(x["teacher_hidden"], qt.Head(x["teacher_weight"])) if method.needs else None
    out = qt.linear_q_target_loss(
        x["hidden"], qt.Head(x["weight"]), x["labels"], method, teacher=teacher, diagnostics=diagnostics
    )
    out.loss.backward()


def bare_step(x: dict[str, torch.Tensor], teacher: bool) -> None:
    """The matrix products alone, on whole logits."""
    with torch.no_grad():
        logits = x["hidden"] @ x["weight"].t()
        if teacher:
            x["teacher_hidden"] @ x["teacher_weight"].t()
        logits @ x["weight"]
        logits.t() @ x["hidden"]


def interleaved(steps: dict[str, Step], x: dict[str, torch.Tensor], rounds: int) -> dict[str, float]:
    """Least CPU seconds of each step over the rounds, taken in turn."""
    least = dict.fromkeys(steps, float("inf"))
    for round_ in range(rounds + 1):
        for name, step in steps.items():
            x["hidden"].grad = x["weight"].grad = None
            start = time.process_time()
            step()
            if round_:
                least[name] = min(least[name], time.process_time() - start)
    return least


def peak_mib(path: str, name: str, tokens: int) -> float:
    """Growth of the peak resident set over one step, in a fresh process."""
    command = [sys.executable, __file__, "--peak-of", path, name, str(tokens)]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def _measure_peak(path: str, name: str, tokens: int) -> None:
    x = inputs(tokens)
    warm = {k: v[:8].detach().requires_grad_(v.requires_grad) if k.endswith("hidden") else v for k, v in x.items()}
    warm["labels"] = x["labels"][:8]
    fused_step(name, {**warm, "weight": torch.randn(64, H, requires_grad=True), "labels": warm["labels"] % 64,
                      "teacher_weight": torch.randn(64, TEACHER_H)})  # fmt: skip
    before = _resident("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")
    (fused_step if path == "fused" else plain_step)(name, x)
    print(_resident("VmHWM") - before)


def processor() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    name = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())
    return f"{name}, {torch.backends.cpu.get_cpu_capability()}"


def _resident(field: str) -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(field)).split()[1]) / 1024


def speed(tokens: int, rounds: int) -> list[dict]:
    """Plain, bare products and fused, by method."""
    x, rows = inputs(tokens), []
    for name in METHODS:
        steps: dict[str, Step] = {
            "plain": lambda name=name: plain_step(name, x),
            "fused": lambda name=name: fused_step(name, x),
            "bare": lambda name=name: bare_step(x, name == "target-sft"),
        }
        times = interleaved(steps, x, rounds)
        ratio = times["plain"] / times["fused"]
        rows.append(
            {"method": name, "tokens": tokens, **times, "ratio": ratio, "over_bare": times["fused"] / times["bare"]}
        )
    return rows


def diagnostics_price(tokens: int, rounds: int) -> list[dict]:
    """What each diagnostic adds to a step, in per cent."""
    x, rows = inputs(tokens), []
    for name in ("dft", "target-sft"):
        wanted = [d for d in DIAGNOSTICS if d != "teacher_entropy" or name == "target-sft"]
        steps: dict[str, Step] = {"()": lambda name=name: fused_step(name, x)}
        steps |= {d: lambda name=name, d=d: fused_step(name, x, (d,)) for d in wanted}
        steps["all"] = lambda name=name, wanted=wanted: fused_step(name, x, tuple(wanted))
        times = interleaved(steps, x, rounds)
        rows += [
            {"method": name, "diagnostic": d, "adds_percent": 100 * (t / times["()"] - 1)} for d, t in times.items()
        ]
    return rows


def memory(tokens: int) -> list[dict]:
    """Peak growth of one step, plain and fused."""
    rows = []
    for name in ("sft", "dft", "target-sft"):
        plain, fused = (peak_mib(path, name, tokens) for path in ("plain", "fused"))
        rows.append({"method": name, "tokens": tokens, "plain_mib": plain, "fused_mib": fused, "ratio": plain / fused})
    return rows


def run(rounds: int = 5) -> dict:
    """All measurements, with machine and versions."""
    torch.set_num_threads(1)
    return {
        "machine": {"processor": processor(), "torch": torch.__version__, "threads": 1},
        "shape": {"H": H, "V": V, "teacher_H": TEACHER_H, "dtype": "fp32", "diagnostics": []},
        "speed": speed(1024, rounds),
        "memory": memory(4096),
        "diagnostics": diagnostics_price(1024, rounds),
    }


def misses(results: dict) -> list[str]:
    """Targets that were not met."""
    slow = [
        f"{r['method']} is {r['ratio']:.2f}x as fast as plain, target {SPEED_TARGETS[r['method']]:.2f}x"
        for r in results["speed"]
        if r["ratio"] < SPEED_TARGETS.get(r["method"], 0)
    ]
    large = [
        f"{r['method']} takes 1/{r['ratio']:.1f} of plain's memory, target 1/{MEMORY_TARGET:g}"
        for r in results["memory"]
        if r["ratio"] < MEMORY_TARGET
    ]
    return slow + large


def show(results: dict) -> None:
    """The tables."""
    print(f"N=1024 H={H} V={V} fp32, one thread, CPU ms (least of the rounds, interleaved)")
    print(f"{'method':12}{'plain':>9}{'fused':>9}{'bare':>9}{'plain/fused':>13}{'target':>8}{'fused/bare':>12}")
    for r in results["speed"]:
        target = SPEED_TARGETS.get(r["method"])
        times = "".join(f"{1e3 * r[k]:9.0f}" for k in ("plain", "fused", "bare"))
        print(
            f"{r['method']:12}{times}{r['ratio']:12.2f}x{f'{target:.2f}x' if target else '':>8}{r['over_bare']:11.2f}x"
        )
    print("\nN=4096: growth of the peak resident set over one step, MiB (fresh processes)")
    for r in results["memory"]:
        print(
            f"{r['method']:12}{r['plain_mib']:9.0f}{r['fused_mib']:9.0f}{r['ratio']:11.1f}x  target {MEMORY_TARGET:g}x"
        )
    print("\nWhat a diagnostic adds to a step, per cent")
    for r in results["diagnostics"]:
        print(f"{r['method']:12}{r['diagnostic']:18}{r['adds_percent']:+6.1f}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--peak-of", nargs=3, metavar=("PATH", "METHOD", "TOKENS"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.peak_of:
        torch.set_num_threads(1)
        _measure_peak(args.peak_of[0], args.peak_of[1], int(args.peak_of[2]))
        return 0
    results = run(args.rounds)
    if args.json:
        args.json.parent.mkdir(parents=True, exist_ok=True)
        args.json.write_text(json.dumps(results, indent=1) + "\n")
    show(results)
    for miss in misses(results):
        print("MISS:", miss)
    return 1 if misses(results) else 0


if __name__ == "__main__":
    sys.exit(main())

"""Where a step of the fused loss spends its time on an NVIDIA GPU: by chunk, by kernel, by tile, by matrix product.

    python benchmarks/fused_gpu_parts.py [--json benchmarks/results/fused_gpu_parts.json]

`fused_gpu.py` says how fast the loss is beside others; this says what to change. Times are CUDA events, the median of
five after two. A minute on an H200.
"""

import argparse
import statistics
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from fused_gpu import SHAPE, milliseconds, placed
from objectives import Case, bare, fused
from timing import versions
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

from qtarget.disk.files import write_json
from qtarget.fused.triton import kernels
from qtarget.fused.triton.kernels import STUDENT_FORM, Form, LogitChunk, Pull

TILES, WARPS = (2048, 4096, 8192), (4, 8, 16)
CHUNKS = (1024, 2048, 4096, 8192)
OF_A_PASS = 2048
"""Tokens that a pass over logits is timed on."""


def median_ms(step: Callable[[], object]) -> float:
    times = [milliseconds(step) for _ in range(7)]
    return statistics.median(times[2:])


def whole_step(case: Case, chunk_tokens: int) -> dict:
    """One step forward and backward beside its bare products, and the kernels that it ran."""
    x = placed(case)

    def step() -> None:
        x.forget()
        fused(x, chunk_tokens=chunk_tokens).backward()

    taken, least = median_ms(step), median_ms(lambda: bare(x))
    x.forget()
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    step()
    peak = torch.cuda.max_memory_allocated() - before
    with profile(activities=[ProfilerActivity.CUDA]) as profiled:
        step()
        torch.cuda.synchronize()
    ran = [e for e in profiled.key_averages() if e.self_device_time_total > 0]
    ran.sort(key=lambda e: -e.self_device_time_total)
    return {
        "objective": case.objective,
        "hidden": case.hidden,
        "chunk_tokens": chunk_tokens,
        "tiles": {
            "measure": [kernels.MEASURE_TILE, kernels.MEASURE_WARPS],
            "write": [kernels.WRITE_TILE, kernels.WRITE_WARPS],
        },
        "ms": taken,
        "bare products ms": least,
        "peak MiB above inputs": round(peak / 2**20),
        "kernels": [{"ms": e.self_device_time_total / 1e3, "calls": e.count, "kernel": e.key[:80]} for e in ran[:14]],
    }


def passes(objective: str) -> list[dict]:
    """Both passes over the logits at every tile and number of warps."""
    case = Case(objective, hidden=8, **{**SHAPE, "tokens": OF_A_PASS})
    logits_CV = torch.randn(OF_A_PASS, case.vocab, device="cuda", dtype=torch.bfloat16)
    labels_C = torch.randint(0, case.vocab, (OF_A_PASS,), device="cuda")
    with_teacher = objective == "target-sft"
    sources = (torch.randn_like(logits_CV),) if with_teacher else ()
    forms = (STUDENT_FORM, Form(0.5, (0.5,))) if with_teacher else (STUDENT_FORM,)
    chunk, ones_C = LogitChunk(logits_CV, sources, labels_C), torch.ones(OF_A_PASS, device="cuda")
    pulls = {form: Pull(ones_C, sums) for form, sums in kernels.measure_forms(chunk, forms, with_teacher).items()}
    written = chunk._replace(logits_CV=logits_CV.clone())
    ways = {
        "measure": partial(kernels.measure_forms, chunk, forms, with_teacher),
        "write": partial(kernels.gradient_, written, pulls, ones_C, ones_C),
    }
    found = []
    for name, way in ways.items():
        kept = [f"{name.upper()}_{what}" for what in ("TILE", "WARPS")]
        usual = [getattr(kernels, each) for each in kept]
        for tile in TILES:
            for warps in WARPS:
                for each, value in zip(kept, (tile, warps), strict=True):
                    setattr(kernels, each, value)
                found.append({"pass": name, "objective": objective, "tile": tile, "warps": warps, "ms": median_ms(way)})
        for each, value in zip(kept, usual, strict=True):
            setattr(kernels, each, value)
    return found


def products(hidden: int, chunk_tokens: int) -> dict:
    """The three matrix products of a chunk, as often as 8192 tokens need them, and what may stand in their place."""
    vocab, wide = SHAPE["vocab"], torch.float32
    draw: Callable[..., Tensor] = partial(torch.randn, device="cuda", dtype=torch.bfloat16)
    head, narrow = draw(vocab, hidden), draw(vocab, hidden)
    total, hidden_CH, logits_CV = (
        torch.zeros_like(head, dtype=wide),
        draw(chunk_tokens, hidden),
        draw(chunk_tokens, vocab),
    )
    each = {
        "logits": lambda: torch.mm(hidden_CH, head.t(), out=logits_CV),
        "to hidden, bf16": lambda: torch.mm(logits_CV, head),
        "to hidden, fp32": lambda: torch.mm(logits_CV, head, out_dtype=wide),
        "to head, bf16": lambda: torch.mm(logits_CV.t(), hidden_CH, out=narrow),
        "to head, fp32": lambda: torch.mm(logits_CV.t(), hidden_CH, out_dtype=wide, out=total),
        "to head, added in fp32": lambda: torch.addmm(total, logits_CV.t(), hidden_CH, out_dtype=wide, out=total),
    }
    times = SHAPE["tokens"] // chunk_tokens
    taken = {name: median_ms(product) * times for name, product in each.items()}
    once = {"scale and narrow": lambda: torch.mul(total, 1.0, out=narrow), "zero": total.zero_}
    taken |= {name: median_ms(step) for name, step in once.items()}
    return {"hidden": hidden, "chunk_tokens": chunk_tokens, "ms for 8192 tokens": taken}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    case = Case("sft", **SHAPE)
    steps = [whole_step(replace(case, hidden=h), chunk) for h in (2048, 4096) for chunk in CHUNKS]
    steps += [whole_step(replace(case, objective="target-sft", hidden=h), 4096) for h in (2048, 4096)]
    for step in steps:
        of = f"{step['objective']}, H = {step['hidden']}, {step['chunk_tokens']} tokens a chunk"
        print(f"{of}: {step['ms']:.1f} ms, bare products {step['bare products ms']:.1f}")
    by_tile = [row for objective in ("sft", "target-sft") for row in passes(objective)]
    by_product = [products(h, chunk) for h in (2048, 4096) for chunk in CHUNKS]
    for row in (*by_tile, *by_product):
        print(row)
    if options.json:
        about = {"gpu": torch.cuda.get_device_name(), **versions("torch", "triton"), **SHAPE, "passes": OF_A_PASS}
        write_json(options.json, {"about": about, "steps": steps, "passes": by_tile, "products": by_product})


if __name__ == "__main__":
    main()

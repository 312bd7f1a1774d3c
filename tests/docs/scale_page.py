"""Writes the table of docs/scale.md: memory and hours of the runs of examples/scale, by the recipes' formula.

Run by `make docs`: python tests/docs/scale_page.py
"""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from qtarget.disk.pages import markdown, rewrite_page
from qtarget.recipes.estimates import GIB, Shape, Workload, memory, training_flops, training_hours
from qtarget.recipes.recipe_files import recipe, recipe_names, shapes
from qtarget.recipes.resolve import workload_of
from qtarget.teacher.cache.contents import bytes_per_token

ROOT = Path(__file__).parents[2]
PAGE, SCALE = ROOT / "docs" / "scale.md", ROOT / "examples" / "scale"
LAPTOP = 0.25e12
"""Operations a second, in float32, of which half are reached: a processor of eight cores."""

SMOLLM_135M = Shape("llama", 576, 1536, layers=30, heads=9, kv_heads=3, head_dim=64, vocabulary=49152, tied=True)
SMOLLM_1700M = Shape("llama", 2048, 8192, layers=24, heads=32, kv_heads=32, head_dim=64, vocabulary=49152, tied=True)
LLAMA_70B = Shape("llama", 8192, 28672, layers=80, heads=64, kv_heads=8, head_dim=128, vocabulary=128256, tied=False)
SHAPES = {
    "HuggingFaceTB/SmolLM2-135M-Instruct": SMOLLM_135M,
    "HuggingFaceTB/SmolLM2-1.7B-Instruct": SMOLLM_1700M,
    "Qwen/Qwen2.5-1.5B-Instruct": shapes().shapes["qwen2.5-1.5b"],
    "Qwen/Qwen2.5-7B-Instruct": shapes().shapes["qwen2.5-7b"],
    "meta-llama/Llama-3.1-8B-Instruct": shapes().shapes["llama-3.1-8b"],
    "meta-llama/Llama-3.1-70B-Instruct": LLAMA_70B,
}
"""Sizes of the models that the files name, as their config.json state them."""


class ScaleCase(NamedTuple):
    """A run of the page.

    Attributes:
        file: its configuration, in examples/scale.
        tokens: of its rows, once.  gpus: 0 for a processor.  sharded: models are cut over the GPUs.
        copies: of the teacher, each of which writes its shards of the cache; of one that is on several GPUs, one works
            at a time.
    """

    title: str
    file: str
    tokens: int
    gpus: int
    sharded: bool
    cached: bool
    copies: int


PARTS = ("weights", "gradients", "optimizer", "activations", "teacher", "loss")
COLUMNS = (
    "",
    "tokens of rows",
    f"GiB a device: {', '.join(PARTS)}",
    "together",
    "machine, while reading",
    "cache",
    "hours: cache",
    "hours: training",
)
CASES = (
    ScaleCase("eight H100, teacher live", "eight-gpus.yaml", 100_000_000, 8, True, False, 4),
    ScaleCase("eight H100, from a cache", "eight-gpus.yaml", 100_000_000, 8, True, True, 4),
    ScaleCase("one H100, teacher live", "one-gpu.yaml", 20_000_000, 1, False, False, 1),
    ScaleCase("one H100, from a cache", "one-gpu.yaml", 20_000_000, 1, False, True, 1),
    ScaleCase("a laptop, from a cache", "laptop.yaml", 1_000_000, 0, False, True, 1),
)


def keys_of_file(case: ScaleCase) -> dict[str, Any]:
    return yaml.safe_load((SCALE / case.file).read_text(encoding="utf-8"))


def workload(case: ScaleCase) -> Workload:
    """Sizes of a run as its file states them; speed and share of it as the recipes assume."""
    keys, assumed = keys_of_file(case), workload_of(recipe(recipe_names()[0]), "sft")
    return Workload(
        student=SHAPES[keys["model"]],
        teacher=None if case.cached else SHAPES[keys["teacher"]],
        tokens=case.tokens * keys["num_train_epochs"],
        rows=keys["per_device_train_batch_size"],
        length=keys["max_length"],
        gpus=max(1, case.gpus),
        sharded=case.sharded,
        flops=assumed.flops if case.gpus else LAPTOP,
        utilization=assumed.utilization if case.gpus else 0.5,
    )


def teacher_hours(case: ScaleCase) -> float:
    """Of writing the cache: one forward pass for each token of the rows."""
    alone = replace(workload(case), teacher=None, tokens=case.tokens, gpus=case.copies)
    both = replace(alone, teacher=SHAPES[keys_of_file(case)["teacher"]])
    operations = training_flops(both) - training_flops(alone)
    return operations / (alone.gpus * alone.flops * alone.utilization) / 3600


def host_bytes(case: ScaleCase) -> int:
    """Of the machine while models are read: each rank reads the student in float32, and a live teacher in bf16."""
    load = workload(case)
    teacher = 0 if load.teacher is None else 2 * load.teacher.parameters
    return load.gpus * (4 * load.student.parameters + teacher)


def scale_parts() -> dict[str, str]:
    """The parts of the page, by name."""
    return {"costs": markdown(COLUMNS, list(_rows()))}


def _rows() -> Iterator[tuple[str, ...]]:
    for case in CASES:
        load = workload(case)
        found = memory(load)
        parts = " + ".join(f"{getattr(found, name) / GIB:.1f}" for name in PARTS)
        cache, hours = "", ""
        if case.cached:
            cache = f"{case.tokens * bytes_per_token(64, 'float16') / 1e9:.1f} GB"
            hours = f"{teacher_hours(case):.1f}"
        tokens, reading = f"{case.tokens / 1e6:.0f} M", f"{host_bytes(case) / GIB:.0f} GiB"
        trained = f"{training_hours(load):.1f}"
        yield case.title, tokens, parts, f"{found.total / GIB:.1f} GiB", reading, cache, hours, trained


if __name__ == "__main__":
    rewrite_page(PAGE, scale_parts())

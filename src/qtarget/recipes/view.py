"""What `qtarget recipes list` and `show` print, and their JSON."""

import textwrap
from typing import Any

import yaml
from rich import box
from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

import qtarget as qt
from qtarget.recipes.estimates import GIB, Memory, generation_hours, memory, training_hours
from qtarget.recipes.launch import CONFIG, arm_values, launch_line
from qtarget.recipes.recipe_files import Recipe, paper_figure
from qtarget.recipes.resolve import (
    generation_of,
    gpus_of,
    launch_of,
    left_open,
    trained_arms,
    unknown_sets,
    workload_of,
)
from qtarget.recipes.run_options import DEFAULT_OUT
from qtarget.recipes.schema import ORIGINS, SourcedValue, Values

_WIDE, _NARROW = 100, 79


def recipes_table(recipes: list[Recipe], width: int) -> RenderableType:
    """A row for each recipe (under 79 columns a paragraph): what the paper's figure shows, and hours of all arms
    together."""
    shown = _figures_table(recipes, width) if width >= _NARROW else Group(*map(_figures_paragraph, recipes))
    notes = (
        "Average@16 in per cent, read off the paper's figure: ±0.3; ~ marker hidden, ±0.6 or more; = from its text.",
        "train, eval: hours of one H100, by formula, not measured: to train all arms, and at most to evaluate them "
        "with transformers (`--vllm` takes a small part of it); + where sets of unknown size come on top.",
        "`qtarget recipes show NAME` says where every value is from; `run --all --dry-run` tries all.",
    )
    return Group(shown, *(Text(note, style="dim") for note in notes))


def _figures_table(recipes: list[Recipe], width: int) -> Table:
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1 if width >= _WIDE else 0, 0, 0), pad_edge=False, show_edge=False)
    table.add_column("recipe", style="bold", no_wrap=True)
    for part in recipes[0].arms.values():
        called = str(part.called.value)
        table.add_column(called if width >= _WIDE else called.removesuffix("-SFT"), justify="right", no_wrap=True)
    for hours in ("train", "eval"):
        table.add_column(hours, justify="right", no_wrap=True)
    if width >= _WIDE:
        table.add_column("teacher", style="dim")
    for recipe in recipes:
        wide = [str(recipe.model.job["teacher"].value).rpartition("/")[2]] if width >= _WIDE else []
        table.add_row(recipe.name, *_figures(recipe), f"{_all_hours(recipe):.1f}", _evaluation_hours(recipe), *wide)
    return table


def _figures(recipe: Recipe) -> list[str]:
    return [paper_figure(value.value, value.where) for value in recipe.paper.values()]


def _figures_paragraph(recipe: Recipe) -> Text:
    names = [str(part.called.value) for part in recipe.arms.values()]
    figures = [f"{name} {figure.strip()}" for name, figure in zip(names, _figures(recipe), strict=True)]
    return Text.assemble(
        (recipe.name, "bold"),
        f"\n  {', '.join(figures)}; train {_all_hours(recipe):.1f}, eval {_evaluation_hours(recipe)}",
    )


def _all_hours(recipe: Recipe) -> float:
    return sum(_gpu_hours(recipe, arm) for arm in trained_arms(recipe))


def _evaluation_hours(recipe: Recipe) -> str:
    """Of all arms with transformers, at most; "+" where sets are left out."""
    load = generation_of(recipe, "hf")
    if load is None:
        return "?"
    return f"{len(recipe.arms) * generation_hours(load):.0f}{'+' if unknown_sets(recipe) else ''}"


def _gpu_hours(recipe: Recipe, arm: str) -> float:
    load = workload_of(recipe, arm)
    return load.gpus * training_hours(load)


def recipe_page(recipe: Recipe, width: int, gpus: int | None = None) -> RenderableType:
    """One recipe: values with their sources, what differs by arm, costs, launch lines, what the paper leaves open."""
    arms = trained_arms(recipe)
    configs = {arm: arm_values(recipe, arm, DEFAULT_OUT / recipe.name / arm, gpus) for arm in arms}
    shared = {key: value for key, value in configs[arms[0]].items() if _is_shared(key, configs)}
    own = {arm: {k: v for k, v in values.items() if k not in shared} for arm, values in configs.items()}
    versions = ", ".join(f"{file} {version}" for file, version in recipe.versions.items())
    narrow, own_gpus = width < _WIDE, "" if gpus is None else f" --gpus {gpus}"
    return Group(
        Text(recipe.title, style="bold"),
        Text(f"recipe_version: {versions}", style="dim"),
        _heading("the paper's figure", "Average@16 in per cent"),
        _paper(recipe),
        _heading("configuration of every arm"),
        _values(shared, narrow),
        *(part for arm in arms for part in (_heading(f"and of {arm}"), _values(own[arm], narrow))),
        _heading("evaluation"),
        _values(_evaluation(recipe), narrow),
        _heading("estimates", "GiB at the peak on each GPU, and hours; by formula, not measured"),
        _estimates(recipe, arms, gpus, narrow),
        *(_indented(line, "dim") for line in assumptions(recipe, gpus)),
        _heading("launch", f"`qtarget recipes run {recipe.name} --launch{own_gpus}` writes the configurations"),
        Text(_launch_loop(recipe, arms, gpus)),
        _heading("what the paper leaves open, or could not be read"),
        *(_indented(f"- {line}") for line in left_open(recipe)),
        _heading("sources"),
        *(_indented(f"{name}: {meaning}") for name, meaning in ORIGINS.items()),
    )


def _is_shared(key: str, configs: dict[str, Values]) -> bool:
    values = [config.get(key) for config in configs.values()]
    return all(value == values[0] for value in values)


def _indented(line: str, style: str = "") -> Padding:
    return Padding(Text(line, style=style), (0, 0, 0, 2))


def _heading(title: str, remark: str = "") -> Text:
    return Text.assemble("\n", (title, "bold"), "  ", (remark, "dim"))


def _launch_loop(recipe: Recipe, arms: list[str], gpus: int | None) -> str:
    """A shell loop over the arms, in lines short enough for any terminal."""
    words = launch_line(recipe, DEFAULT_OUT / recipe.name / "ARM" / CONFIG, gpus).replace("/ARM/", "/$ARM/")
    lines = " \\\n      ".join(textwrap.wrap(words, 68, break_long_words=False, break_on_hyphens=False))
    return f"  for ARM in {' '.join(arms)}; do\n    {lines}\n  done"


def _values(values: Values, narrow: bool) -> RenderableType:
    """Key, value, source and the place in it; on a narrow terminal the place has a line of its own."""
    if narrow:
        return Group(*(line for key, value in values.items() for line in _two_lines(key, value)))
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, show_header=False)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold", max_width=34)
    table.add_column(no_wrap=True)
    table.add_column(style="dim")
    for key, value in values.items():
        table.add_row(f"  {key}", Text(_shown(value.value)), value.source, Text(value.where))
    return table


def _two_lines(key: str, value: SourcedValue) -> tuple[RenderableType, RenderableType]:
    first = Text.assemble(f"{key}: {_shown(value.value)}  ", (f"[{value.source}]", "italic"))
    return Padding(first, (0, 0, 0, 2)), Padding(Text(value.where, style="dim"), (0, 0, 0, 6))


def _shown(value: Any) -> str:
    text = yaml.safe_dump(value, default_flow_style=True, allow_unicode=True, width=1000).strip()
    return text.removesuffix("...").strip()


def _paper(recipe: Recipe) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, show_header=False)
    for arm, value in recipe.paper.items():
        called = recipe.arms[arm].called.value
        table.add_row(f"  {arm}", Text(str(called), style="dim"), f"{value.value:g}", Text(value.where, style="dim"))
    return table


def _evaluation(recipe: Recipe) -> Values:
    asked = recipe.evaluation
    fields = ("tasks", "k", "temperature", "top_p", "max_new_tokens", "dtype")
    prompt = SourcedValue(value=recipe.model.job["prompt_format"].value, source="derived", where="as training asks")
    return {"prompt": prompt, **{name: getattr(asked, name) for name in fields}}


def _estimates(recipe: Recipe, arms: list[str], gpus: int | None, narrow: bool) -> Table:
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 0 if narrow else 1, 0, 0), pad_edge=False)
    table.add_column("", no_wrap=True)
    asked = "?" if (found := generation_of(recipe, "hf")) is None else f"{generation_hours(found):.1f}"
    names = ("weights", "gradients", "optimizer", "activations", "teacher", "loss", "total")
    for name in ("weights", "grad.", "optim.", "activ.", "teacher", "loss", "total", "train", "eval"):
        table.add_column(name, justify="right", no_wrap=True)
    for arm in arms:
        load = workload_of(recipe, arm, gpus)
        peak = memory(load)
        sizes = (f"{getattr(peak, name) / GIB:.1f}" for name in names)
        table.add_row(f"  {arm}", *sizes, f"{training_hours(load):.2f}", asked)
    table.add_row("  base", *[""] * (len(names) + 1), asked)
    return table


def assumptions(recipe: Recipe, gpus: int | None = None) -> list[str]:
    """What the estimates assume, in sentences."""
    load = workload_of(recipe, trained_arms(recipe)[0], gpus)
    cut = "cut over the GPUs (FSDP2)" if load.sharded else "whole on each GPU"
    return [
        f"{load.gpus} GPU{'s' if load.gpus > 1 else ''} at {load.utilization:.0%} of {load.flops / 1e12:.0f} TFLOP/s; "
        f"{load.tokens / 1e6:.0f} M "
        f"tokens in all, {recipe.data.assumed['tokens_per_row'].value} a row (assumed), no padding.",
        f"fp32 weights, gradients and AdamW, {cut}; checkpointed layers; {load.rows} rows of {load.length} tokens "
        "at a time; the teacher in bf16; logits of 1024 tokens at a time.",
        "Left out: the allocator's slack, what collectives need beside DDP's buckets, and CUDA's own.",
        f"Evaluation, on one GPU: {_samples(recipe)}",
        *_generation_words(recipe),
    ]


def _generation_words(recipe: Recipe) -> list[str]:
    """What the hours of evaluation assume, and what vLLM takes of them."""
    slow, fast = generation_of(recipe, "hf"), generation_of(recipe, "vllm")
    if slow is None or fast is None:
        return ["No set's number of questions is known, so evaluation has no hours here."]
    missing = unknown_sets(recipe)
    left_out = f" Left out, as their number of questions is not known: {', '.join(missing)}." if missing else ""
    return [
        f"Its hours are at most: every answer as long as it may be. With transformers {slow.at_once} answers at once, "
        f"{1e3 * slow.layer_seconds:g} ms a layer for launches: {generation_hours(slow):.1f} h an arm; with --vllm "
        f"{fast.at_once} at once: {generation_hours(fast):.1f} h.{left_out}"
    ]


def _samples(recipe: Recipe) -> str:
    """How many answers evaluation draws for one arm, in a sentence."""
    asked = recipe.evaluation
    k, limit = asked.k.value, asked.max_new_tokens.value
    if asked.questions is None:
        return f"{k} answers of at most {limit} tokens to each question of {len(asked.tasks.value)} sets, for each arm."
    samples = k * asked.questions.value
    return f"{samples:,} answers, at most {samples * limit / 1e6:.0f} M tokens, for each arm and the base."


def recipe_facts(recipe: Recipe, gpus: int | None = None) -> dict[str, Any]:
    """A recipe as plain values, for `--json`."""
    return {
        "name": recipe.name,
        "title": recipe.title,
        "recipe_version": recipe.versions,
        "paper": {arm: value.model_dump() for arm, value in recipe.paper.items()},
        "evaluation": {key: value.model_dump() for key, value in _evaluation(recipe).items()},
        "gpus": gpus_of(launch_of(recipe), gpus),
        "methods": {arm: _arm_facts(recipe, arm, gpus) for arm in trained_arms(recipe)},
        "assumptions": assumptions(recipe, gpus),
        "left_open": left_open(recipe),
        "qtarget": qt.__version__,
    }


def _arm_facts(recipe: Recipe, arm: str, gpus: int | None) -> dict[str, Any]:
    folder, load = DEFAULT_OUT / recipe.name / arm, workload_of(recipe, arm, gpus)
    peak = memory(load)
    bytes_each = {name: getattr(peak, name) for name in (*Memory.__dataclass_fields__, "total")}
    return {
        "configuration": {key: value.model_dump() for key, value in arm_values(recipe, arm, folder, gpus).items()},
        "launch": launch_line(recipe, folder / CONFIG, gpus),
        "estimated_bytes_per_gpu": bytes_each,
        "estimated_hours": training_hours(load),
        "estimated_evaluation_hours": _hours_by_generator(recipe),
    }


def _hours_by_generator(recipe: Recipe) -> dict[str, float]:
    """At most, of one GPU; empty where no set's number of questions is known."""
    loads = {name: generation_of(recipe, name) for name in ("hf", "vllm")}
    return {name: generation_hours(load) for name, load in loads.items() if load is not None}

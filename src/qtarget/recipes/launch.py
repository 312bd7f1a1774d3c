"""Training on several GPUs: an arm's configuration on disk, and the `accelerate launch` line that runs it."""

import shlex
from collections.abc import Sequence
from pathlib import Path

import yaml
from rich.console import Console

from qtarget.disk.files import replace_text
from qtarget.recipes.recipe_files import Recipe
from qtarget.recipes.resolve import gpus_of, launch_of, resolved_values, spreads_models, trained_arms
from qtarget.recipes.run_options import RunOptions
from qtarget.recipes.schema import SourcedValue, Values

SHARDED = {
    "fsdp_version": "2",
    "fsdp_auto_wrap_policy": "TRANSFORMER_BASED_WRAP",
    "fsdp_reshard_after_forward": "true",
    "fsdp_state_dict_type": "FULL_STATE_DICT",
}
"""Options of accelerate for FSDP2: each layer is a unit, and checkpoints hold the whole model."""
UNSHARDED = ("--mixed_precision", "bf16", "--dynamo_backend", "no")
CONFIG, MODEL = "config.yaml", "model"


def launch_line(recipe: Recipe, config: Path, gpus: int | None = None) -> str:
    """The command that trains one arm on the GPUs of one machine; `config` is its configuration."""
    launch = launch_of(recipe)
    number = gpus_of(launch, gpus)
    line = ["accelerate", "launch", "--num_processes", str(number), "--num_machines", "1", *UNSHARDED]
    if spreads_models(launch, gpus):
        line += ["--use_fsdp", *(part for key, value in SHARDED.items() for part in (f"--{key}", value))]
    return shlex.join([*line, "-m", "qtarget", "train", str(config)])


def arm_values(recipe: Recipe, arm: str, folder: Path, gpus: int | None = None) -> Values:
    """The keys of `qtarget train` for an arm, with `output_dir` in the arm's folder."""
    output = SourcedValue(value=str(folder / MODEL), source="ours", where="under --out")
    return {**resolved_values(recipe, arm, gpus), "output_dir": output}


def write_config(recipe: Recipe, arm: str, folder: Path, gpus: int | None = None) -> Path:
    """Write the arm's configuration for `qtarget train`, each line with its source as a comment; return its path."""
    path = folder / CONFIG
    lines = [f"# {recipe.title}, {arm}: recipe {recipe.name}"]
    for key, value in arm_values(recipe, arm, folder, gpus).items():
        entry = yaml.safe_dump({key: value.value}, default_flow_style=False, allow_unicode=True).strip()
        lines.append(f"{entry}  # {value.source}: {value.where}")
    folder.mkdir(parents=True, exist_ok=True)
    replace_text(path, "\n".join(lines) + "\n")
    return path


def print_launch(chosen: Sequence[Recipe], options: RunOptions, gpus: int | None, console: Console) -> None:
    """Write the configuration of each arm that is trained, and print the line that trains it."""
    for recipe in chosen:
        for arm in (arm for arm in options.arms_of(recipe) if arm in trained_arms(recipe)):
            config = write_config(recipe, arm, options.out / recipe.name / arm, gpus)
            console.print(launch_line(recipe, config, gpus), markup=False, highlight=False)
    console.print("Afterwards the same command without --launch evaluates what was trained.", style="dim")

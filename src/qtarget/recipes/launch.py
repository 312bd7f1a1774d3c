"""Configurations on disk and the lines that run them on several GPUs."""

import shlex
from pathlib import Path

import yaml

from qtarget.disk.files import replace_text
from qtarget.recipes.recipe_files import Recipe
from qtarget.recipes.resolve import gpus_of, launch_of, resolved_values, spreads_models
from qtarget.recipes.schema import SourcedValue, Values

SHARDED = {
    "fsdp_version": "2",
    "fsdp_auto_wrap_policy": "TRANSFORMER_BASED_WRAP",
    "fsdp_reshard_after_forward": "true",
    "fsdp_state_dict_type": "FULL_STATE_DICT",
}
"""FSDP2, layer by layer, saved whole."""
PLAIN = ("--mixed_precision", "bf16", "--dynamo_backend", "no")
CONFIG, MODEL = "config.yaml", "model"


def launch_line(recipe: Recipe, config: Path, gpus: int | None = None) -> str:
    """The command that trains one arm on the GPUs of one machine."""
    launch = launch_of(recipe)
    number = gpus_of(launch, gpus)
    words = ["accelerate", "launch", "--num_processes", str(number), "--num_machines", "1", *PLAIN]
    if spreads_models(launch, gpus):
        words += ["--use_fsdp", *(word for key, value in SHARDED.items() for word in (f"--{key}", value))]
    return shlex.join([*words, "-m", "qtarget", "train", str(config)])


def arm_values(recipe: Recipe, arm: str, folder: Path, gpus: int | None = None) -> Values:
    """`resolved`, with the arm's own folder to write to."""
    output = SourcedValue(value=str(folder / MODEL), source="ours", where="under --out")
    return {**resolved_values(recipe, arm, gpus), "output_dir": output}


def write_config(recipe: Recipe, arm: str, folder: Path, gpus: int | None = None) -> Path:
    """The arm's configuration for `qtarget train`, each line with its source behind it."""
    path = folder / CONFIG
    lines = [f"# {recipe.title}, {arm}: recipe {recipe.name}"]
    for key, value in arm_values(recipe, arm, folder, gpus).items():
        written = yaml.safe_dump({key: value.value}, default_flow_style=False, allow_unicode=True).strip()
        lines.append(f"{written}  # {value.source}: {value.where}")
    folder.mkdir(parents=True, exist_ok=True)
    replace_text(path, "\n".join(lines) + "\n")
    return path

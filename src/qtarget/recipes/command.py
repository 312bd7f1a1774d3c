"""What was asked for on the command line."""

import tempfile
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from qtarget.evaluate.run.plan import Engine
from qtarget.recipes.launch import launch_line, write_config
from qtarget.recipes.recipe_files import Recipe, recipe, recipes
from qtarget.recipes.resolve import trained_arms
from qtarget.recipes.run import Options
from qtarget.recipes.view import OUT


def chosen(names: Sequence[str], every: bool) -> list[Recipe]:
    """The recipes named, or all.

    Raises:
        ValueError: none, or one that is unknown.
    """
    if every and names:
        raise ValueError(f"--all is every recipe, and {', '.join(names)} is given beside it; keep one.")
    if not every and not names:
        raise ValueError("no recipe is given; write a name of `qtarget recipes list`, or `--all`.")
    return recipes() if every else [recipe(name) for name in names]


def options_of(
    found: Sequence[Recipe], methods: str | None, dry: bool, out: Path | None, generator: Engine = "hf"
) -> Options:
    """Checked options. Without `out` a dry run goes to a temporary folder, so that it never finds itself finished.

    Raises:
        ValueError: an unknown arm.
    """
    arms = None if methods is None else tuple(name.strip() for name in methods.split(","))
    folder = out or (Path(tempfile.mkdtemp(prefix="qtarget-recipes-")) if dry else OUT)
    options = Options(folder, arms, dry, generator)
    for one in found:
        options.arms_of(one)
    return options


def print_launch(found: Sequence[Recipe], options: Options, gpus: int | None, console: Console) -> None:
    """Write each trained arm's configuration, and print the line that runs it."""
    for one in found:
        for arm in (arm for arm in options.arms_of(one) if arm in trained_arms(one)):
            config = write_config(one, arm, options.out / one.name / arm, gpus)
            console.print(launch_line(one, config, gpus), markup=False, highlight=False)
    console.print("Afterwards the same command without --launch evaluates what was trained.", style="dim")

"""What `qtarget recipes run` is asked for: recipes, their arms, and where results go."""

import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from qtarget.disk.place import check_place
from qtarget.evaluate.run.plan import Engine
from qtarget.evaluate.tasks.questions import parse_rows
from qtarget.recipes.recipe_files import Recipe, recipe, recipes
from qtarget.recipes.resolve import arm_of

DEFAULT_OUT = Path("runs/recipes")


@dataclass(frozen=True)
class RunOptions:
    """How recipes are run.

    Attributes:
        out: folder with a folder for each recipe, which has one for each arm.
        arms: names of arms, as base or target-sft; None for all.
        dry: with tiny random models and invented rows.
        generator: the engine that draws answers.
        limit: ask the first so many questions of each set only.
        rows: a file of rows in the place of a set's own, by the set's name.
    """

    out: Path
    arms: tuple[str, ...] | None = None
    dry: bool = False
    generator: Engine = "hf"
    limit: int | None = None
    rows: Mapping[str, Path] = field(default_factory=dict)

    def arms_of(self, recipe: Recipe) -> tuple[str, ...]:
        """The arms of a recipe to run, in the order of its table.

        Raises:
            ValueError: the recipe has no arm of a name given.
        """
        for name in self.arms or ():
            arm_of(recipe, name)
        return tuple(name for name in recipe.arms if self.arms is None or name in self.arms)

    def changed(self, recipe: Recipe) -> dict[str, Any]:
        """What the run changes of its recipe, by name, in JSON's types; empty where it changes nothing."""
        changed = {key: value.value for key, value in {**recipe.changes, **recipe.asked_otherwise}.items()}
        asked = {"limit": self.limit, "rows": {name: str(path) for name, path in self.rows.items()}}
        return json.loads(json.dumps(changed | {key: value for key, value in asked.items() if value}))


def chosen_recipes(names: Sequence[str], every: bool) -> list[Recipe]:
    """The recipes of the names given, or all ten.

    Raises:
        ValueError: no name, a name beside `--all`, or a name that no recipe has.
    """
    if every and names:
        raise ValueError(f"--all is every recipe, and {', '.join(names)} is given beside it; keep one.")
    if not every and not names:
        raise ValueError("no recipe is given; write a name of `qtarget recipes list`, or `--all`.")
    return recipes() if every else [recipe(name) for name in names]


def results_folder(out: Path | None, dry: bool) -> Path:
    """Where results go: as given; else `DEFAULT_OUT`, or for a dry run a new temporary folder.

    Raises:
        ValueError: it is no place to write to.
    """
    folder = out or (Path(tempfile.mkdtemp(prefix="qtarget-recipes-")) if dry else DEFAULT_OUT)
    check_place(folder, f"`--out {folder}`")
    return folder


def run_options(
    chosen: Sequence[Recipe], methods: str | None, dry: bool, out: Path, generator: Engine = "hf",
    limit: int | None = None, rows: Sequence[str] = (),
) -> RunOptions:  # fmt: skip
    """The options of a command line, checked against the recipes chosen.

    Args:
        methods: names of arms, joined by commas; None for all.
        rows: files, each as ``SET=FILE``.

    Raises:
        ValueError: a recipe has no arm of a name given, or a file is of a set that no recipe asks.
    """
    arms = None if methods is None else tuple(name.strip() for name in methods.split(","))
    options = RunOptions(out, arms, dry, generator, limit, parse_rows(rows))
    asked = {name for each in chosen for name in each.evaluation.tasks.value}
    for each in chosen:
        options.arms_of(each)
    for name in (name for name in options.rows if name not in asked):
        raise ValueError(f"--rows gives a file for {name!r}, which is not among {', '.join(sorted(asked))}.")
    return options

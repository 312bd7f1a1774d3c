"""What `qtarget recipes run` is asked for: recipes, their arms, and where results go."""

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from qtarget.disk.place import check_place
from qtarget.evaluate.run.plan import Engine
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
    """

    out: Path
    arms: tuple[str, ...] | None = None
    dry: bool = False
    generator: Engine = "hf"

    def arms_of(self, recipe: Recipe) -> tuple[str, ...]:
        """The arms of a recipe to run, in the order of its table.

        Raises:
            ValueError: the recipe has no arm of a name given.
        """
        for name in self.arms or ():
            arm_of(recipe, name)
        return tuple(name for name in recipe.arms if self.arms is None or name in self.arms)


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


def run_options(
    chosen: Sequence[Recipe], methods: str | None, dry: bool, out: Path | None, generator: Engine = "hf"
) -> RunOptions:
    """The options of a command line, checked against the recipes chosen.

    Args:
        methods: names of arms, joined by commas; None for all.
        out: None for `DEFAULT_OUT`, and for a new temporary folder in a dry run, which so starts from nothing.

    Raises:
        ValueError: a recipe has no arm of a name given.
    """
    arms = None if methods is None else tuple(name.strip() for name in methods.split(","))
    folder = out or (Path(tempfile.mkdtemp(prefix="qtarget-recipes-")) if dry else DEFAULT_OUT)
    check_place(folder, f"`--out {folder}`")
    options = RunOptions(folder, arms, dry, generator)
    for each in chosen:
        options.arms_of(each)
    return options

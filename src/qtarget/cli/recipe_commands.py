"""`qtarget recipes list`, `show` and `run`."""

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from qtarget.cli.terminal import AsJson, preparation, print_json, print_view
from qtarget.console import SafeConsole

recipes_app = typer.Typer(no_args_is_help=True, help="The paper's ten settings: their values, costs, and runs.")


@recipes_app.command("list")
def list_recipes_command(as_json: AsJson = False) -> None:
    """List the settings with what the paper's figure shows for them."""
    from qtarget.recipes.recipe_files import recipes
    from qtarget.recipes.view import recipe_facts, recipes_table

    print_json([recipe_facts(each) for each in recipes()]) if as_json else print_view(recipes_table, recipes())


@recipes_app.command("show")
def show_recipe_command(
    name: Annotated[str, typer.Argument(help="A name of `qtarget recipes list`.", show_default=False)],
    gpus: Annotated[int | None, typer.Option(help="GPUs of one machine.", min=1, show_default="the recipe's")] = None,
    as_json: AsJson = False,
) -> None:
    """Show a setting: every value and its source, estimated memory and hours, lines to run it, what is left open."""
    from qtarget.recipes.recipe_files import recipe
    from qtarget.recipes.view import recipe_facts, recipe_page

    with preparation():
        shown = recipe(name)
        facts = recipe_facts(shown, gpus)
    print_json(facts) if as_json else print_view(partial(recipe_page, gpus=gpus), shown)


@recipes_app.command("run")
def run_recipes_command(
    names: Annotated[list[str] | None, typer.Argument(help="Recipes, or --all.", show_default=False)] = None,
    every: Annotated[bool, typer.Option("--all", help="All ten.")] = False,
    methods: Annotated[str | None, typer.Option(help="As base,sft,target-sft.", show_default="all")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Tiny random models and invented rows; offline.")] = False,
    out: Annotated[
        Path | None, typer.Option(help="Results.", show_default="runs/recipes; of a dry run, a temporary one")
    ] = None,
    vllm: Annotated[bool, typer.Option("--vllm", help="Draw answers with vLLM instead of transformers.")] = False,
    launch: Annotated[
        bool, typer.Option("--launch", help="Write configurations and print lines for several GPUs; run nothing.")
    ] = False,
    gpus: Annotated[int | None, typer.Option(help="With --launch.", min=1, show_default="the recipe's")] = None,
    model: Annotated[str | None, typer.Option(help="Another student.", show_default="the recipe's")] = None,
    teacher: Annotated[str | None, typer.Option(help="Another teacher.", show_default="the recipe's")] = None,
    keys: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="A key of `qtarget train` over the recipe's; repeatable."),
    ] = None,
    cache: Annotated[bool, typer.Option("--cache", help="Ask the teacher once, ahead of the arms.")] = False,
    task: Annotated[str | None, typer.Option(help="Sets to ask, as gsm8k,amc23.", show_default="the recipe's")] = None,
    rows: Annotated[list[str] | None, typer.Option(metavar="SET=FILE", help="Questions of a set; repeatable.")] = None,
    limit: Annotated[int | None, typer.Option(help="The first so many questions of each set.", min=1)] = None,
    k: Annotated[int | None, typer.Option(help="Answers to a question.", min=1, show_default="16")] = None,
    max_new_tokens: Annotated[
        int | None, typer.Option(help="Tokens of the longest answer.", min=1, show_default="the recipe's")
    ] = None,
) -> None:
    """Train and evaluate every arm of a setting, with the paper's figures beside. What is finished is read.

    Models, keys and questions of your own are said under the table and in results.json, and the paper's figures do not
    stand beside them.
    """
    from qtarget.recipes.changes import changed_recipe, parse_keys
    from qtarget.recipes.launch import print_launch
    from qtarget.recipes.run_options import chosen_recipes, results_folder, run_options
    from qtarget.recipes.run_recipe import check_arms, check_results, run_all

    with preparation():
        models = {key: value for key, value in (("model", model), ("teacher", teacher)) if value is not None}
        tasks = None if task is None else [name.strip() for name in task.split(",")]
        asked = {"tasks": tasks, "k": k, "max_new_tokens": max_new_tokens}
        folder = results_folder(out, dry_run)
        given, cached = models | parse_keys(keys or []), folder if cache else None
        chosen = [changed_recipe(each, given, asked, cached) for each in chosen_recipes(names or [], every)]
        options = run_options(chosen, methods, dry_run, folder, "vllm" if vllm else "hf", limit, rows or ())
        check_arms(chosen, options)
        check_results(chosen, options)
        if launch:
            return print_launch(chosen, options, gpus, SafeConsole(soft_wrap=True))
    run_all(chosen, options, SafeConsole())

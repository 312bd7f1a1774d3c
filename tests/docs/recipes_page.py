"""Writes the tables and numbers of docs/recipes.md: estimated hours, what was tuned on real models, and a real run.

Run by `make docs`: python tests/docs/recipes_page.py
"""

import json
from pathlib import Path
from typing import Any

from qtarget.disk.pages import markdown, rewrite_page
from qtarget.recipes.estimates import generation_hours, training_hours
from qtarget.recipes.recipe_files import Recipe, recipe, recipes
from qtarget.recipes.resolve import generation_of, trained_arms, unknown_sets, workload_of
from qtarget.study.real_models.real_protocol import read_protocol
from qtarget.study.real_models.study_units import chosen_rate, development_average, trials_of
from qtarget.study.real_models.unit_files import read_unit

ROOT = Path(__file__).parents[2]
PAGE, RESULTS = ROOT / "docs" / "recipes.md", ROOT / "benchmarks" / "results"
REAL_RUN = RESULTS / "recipe_run.json"
"""`results.json` of a run on real weights, with the machine and what it took."""

PLACES = ("train_dataset", "rows", "teacher_cache")
"""Changes that are paths of the machine it ran on: the page says in words what they hold."""


def recipes_parts() -> dict[str, str]:
    """The parts of the page, by name."""
    run = json.loads(REAL_RUN.read_text(encoding="utf-8"))
    chose, cases = same_rate()
    return {
        "hours": _hours_table(),
        "real_run": _run_table(run),
        "changes": markdown(
            ["changed", "to"],
            [[f"`{key}`", f"`{value}`"] for key, value in run["changed"].items() if key not in PLACES],
        ),
        "same_rate": f"{chose} cases of {cases}",
        "run_minutes": f"{run['minutes']:.0f}",
    }


def shared_rate_words() -> tuple[str, str]:
    """What the recipes say of one learning rate for all methods, and of η: sentences of their own files."""
    one = recipe("m23k-qwen2.5-7b")
    taught = one.arms["target-sft"].job
    assert taught is not None
    return " ".join(one.protocol.left_open), taught["eta"].where


def same_rate() -> tuple[int, int]:
    """In how many cases development questions of the real settings chose sft's rate for another arm; of how many."""
    protocol, chosen = read_protocol("whole"), []
    for setting in protocol.settings:
        rates = {}
        for arm in protocol.arms:
            found = {trial.rate: read_unit(trial, RESULTS / "real_models") for trial in trials_of(setting, arm)}
            rates[arm.name] = chosen_rate(setting, {rate: development_average(found[rate]) for rate in found})
        chosen += [rate == rates["sft"] for name, rate in rates.items() if name != "sft"]
    return sum(chosen), len(chosen)


def _hours_table() -> str:
    rows = []
    for one in recipes():
        trained = sum(_gpu_hours(one, arm) for arm in trained_arms(one))
        more = " and more" if unknown_sets(one) else ""
        asked = [f"{len(one.arms) * generation_hours(generation_of(one, name)):.0f}{more}" for name in ("hf", "vllm")]
        rows.append([one.name, f"{trained:.1f}", *asked])
    return markdown(["recipe", "training", "evaluation, transformers", "evaluation, vLLM"], rows)


def _gpu_hours(one: Recipe, arm: str) -> float:
    load = workload_of(one, arm)
    return load.gpus * training_hours(load)


def _run_table(run: dict[str, Any]) -> str:
    rows = [
        [arm["arm"], f"{100 * arm['mean']:.1f} ± {100 * arm['margin']:.1f}", f"{100 * arm['truncated']:.0f} %"]
        for arm in run["arms"]
    ]
    k, questions = run["arms"][0]["k"], run["arms"][0]["questions"]
    return markdown(["arm", f"Average@{k}, {questions} questions", "cut off"], rows)


if __name__ == "__main__":
    rewrite_page(PAGE, recipes_parts())

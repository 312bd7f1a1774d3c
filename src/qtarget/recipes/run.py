"""A recipe run from beginning to end: every arm trained and evaluated, one table. What is finished is read."""

import gc
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path

import yaml
from rich.console import Console
from transformers import PrinterCallback

from qtarget.disk.files import read_json_object, write_json
from qtarget.evaluate.run.conduct import run_evaluation
from qtarget.evaluate.run.plan import Engine, EvaluationPlan
from qtarget.evaluate.run.view import ProgressDisplay
from qtarget.evaluate.tasks import task
from qtarget.evaluate.tasks.lock_file import LOCK_NAME
from qtarget.evaluate.tasks.questions import sample_rows
from qtarget.job.config.job import Job
from qtarget.job.training import CONFIGURATION, last_checkpoint, prepare_training, run_training
from qtarget.recipes.dry import DRY_PROTOCOL, QUESTIONS, dry_models, dry_values
from qtarget.recipes.estimates import GIB, memory
from qtarget.recipes.launch import arm_values, write_config
from qtarget.recipes.parity import check_parity
from qtarget.recipes.recipe_files import Recipe
from qtarget.recipes.resolve import arm_of, without_sources, workload_of
from qtarget.recipes.table import RecipeScore, arm_score, comparison
from qtarget.recipes.to_job import job_of
from qtarget.study.quiet import quiet

RESULTS, EVALUATION = "results.json", "evaluation"
Say = Callable[[str], None]


@dataclass(frozen=True)
class Options:
    """How recipes are run.

    Attributes:
        out: one folder a recipe, and one an arm in it.
        arms: None for all.
        dry: with tiny models and invented rows.
        generator: who draws the answers.
    """

    out: Path
    arms: tuple[str, ...] | None = None
    dry: bool = False
    generator: Engine = "hf"

    def arms_of(self, recipe: Recipe) -> tuple[str, ...]:
        """The arms to run, in the order of the table.

        Raises:
            ValueError: one of them is unknown.
        """
        for name in self.arms or ():
            arm_of(recipe, name)
        return tuple(name for name in recipe.arms if self.arms is None or name in self.arms)


def run_recipe(recipe: Recipe, options: Options, say: Say) -> list[RecipeScore]:
    """Train and evaluate the arms, and write `results.json` beside them.

    Raises:
        ValueError: an arm that is unknown, a folder of another run, a damaged `results.json`, rows or models that
            do not fit.
        Interrupted: on Ctrl-C; the same command goes on.
    """
    home = options.out / recipe.name
    _earlier(recipe, options, home)  # so that a damaged file is refused before any work
    scores = []
    for arm in options.arms_of(recipe):
        model = _model(recipe, arm, home / arm, options, say)
        plan = evaluation_plan(recipe, arm, model, home / arm, options)
        score = arm_score(arm, run_evaluation(plan, None if options.dry else ProgressDisplay()))
        say(f"{arm}: {100 * score.mean:.1f}")
        scores.append(score)
    return _save(recipe, scores, options, home)


def run_all(recipes: Sequence[Recipe], options: Options, console: Console) -> None:
    """Every recipe in turn, each with its table; a failure stops at once, and what is finished stays."""
    for recipe in recipes:
        options.arms_of(recipe)
    with quiet() if options.dry else nullcontext():
        for recipe in recipes:
            console.print(f"[bold]{recipe.title}[/]")
            scores = run_recipe(recipe, options, lambda line: console.print(f"  {line}", highlight=False))
            console.print(comparison(recipe, scores, options.dry))
    console.print(f"Models, samples and figures: [bold]{options.out}[/]")


def evaluation_plan(recipe: Recipe, arm: str, model: str, folder: Path, options: Options) -> EvaluationPlan:
    """What `qtarget eval` is asked for: the recipe's tasks and protocol, with the prompt that training used."""
    asked, names = recipe.evaluation, tuple(recipe.evaluation.tasks.value)
    fields = ("k", "temperature", "top_p", "max_new_tokens")
    protocol = {name: getattr(asked, name).value for name in fields} | {"prompt": prompt_of(recipe)}
    if not options.dry:
        dtype = str(asked.dtype.value)
        return EvaluationPlan(model, names, folder / EVALUATION, protocol, dtype=dtype, generator=options.generator)
    rows = {name: sample_rows(task(name)) for name in names}
    small, lock = {**protocol, **DRY_PROTOCOL}, options.out / LOCK_NAME
    return EvaluationPlan(model, names, folder / EVALUATION, small, limit=QUESTIONS, rows=rows, lock=lock, device="cpu")


def prompt_of(recipe: Recipe) -> str:
    return str(recipe.model.job["prompt_format"].value)


def _model(recipe: Recipe, arm: str, folder: Path, options: Options, say: Say) -> str:
    """Where the arm's model is, trained if it is not there yet."""
    if arm_of(recipe, arm).job is None:
        return dry_models(recipe, options.out)["model"] if options.dry else str(recipe.model.job["model"].value)
    values = without_sources(arm_values(recipe, arm, folder, gpus=1))
    job = job_of(dry_values(recipe, values, options.out) if options.dry else values)
    if is_trained(job):
        say(f"{arm}: trained already, in {job.output}")
    else:
        if not options.dry:
            need = memory(workload_of(recipe, arm, gpus=1)).total / GIB
            say(f"{arm}: training on one GPU takes about {need:.0f} GiB of it, by estimate; --launch is for several")
        _train(recipe, arm, job, folder, options.dry)
    return str(job.output)


def is_trained(job: Job) -> bool:
    """Whether the run is finished. A folder that another configuration wrote is refused.

    Raises:
        ValueError: naming the first key that differs.
    """
    path = job.output / CONFIGURATION
    if not path.is_file():
        return False
    before = yaml.safe_load(path.read_text(encoding="utf-8"))
    spread = ("gradient_accumulation_steps", "resume_from_checkpoint", "bf16", "fp16", "dataloader_pin_memory")
    for key in sorted(before.keys() | job.given.keys()):
        if key not in spread and before.get(key) != job.given.get(key):
            raise ValueError(
                f"{job.output} holds a run with `{key}: {before.get(key)}`, and this one has "
                f"`{key}: {job.given.get(key)}`; write another `--out`."
            )
    return True


def _train(recipe: Recipe, arm: str, job: Job, folder: Path, dry: bool) -> None:
    if (newest := last_checkpoint(job.output)) is not None:
        job.args.resume_from_checkpoint = str(newest)
    if not dry:
        write_config(recipe, arm, folder, gpus=1)
    trainer = prepare_training(job)
    if dry:
        trainer.remove_callback(PrinterCallback)
    check_parity(trainer, prompt_of(recipe))
    run_training(trainer)
    del trainer
    gc.collect()  # the next arm's models need the room


def _save(recipe: Recipe, scores: Sequence[RecipeScore], options: Options, home: Path) -> list[RecipeScore]:
    """Write the arms down beside those of earlier runs of the same recipe. All of them, in the order of the table."""
    found = {score.arm: score for score in (*_earlier(recipe, options, home), *scores)}
    every = [found[arm] for arm in recipe.arms if arm in found]
    record = {
        "recipe": recipe.name,
        "versions": recipe.versions,
        "dry_run": options.dry,
        "paper": {arm: value.model_dump() for arm, value in recipe.paper.items()},
        "arms": [asdict(score) for score in every],
    }
    home.mkdir(parents=True, exist_ok=True)
    write_json(home / RESULTS, record, indent=2)
    return every


def _earlier(recipe: Recipe, options: Options, home: Path) -> list[RecipeScore]:
    if not (home / RESULTS).is_file():
        return []
    record = read_json_object(home / RESULTS, "delete it; arms that are finished are read again from their own folders")
    same = (record.get("versions"), record.get("dry_run")) == (recipe.versions, options.dry)
    return [RecipeScore(**{**arm, "warnings": tuple(arm["warnings"])}) for arm in record["arms"]] if same else []

"""A recipe from beginning to end: every arm trained and evaluated, one table. Finished parts are not repeated."""

import gc
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path

from rich.console import Console
from rich.text import Text
from transformers import PrinterCallback

from qtarget.data.user_files.yaml_file import read_yaml
from qtarget.disk.files import read_json_object, reading_fields, write_digested_json
from qtarget.disk.held_folders import check_not_replaced
from qtarget.disk.one_writer import one_writer, remove_unwritten
from qtarget.disk.seal import SEAL, file_damage, read_seal
from qtarget.evaluate.run.conduct import run_evaluation
from qtarget.evaluate.run.plan import EvaluationPlan
from qtarget.evaluate.run.progress_display import ProgressDisplay
from qtarget.evaluate.tasks import task
from qtarget.evaluate.tasks.lock_file import LOCK_NAME
from qtarget.evaluate.tasks.questions import sample_rows
from qtarget.job.config.checked_job import Job
from qtarget.job.config.read_job import job_of
from qtarget.job.teacher_cache import prepare_caches, write_caches
from qtarget.job.training import CONFIGURATION, LAST_GOOD, prepare_training, run_training
from qtarget.job.training_table import TrainingTable
from qtarget.recipes.dry import DRY_PROTOCOL, DRY_QUESTIONS, dry_models, dry_values
from qtarget.recipes.estimates import GIB, memory
from qtarget.recipes.launch import arm_values, write_config
from qtarget.recipes.parity import check_parity
from qtarget.recipes.recipe_files import Recipe
from qtarget.recipes.resolve import arm_of, trained_arms, without_sources, workload_of
from qtarget.recipes.run_options import RunOptions
from qtarget.recipes.table import RecipeScore, arm_score, comparison
from qtarget.study.quiet import quiet, quiet_libraries
from qtarget.teacher.cache.format import is_whole_cache
from qtarget.train.resumption.whole_checkpoints import STATE, checkpoints_in

RESULTS_FILE, EVALUATION = "results.json", "evaluation"


def run_recipe(recipe: Recipe, options: RunOptions, print_line: Callable[[str], None]) -> list[RecipeScore]:
    """Train and evaluate the arms, and write `results.json` beside them.

    Returns:
        The scores of these arms, and of those that earlier runs of the same recipe wrote there.

    Raises:
        ValueError: an unknown arm, a folder that holds another run, a damaged `results.json`, or rows and models that
            do not fit.
        SecondWriterError: another process runs the same recipe there.
        Interruption: on Ctrl-C; the same command goes on from there.
    """
    home = options.out / recipe.name
    with one_writer(home):
        return _run_arms(recipe, options, home, print_line)


def _run_arms(recipe: Recipe, options: RunOptions, home: Path, print_line: Callable[[str], None]) -> list[RecipeScore]:
    _earlier(recipe, options, home)  # a damaged file is refused before any work
    scores = []
    for arm in options.arms_of(recipe):
        model = _model(recipe, arm, home / arm, options, print_line)
        plan = evaluation_plan(recipe, arm, model, home / arm, options)
        score = arm_score(arm, run_evaluation(plan, None if options.dry else ProgressDisplay()))
        print_line(f"{arm}: {100 * score.mean:.1f}")
        scores.append(score)
    return _save(recipe, scores, options, home)


def check_results(recipes: Sequence[Recipe], options: RunOptions) -> None:
    """Refuse a folder in which the results of an earlier run are damaged, before any work.

    Raises:
        ValueError: names the file, and what to do.
    """
    for recipe in recipes:
        _earlier(recipe, options, options.out / recipe.name)


def check_arms(chosen: Sequence[Recipe], options: RunOptions) -> None:
    """Check the configuration of every arm that is trained, before any work.

    Raises:
        ValueError: a key that a user set is unknown, or its value is none; the message names the arm.
    """
    for each in chosen:
        for arm in (arm for arm in options.arms_of(each) if arm in trained_arms(each)):
            try:
                job_of(without_sources(arm_values(each, arm, options.out / each.name / arm, gpus=1)))
            except ValueError as error:
                raise ValueError(f"{each.name}, {arm}: {error}") from error


def run_all(recipes: Sequence[Recipe], options: RunOptions, console: Console) -> None:
    """Run one recipe after the other and print a table of each. The first failure stops; what is finished stays."""
    for recipe in recipes:
        options.arms_of(recipe)
    with quiet() if options.dry else quiet_libraries():
        for recipe in recipes:
            console.print(recipe.title, style="bold")
            scores = run_recipe(recipe, options, lambda line: console.print(f"  {line}"))
            console.print(comparison(recipe, scores, options.dry, options.changed(recipe)))
    console.print(Text.assemble("Models, samples and figures: ", (str(options.out), "bold")))


def evaluation_plan(recipe: Recipe, arm: str, model: str, folder: Path, options: RunOptions) -> EvaluationPlan:
    """The evaluation of an arm's model: the recipe's tasks and protocol, with the prompt that training used."""
    settings, names = recipe.evaluation, tuple(recipe.evaluation.tasks.value)
    fields = ("k", "temperature", "top_p", "max_new_tokens")
    protocol = {name: getattr(settings, name).value for name in fields} | {"prompt": prompt_of(recipe)}
    if not options.dry:
        dtype, out = str(settings.dtype.value), folder / EVALUATION
        return EvaluationPlan(
            model, names, out, protocol, options.limit, options.rows, dtype=dtype, generator=options.generator
        )
    rows = {name: sample_rows(task(name)) for name in names}
    small, lock = {**protocol, **DRY_PROTOCOL}, options.out / LOCK_NAME
    return EvaluationPlan(
        model, names, folder / EVALUATION, small, limit=DRY_QUESTIONS, rows=rows, lock=lock, device="cpu"
    )


def prompt_of(recipe: Recipe) -> str:
    """The name of the prompt that training and evaluation share."""
    return str(recipe.model.job["prompt_format"].value)


def _model(recipe: Recipe, arm: str, folder: Path, options: RunOptions, print_line: Callable[[str], None]) -> str:
    """The directory or hub name of the arm's model. It is trained where that is not done yet."""
    if arm_of(recipe, arm).job is None:
        return dry_models(recipe, options.out)["model"] if options.dry else str(recipe.model.job["model"].value)
    values = without_sources(arm_values(recipe, arm, folder, gpus=1))
    job = job_of(dry_values(recipe, values, options.out) if options.dry else values)
    if is_trained(job):
        print_line(f"{arm}: trained already, in {job.output}")
    else:
        if not options.dry and not recipe.changes:
            need = memory(workload_of(recipe, arm, gpus=1)).total / GIB
            print_line(f"{arm}: training needs about {need:.0f} GiB of one GPU, by estimate; --launch is for several")
        if "teacher_cache" in values and not options.dry:
            _ask_teacher(job)
        _train(recipe, arm, job, folder, options.dry)
    return str(job.output)


def _ask_teacher(job: Job) -> None:
    """Write the teacher's cache, unless an earlier arm did.

    Raises:
        Refusal: the teacher does not load, or the folder holds another cache.
    """
    prepared = prepare_caches(job)
    if not all(is_whole_cache(model.folder) for model in prepared.models):
        write_caches(prepared)


def is_trained(job: Job) -> bool:
    """Whether the run is finished.

    Raises:
        ValueError: its folder holds a run of another configuration; the message names the first key that differs. Or
            the configuration there is not the one that its model was sealed with.
    """
    path = job.output / CONFIGURATION
    if not path.is_file():
        return False
    try:
        before = read_yaml(path).values
    except ValueError as error:
        raise ValueError(
            f"{path} is damaged, so nothing says what {job.output} was trained with ({error}). Write another `--out`, "
            f"or delete {job.output} to train it again."
        ) from error
    _check_sealed_with(path)
    may_differ = ("gradient_accumulation_steps", "resume_from_checkpoint", "bf16", "fp16", "dataloader_pin_memory")
    for key in sorted(before.keys() | job.given.keys()):
        if key not in may_differ and before.get(key) != job.given.get(key):
            raise ValueError(
                f"{job.output} holds a run with `{key}: {before.get(key)}`, and this one has "
                f"`{key}: {job.given.get(key)}`; write another `--out`."
            )
    return True


def _check_sealed_with(configuration: Path) -> None:
    """Refuse a configuration beside a model that was sealed with another one."""
    folder = configuration.parent
    sealed = read_seal(folder) if (folder / SEAL).is_file() else None
    if sealed and configuration.name in sealed.files and file_damage(folder, sealed, [configuration.name]):
        raise ValueError(
            f"{configuration} is not what the model beside it was sealed with, so the two are of different runs or it "
            f"was edited. Bring it back, write another `--out`, or delete {folder} to train it again."
        )


def _train(recipe: Recipe, arm: str, job: Job, folder: Path, dry: bool) -> None:
    _choose_start(job)
    if not dry:
        write_config(recipe, arm, folder, gpus=1)
    trainer = prepare_training(job)
    if dry:
        trainer.remove_callback(PrinterCallback)
    check_parity(trainer, prompt_of(recipe))
    with TrainingTable() if not dry else nullcontext() as table:
        if table is not None:
            table.replace_printers_of(trainer)
        run_training(trainer, lambda _: "the same command")
    del trainer
    gc.collect()  # frees this arm's models before the next arm's are loaded


def _choose_start(job: Job) -> None:
    """Let a run go on from its newest whole checkpoint, or begin anew where it was stopped before its first one.

    Raises:
        ValueError: all its checkpoints are damaged, or it ended at a step that was not finite.
    """
    found = checkpoints_in(job.output)
    finished = [each for each in found.skipped if any((each.folder / name).is_file() for name in (SEAL, STATE))]
    if found.newest is not None:
        job.args.resume_from_checkpoint = str(found.newest)
    elif finished or any(job.output.glob(LAST_GOOD.format("*"))):
        broken = ", ".join(map(str, finished)) or "it has no checkpoint"
        raise ValueError(
            f"{job.output} holds a run that cannot go on: {broken}. Delete it to train this arm again, or write "
            "another `--out`."
        )
    else:
        remove_unwritten(job.output)


def _save(recipe: Recipe, scores: Sequence[RecipeScore], options: RunOptions, home: Path) -> list[RecipeScore]:
    """Write and return these scores and those of earlier runs of the same recipe, in the order of the table."""
    by_arm = {score.arm: score for score in (*_earlier(recipe, options, home), *scores)}
    every = [by_arm[arm] for arm in recipe.arms if arm in by_arm]
    record = {
        "recipe": recipe.name,
        "versions": recipe.versions,
        "dry_run": options.dry,
        "changed": options.changed(recipe),
        "paper": {arm: value.model_dump() for arm, value in recipe.paper.items()},
        "arms": [asdict(score) for score in every],
    }
    check_not_replaced(home)
    home.mkdir(parents=True, exist_ok=True)
    write_digested_json(home / RESULTS_FILE, record, indent=2)
    return every


def _earlier(recipe: Recipe, options: RunOptions, home: Path) -> list[RecipeScore]:
    """The scores that an earlier run wrote; none where that run was of another version of the recipe, dry where this is
    not, or changed otherwise."""
    if not (home / RESULTS_FILE).is_file():
        return []
    remedy = "delete it; arms that are finished are read again from their own folders"
    record = read_json_object(home / RESULTS_FILE, remedy)
    if (other := record.get("recipe", recipe.name)) != recipe.name:
        raise ValueError(f"{home / RESULTS_FILE} is damaged (it is of the recipe {other!r}); {remedy}.")
    mine = (recipe.versions, options.dry, options.changed(recipe))
    same = (record.get("versions"), record.get("dry_run"), record.get("changed", {})) == mine
    with reading_fields(home / RESULTS_FILE, remedy):
        return [RecipeScore(**{**arm, "warnings": tuple(arm["warnings"])}) for arm in record["arms"]] if same else []

"""The command line: arguments and wiring. What a command needs is imported inside it, so that help is quick."""

import json
import os
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

try:
    import typer
    from rich.console import Console
except ModuleNotFoundError as missing:
    raise SystemExit(f"qtarget's command line needs {missing.name}; write: pip install 'qtarget[train]'") from None

from qtarget.outcomes import Interrupted, Refused

FAILED, WRONG, STOPPED = 1, 2, 130
"""Exit codes: the run failed; what was asked for is wrong, and nothing was run; the user stopped it."""

app = typer.Typer(
    name="qtarget",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Fine-tune language models by designing the target distribution.",
)
lab = typer.Typer(no_args_is_help=True, help="The embedded lab: small worlds, models and data.")
app.add_typer(lab, name="lab")
teacher_app = typer.Typer(no_args_is_help=True, help="Teachers for later: cached on disk, or behind a server.")
app.add_typer(teacher_app, name="teacher")
recipes_app = typer.Typer(no_args_is_help=True, help="The paper's ten settings: their values, costs, and runs.")
app.add_typer(recipes_app, name="recipes")

TAKES_WORDS = {"ignore_unknown_options": True}
RUN_HELP = """

CONFIG.yaml holds `key: value` lines, and `--key value` behind it overrides one.

    model           directory or hub name
    train_dataset   .jsonl, .json or .parquet files, a directory or a hub name
    eval_dataset    the same; evaluated at the end, and as eval_strategy says
    method          a name of `qtarget methods`; its hyperparameters stand
                    beside it, as in `eta: 0.5`
    teacher         directory or hub name, for methods that need one
    reference       the same, or `initial`: the model as training starts

Every key of trl.SFTConfig and trl.ModelConfig is taken too (learning_rate,
max_length, use_peft, lora_r, ...), and TRL's model_name_or_path and dataset_name.
"""
CACHE_HELP = """

CONFIG.yaml is the run's own, as for `qtarget train`, with the folders to write:

    teacher_cache   folder for the teacher (a list for several)
    reference_cache folder for the reference

    teacher_top_k           likeliest tokens kept at each token (64)
    cache_sampled           keep draws instead, for kd and kd-hybrid
    cache_bytes_per_token   a budget in the place of teacher_top_k
    cache_dtype             float16 or float32
    cache_batch_tokens      tokens through the model at once (8192)
    cache_shard_tokens      tokens in a file (65536)

Stopped at any moment, the same command goes on from the last finished shard.
Under `accelerate launch` the processes share the shards.
"""
EVAL_HELP = """Ask a model a task's questions, k times each, grade the answers, and say how sure the average is.

A task brings its own protocol (prompt, k, temperature, length); options override
it, and the results say so. Every sample is on disk as soon as it is drawn:
stopped at any moment, the same command goes on from there.

    qtarget eval MODEL --task math-500,amc23 --out runs/math
    qtarget eval MODEL --task medqa --out runs/med --generator http --url URL
    qtarget eval MODEL --task math-500 --out runs/math --regrade
"""
COMPARE_HELP = """Compare evaluated models on the same questions, the first named being the baseline.

An arm is a folder of `qtarget eval`, as FOLDER or NAME=FOLDER, or the training
seeds of one way of training, as NAME=FOLDER,FOLDER,…; the same order of seeds in
every arm. Differences are paired by question and seed, and p values are adjusted
for the number of arms.
"""
ConfigWords = Annotated[
    list[str] | None,
    typer.Argument(metavar="[CONFIG.yaml] [--KEY VALUE]", show_default=False, help="The run, and keys over its own."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]


@app.callback()
def options(
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
) -> None:
    """`main` takes `--debug` out wherever it stands; it is declared here for the help."""


@app.command(
    context_settings=TAKES_WORDS, short_help="Fine-tune a model on your rows.", help="Fine-tune a model." + RUN_HELP
)
def train(words: ConfigWords = None) -> None:
    from qtarget.job.announce import announce, finish
    from qtarget.job.config.flags import parse_words
    from qtarget.job.config.job import read_job
    from qtarget.job.training import prepare_training, run_training

    trainer = refused(lambda: prepare_training(read_job(parse_words(words or []))))
    announce(trainer)
    run_training(trainer)
    finish(trainer)


@app.command(
    context_settings=TAKES_WORDS,
    short_help="Check a run without training.",
    help="Check everything a run needs, show a row as it is trained on, and try one step." + RUN_HELP,
)
def validate(words: ConfigWords = None, as_json: AsJson = False) -> None:
    from qtarget.job.config.flags import parse_words
    from qtarget.job.config.job import read_job
    from qtarget.job.training import rehearsed
    from qtarget.job.validate_view import rehearsal_view, resolved_configuration

    job, found = refused(lambda: rehearsed(read_job(parse_words(words or []))))
    if as_json:
        return _print_json({"configuration": resolved_configuration(job), **asdict(found)})
    Console().print(rehearsal_view(job, found), "\n[green]ready[/]: `qtarget train` with the same words runs it.")


@app.command()
def methods(
    name: Annotated[str | None, typer.Argument(help="A method, to see all of it.", show_default=False)] = None,
    page: Annotated[Path | None, typer.Option(help="List nothing; write this page's table of methods anew.")] = None,
    as_json: AsJson = False,
) -> None:
    """List the objectives, or show one: formula, source, limits, hyperparameters."""
    from qtarget.disk.pages import rewrite_page
    from qtarget.job.catalogue_page import catalogue_parts
    from qtarget.job.method_pages import entries, entry
    from qtarget.job.method_view import catalogue_table, method_page

    if page is not None:
        return refused(lambda: rewrite_page(page, catalogue_parts()))
    if name is None:
        return _print_json([asdict(one) for one in entries()]) if as_json else _print(catalogue_table, entries())
    found = refused(lambda: entry(name))
    return _print_json(asdict(found)) if as_json else _print(method_page, found)


@app.command()
def tasks(
    page: Annotated[Path | None, typer.Option(help="List nothing; write this page's table of tasks anew.")] = None,
    as_json: AsJson = False,
) -> None:
    """List the tasks of `qtarget eval`: how each is asked and graded, and where its rows come from."""
    from qtarget.disk.pages import rewrite_page
    from qtarget.evaluate.tasks import TASKS
    from qtarget.evaluate.tasks.view import task_facts, task_parts, task_table

    if page is not None:
        return refused(lambda: rewrite_page(page, task_parts()))
    _print_json(task_facts()) if as_json else _print(task_table, list(TASKS.values()))


@app.command("eval", help=EVAL_HELP, short_help="Ask a model a task's questions, grade it, and say how sure that is.")
def evaluate(
    model: Annotated[str, typer.Argument(help="Folder or hub name; of an endpoint, the name it serves.")],
    task: Annotated[list[str], typer.Option(help="NAME[,NAME…]", show_default=False)],
    out: Annotated[Path, typer.Option(help="Folder of samples and results.", show_default=False)],
    k: Annotated[int | None, typer.Option("--k", help="Samples of each question.", show_default="the task's")] = None,
    temperature: Annotated[float | None, typer.Option(show_default="the task's")] = None,
    top_p: Annotated[float | None, typer.Option(show_default="the task's")] = None,
    max_new_tokens: Annotated[int | None, typer.Option(show_default="the task's")] = None,
    prompt: Annotated[str | None, typer.Option(help="Name of a prompt.", show_default="the task's")] = None,
    seed: Annotated[int | None, typer.Option(help="Of all samples.", show_default="0")] = None,
    limit: Annotated[int | None, typer.Option(help="Only the first questions.", show_default=False)] = None,
    rows: Annotated[list[str] | None, typer.Option(help="TASK=FILE, rows of your own.", show_default=False)] = None,
    generator: Annotated[str, typer.Option(help="hf, http or vllm.")] = "hf",
    url: Annotated[str | None, typer.Option(help="Of an OpenAI-compatible server.", show_default=False)] = None,
    adapter: Annotated[str | None, typer.Option(help="Folder of a LoRA adapter.", show_default=False)] = None,
    revision: Annotated[str | None, typer.Option(help="Commit or branch on the hub.", show_default=False)] = None,
    batch_size: Annotated[int | None, typer.Option(help="Completions at once.", show_default="the engine's")] = None,
    dtype: Annotated[str, typer.Option(help="A torch dtype's name, or auto.")] = "auto",
    device: Annotated[str, typer.Option(help="As torch names it, or auto.")] = "auto",
    trust_remote_code: Annotated[bool, typer.Option("--trust-remote-code", help="Run code of the model's.")] = False,
    regrade: Annotated[bool, typer.Option("--regrade", help="Only grade the samples again.")] = False,
    base: Annotated[str | None, typer.Option(help="Model before training: forgetting.", show_default=False)] = None,
    reference_rows: Annotated[Path | None, typer.Option(help="Rows for calibration.", show_default=False)] = None,
    as_json: AsJson = False,
) -> None:
    from qtarget.evaluate.run.conduct import conduct_evaluation
    from qtarget.evaluate.run.plan import plan_of
    from qtarget.evaluate.run.prepare import prepare_evaluation
    from qtarget.evaluate.run.view import quiet_progress, results_view

    protocol = {"k": k, "temperature": temperature, "top_p": top_p, "max_new_tokens": max_new_tokens}
    plan = refused(
        lambda: plan_of(
            model,
            task,
            out,
            {**protocol, "prompt": prompt, "seed": seed},
            rows or [],
            limit=limit,
            generator=generator,
            url=url,
            adapter=adapter,
            revision=revision,
            batch_size=batch_size,
            dtype=dtype,
            device=device,
            trust_remote_code=trust_remote_code,
            regrade=regrade,
            base=base,
            reference_rows=reference_rows,
        )
    )
    progress = quiet_progress()
    results = conduct_evaluation(refused(lambda: prepare_evaluation(plan)), progress)
    _print_json(results.as_json()) if as_json else _print(results_view, results)


@app.command(short_help="Compare evaluated models on the same questions.", help=COMPARE_HELP)
def compare(
    arms: Annotated[list[str], typer.Argument(metavar="BASELINE OTHER…", show_default=False)],
    out: Annotated[Path | None, typer.Option(help="Folder for table, picture and JSON.", show_default=False)] = None,
    to: Annotated[str | None, typer.Option(help="inspect: logs for its viewer, in --out.", show_default=False)] = None,
    as_json: AsJson = False,
) -> None:
    from qtarget.evaluate.compare.report import compare_folders, write_comparison
    from qtarget.evaluate.compare.view import comparison_view

    found = refused(lambda: compare_folders(arms, out, to))
    if out is not None:
        write_comparison(found, out)
    if found.tables is not None:
        _print_json(asdict(found.tables)) if as_json else _print(comparison_view, found.tables)
    print(*found.written, sep="\n", file=sys.stderr)


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="Directory for models, metrics, table and picture.")] = Path("runs/demo"),
    world: Annotated[str | None, typer.Option(help="One world of the lab.", show_default="two of them")] = None,
    seed: Annotated[int, typer.Option(help="Seed of the run.")] = 0,
    quick: Annotated[bool, typer.Option("--quick", help="A smaller run, to see that it works.")] = False,
) -> None:
    """Fine-tune the lab's model under several objectives and compare them."""
    from qtarget import lab as embedded
    from qtarget.study.demo import run_demo

    refused(lambda: world and embedded.world(world))
    run_demo(out=out, world=world, seed=seed, quick=quick)


@app.command()
def study(
    results: Annotated[Path, typer.Option(help="Folder of one JSON file a run.")] = Path("runs/study/results"),
    models: Annotated[Path, typer.Option(help="Folder of models that do not ship.")] = Path("runs/study/models"),
    workers: Annotated[int, typer.Option(help="Processes; each keeps a core busy.", min=1)] = 1,
    hours: Annotated[float | None, typer.Option(help="Cut steps to fit; seeds are never cut.", min=0.01)] = None,
    quick: Annotated[bool, typer.Option("--quick", help="One setting, to see that it works.")] = False,
    page: Annotated[Path | None, typer.Option(help="Run nothing; write this page's tables and pictures anew.")] = None,
) -> None:
    """Ten settings of the lab by five methods by five seeds, and a sweep: when does which target pay?

    It runs for hours, prints its estimate first, keeps each run as it ends, and goes on from there.
    """
    from qtarget.study.miniature.main import rewrite, run_study

    if page is not None:
        return refused(lambda: rewrite(page, results))
    run_study(results, models, workers=workers, hours=hours, quick=quick)


@lab.command("build")
def build_lab(
    world: Annotated[str, typer.Option(help="World of the lab.")] = "weak-operator",
    out: Annotated[Path, typer.Option(help="Directory for the student and the teacher.")] = Path("runs/lab"),
    seed: Annotated[int, typer.Option(help="Seed of the pre-training.")] = 0,
) -> None:
    """Pre-train a world's student and teacher from a seed."""
    from qtarget import lab as embedded

    found = refused(lambda: embedded.world(world))
    embedded.build(found, seed, out)
    print(f"student and teacher of {world} are in {out}")


@teacher_app.command(
    context_settings=TAKES_WORDS,
    short_help="Write down what a run's teachers say about its rows.",
    help="Write what the teachers (and the reference) of a run say about its rows to disk, ahead of the run."
    + CACHE_HELP,
)
def cache(words: ConfigWords = None) -> None:
    from qtarget.job.config.flags import parse_words
    from qtarget.job.config.job import read_job
    from qtarget.job.teacher_cache import prepare_cache, write

    write(refused(lambda: prepare_cache(read_job(parse_words(words or [])))))


@teacher_app.command()
def verify(
    folder: Annotated[Path, typer.Argument(help="Folder of a cache.", show_default=False)], as_json: AsJson = False
) -> None:
    """Check every hash and number of a cache; show how much of the teacher it captured."""
    from qtarget.job.teacher_cache_view import report_view
    from qtarget.teacher.cache import verify_cache as verified

    report = refused(lambda: verified(folder))
    _print_json(asdict(report)) if as_json else _print(report_view, report)
    if report.problems:
        raise typer.Exit(FAILED)


@teacher_app.command()
def serve(
    model: Annotated[str, typer.Argument(help="Directory or hub name of a causal language model.")],
    host: Annotated[str, typer.Option(help="Another than loopback needs QTARGET_TEACHER_TOKEN.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="0 for any that is free.", min=0, max=65535)] = 8321,
    dtype: Annotated[str, typer.Option(help="A torch dtype's name, or auto for the checkpoint's own.")] = "auto",
    top_k_limit: Annotated[int, typer.Option(help="The most tokens kept of a distribution.", min=0)] = 256,
    batch_tokens: Annotated[int, typer.Option(help="Tokens through the model at once.", min=1)] = 8192,
    waiting: Annotated[int, typer.Option(help="Requests that may wait; more are sent away.", min=0)] = 16,
) -> None:
    """Answer trainings over HTTP with what a teacher expects at each token."""
    from qtarget.teacher.served.server import open_server
    from qtarget.teacher.served.wire import Limits

    server = refused(lambda: open_server(model, host, port, dtype, Limits(top_k_limit, batch_tokens, waiting)))
    server.run()


@recipes_app.command("list")
def list_recipes(as_json: AsJson = False) -> None:
    """List the settings with what the paper's figure shows for them."""
    from qtarget.recipes.recipe_files import recipes
    from qtarget.recipes.view import recipe_facts, recipes_table

    _print_json([recipe_facts(one) for one in recipes()]) if as_json else _print(recipes_table, recipes())


@recipes_app.command("show")
def show_recipe(
    name: Annotated[str, typer.Argument(help="A name of `qtarget recipes list`.", show_default=False)],
    gpus: Annotated[int | None, typer.Option(help="GPUs of one machine.", min=1, show_default="the recipe's")] = None,
    as_json: AsJson = False,
) -> None:
    """Show a setting: every value and its source, estimated memory and hours, lines to run it, what is left open."""
    from functools import partial

    from qtarget.recipes.recipe_files import recipe
    from qtarget.recipes.view import recipe_facts, recipe_page

    found = refused(lambda: recipe(name))
    facts = refused(lambda: recipe_facts(found, gpus))
    _print_json(facts) if as_json else _print(partial(recipe_page, gpus=gpus), found)


@recipes_app.command("run")
def run_recipes(
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
) -> None:
    """Train and evaluate every arm of a setting, with the paper's figures beside. What is finished is read."""
    from qtarget.recipes.command import chosen, options_of, print_launch
    from qtarget.recipes.run import run_all

    found = refused(lambda: chosen(names or [], every))
    options = refused(lambda: options_of(found, methods, dry_run, out, "vllm" if vllm else "hf"))
    if launch:
        return refused(lambda: print_launch(found, options, gpus, Console(soft_wrap=True)))
    run_all(found, options, Console())


def refused(prepare: Callable[[], Any]) -> Any:
    """What `prepare` returns; its complaints are about what was asked for, and nothing was run yet."""
    try:
        return prepare()
    except (ValueError, OSError, ImportError, RuntimeError) as error:
        raise Refused(str(error)) from error


def main(argv: list[str] | None = None) -> None:
    """Run a command and exit: 0 done, 1 the run failed, 2 it was refused, 130 the user stopped it."""
    words = sys.argv[1:] if argv is None else list(argv)
    debug = "--debug" in words
    try:
        app([word for word in words if word != "--debug"], prog_name="qtarget", standalone_mode=True)
    except Exception as error:
        code = _explained(error)
        if debug or code is None:
            raise
        sys.exit(code)


def _explained(error: Exception) -> int | None:
    """Print an expected error and return its exit code; None for one that is a fault of ours."""
    if isinstance(error, Refused):
        return _say(str(error), WRONG) if _first_rank() else WRONG
    if isinstance(error, Interrupted):
        return _say(str(error), STOPPED)
    if isinstance(error, ImportError):  # a library is missing, or of a version that was not tested
        return _say(str(error), WRONG)
    return _say(str(error), FAILED) if isinstance(error, ValueError | OSError) else None


def _say(message: str, code: int) -> int:
    Console(stderr=True, soft_wrap=True, highlight=False).print(message, style="red", markup=False)
    return code


def _first_rank() -> bool:
    """Whether this process speaks for all ranks, which all see the same configuration."""
    return os.environ.get("RANK", "0") == "0"


def _print(view: Callable[..., Any], shown: Any) -> None:
    """Something made visible at the terminal's width."""
    console = Console()
    console.print(view(shown, console.width))


def _print_json(value: Any) -> None:
    print(json.dumps(value, indent=2, ensure_ascii=False, default=str))

"""`qtarget tasks`, `eval`, `compare` and `answers`."""

import inspect
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from qtarget.cli.terminal import AsJson, ReadsPickles, TrustsCode, preparation, print_json, print_view
from qtarget.console import SafeConsole

if TYPE_CHECKING:
    from qtarget.evaluate.run.plan import EvaluationPlan

evaluation_app = typer.Typer()

EVAL_HELP = """Ask a model a task's questions, k times each, grade the answers, and say how sure the average is.

A task brings its own protocol (prompt, k, temperature, length); options override
it, and the results say so. Every sample is on disk as soon as it is drawn:
stopped at any moment, the same command goes on from there.

    qtarget eval MODEL --task math-500,amc23 --out runs/math
    qtarget eval MODEL --questions mine.jsonl --grade exact --out runs/mine
    qtarget eval MODEL --task medqa --out runs/med --generator http --url URL
    qtarget eval MODEL --task math-500 --out runs/math --regrade
"""
COMPARE_HELP = """Compare evaluated models on the same questions, the first named being the baseline.

An arm is a folder of `qtarget eval`, as FOLDER or NAME=FOLDER, or the training
seeds of one way of training, as NAME=FOLDER,FOLDER,…; the same order of seeds in
every arm. Differences are paired by question and seed, and p values are adjusted
for the number of arms.
"""
GRADE_HELP = "exact, contains, regex, number, choice, math, judge or python:FILE:FUNCTION."
PROTOCOL_OPTIONS = ("k", "temperature", "top_p", "max_new_tokens", "prompt", "seed")

GradeName = Annotated[str | None, typer.Option(help=GRADE_HELP, show_default=False)]
GraderSettings = Annotated[list[str] | None, typer.Option(help="KEY=VALUE, a setting of the grader.")]
FieldNames = Annotated[list[str] | None, typer.Option(help="question=F,answer=F,…: where --questions has what.")]
JudgeUrl = Annotated[str | None, typer.Option(help="The judge's server, for --grade judge.")]
JudgeModel = Annotated[str | None, typer.Option(help="The judge's name there.")]
JudgePrompt = Annotated[Path | None, typer.Option(help="File with the judge's prompt.")]


@dataclass(frozen=True)
class EvalOptions:
    """Arguments and options of `qtarget eval`, in the order of its help. None: the task's or the engine's own."""

    model: Annotated[str, typer.Argument(help="Folder or hub name; of an endpoint, the name it serves.")]
    out: Annotated[Path, typer.Option(help="Folder of samples and results.", show_default=False)]
    task: Annotated[list[str] | None, typer.Option(help="NAME or FILE.yaml, several with commas.")] = None
    questions: Annotated[list[str] | None, typer.Option(help="[NAME=]FILE, questions of your own.")] = None
    grade: GradeName = None
    grade_option: GraderSettings = None
    fields: FieldNames = None
    judge_url: JudgeUrl = None
    judge_model: JudgeModel = None
    judge_prompt: JudgePrompt = None
    hand_grades: Annotated[Path | None, typer.Option(help="Answers graded by hand, to check the judge.")] = None
    protocol_name: Annotated[str, typer.Option("--protocol", help="task, or thinking: 32,768 tokens.")] = "task"
    k: Annotated[int | None, typer.Option("--k", help="Samples of each question.", show_default="the task's")] = None
    temperature: Annotated[float | None, typer.Option(show_default="the task's")] = None
    top_p: Annotated[float | None, typer.Option(show_default="the task's")] = None
    max_new_tokens: Annotated[int | None, typer.Option(show_default="the task's")] = None
    prompt: Annotated[str | None, typer.Option(help="Name of a prompt.", show_default="the task's")] = None
    seed: Annotated[int | None, typer.Option(help="Of all samples.", show_default="0")] = None
    limit: Annotated[int | None, typer.Option(help="Only the first questions.", show_default="all")] = None
    rows: Annotated[list[str] | None, typer.Option(help="TASK=FILE, rows of your own.", show_default=False)] = None
    generator: Annotated[str, typer.Option(help="hf, http or vllm.")] = "hf"
    url: Annotated[str | None, typer.Option(help="Of an OpenAI-compatible server.", show_default=False)] = None
    adapter: Annotated[str | None, typer.Option(help="Folder of a LoRA adapter.", show_default=False)] = None
    revision: Annotated[str | None, typer.Option(help="Commit or branch on the hub.", show_default=False)] = None
    batch_size: Annotated[int | None, typer.Option(help="Completions at once.", show_default="the engine's")] = None
    dtype: Annotated[str, typer.Option(help="A torch dtype's name, or auto.")] = "auto"
    device: Annotated[str, typer.Option(help="As torch names it, or auto.")] = "auto"
    trust_remote_code: TrustsCode = False
    allow_pickled_weights: ReadsPickles = False
    regrade: Annotated[bool, typer.Option("--regrade", help="Only grade the samples again.")] = False
    base: Annotated[str | None, typer.Option(help="Model before training: forgetting.", show_default=False)] = None
    reference_rows: Annotated[Path | None, typer.Option(help="Rows for calibration.", show_default=False)] = None
    as_json: AsJson = False

    def plan(self) -> "EvaluationPlan":
        """The evaluation that the options ask for.

        Raises:
            ValueError: rows for a task that is not evaluated.
        """
        from qtarget.evaluate.run.plan import plan_of
        from qtarget.evaluate.tasks.own_words import OwnWords, own_tasks_asked

        values = dict(vars(self))
        protocol = {name: values.pop(name) for name in PROTOCOL_OPTIONS}
        own = own_tasks_asked(OwnWords(**{field.name: values.pop(field.name) for field in fields(OwnWords)}))
        model, task, out, rows, _ = (values.pop(name) for name in ("model", "task", "out", "rows", "as_json"))
        return plan_of(model, task or [], out, protocol, rows or [], own, **values)


def options_from(form: type) -> Callable[[Callable[[Any], None]], Callable[..., None]]:
    """Decorator of a command that takes one `form`: Typer sees a parameter for each field of that dataclass."""

    def decorate(command: Callable[[Any], None]) -> Callable[..., None]:
        def typer_command(**values: Any) -> None:
            command(form(**values))

        signature = inspect.signature(form)
        typer_command.__signature__ = signature  # type: ignore[attr-defined]
        typer_command.__annotations__ = {name: field.annotation for name, field in signature.parameters.items()}
        return typer_command

    return decorate


@evaluation_app.command("tasks")
def tasks_command(
    page: Annotated[Path | None, typer.Option(help="List nothing; write this page's table of tasks anew.")] = None,
    as_json: AsJson = False,
) -> None:
    """List the tasks of `qtarget eval`: how each is asked and graded, and where its rows come from."""
    from qtarget.disk.pages import rewrite_page
    from qtarget.evaluate.tasks import TASKS
    from qtarget.evaluate.tasks.view import task_facts, task_parts, task_table

    if page is not None:
        with preparation():
            return rewrite_page(page, task_parts())
    print_json(task_facts()) if as_json else print_view(task_table, list(TASKS.values()))


@evaluation_app.command(
    "eval", help=EVAL_HELP, short_help="Ask a model a task's questions, grade it, and say how sure that is."
)
@options_from(EvalOptions)
def eval_command(options: EvalOptions) -> None:
    from qtarget.evaluate.run.conduct import conduct_evaluation
    from qtarget.evaluate.run.prepare import prepare_evaluation
    from qtarget.evaluate.run.progress_display import quiet_progress
    from qtarget.evaluate.run.view import results_view

    progress = quiet_progress()
    opened = {"MODEL": options.model, "--base": options.base, "--adapter": options.adapter}
    with preparation({} if options.generator == "http" else opened):
        prepared = prepare_evaluation(options.plan())
    results = conduct_evaluation(prepared, progress)
    print_json(results.as_json()) if options.as_json else print_view(results_view, results)


@evaluation_app.command("compare", short_help="Compare evaluated models on the same questions.", help=COMPARE_HELP)
def compare_command(
    arms: Annotated[list[str], typer.Argument(metavar="BASELINE OTHER…", show_default=False)],
    out: Annotated[Path | None, typer.Option(help="Folder for table, picture and JSON.", show_default=False)] = None,
    any_budget: Annotated[bool, typer.Option("--any-budget", help="Compare over different token budgets.")] = False,
    to: Annotated[str | None, typer.Option(help="inspect: logs for its viewer, in --out.", show_default=False)] = None,
    as_json: AsJson = False,
) -> None:
    from qtarget.evaluate.compare.report import compare_folders, write_comparison
    from qtarget.evaluate.compare.view import comparison_view

    with preparation():
        comparison = compare_folders(arms, out, to, any_budget)
    if out is not None:
        write_comparison(comparison, out)
    if comparison.tables is not None:
        print_json(asdict(comparison.tables)) if as_json else print_view(comparison_view, comparison.tables)
    SafeConsole(stderr=True, soft_wrap=True).print(*comparison.written, sep="\n")


ANSWERS_HELP = """Show a run's questions with their answers and grades, wrong ones first.

Two runs stand side by side, those questions first whose answers differ most.

    qtarget answers runs/math --only wrong
    qtarget answers runs/base runs/tuned --only differ --page answers.html
"""
TERMINAL_QUESTIONS, PAGE_QUESTIONS = 10, 500
"""Questions that are shown where `--limit` does not say."""


@evaluation_app.command(
    "answers", short_help="Show a run's questions with their answers, wrong ones first.", help=ANSWERS_HELP
)
def answers_command(
    run: Annotated[Path, typer.Argument(help="Folder of qtarget eval.", show_default=False)],
    run2: Annotated[Path | None, typer.Argument(help="Another, beside it.", show_default=False)] = None,
    task: Annotated[list[str] | None, typer.Option(help="NAME[,NAME…]", show_default="all")] = None,
    only: Annotated[str | None, typer.Option(help="wrong, right, unknown or differ.", show_default=False)] = None,
    limit: Annotated[
        int | None, typer.Option(help="Questions.", show_default=f"{TERMINAL_QUESTIONS}, of a page {PAGE_QUESTIONS}")
    ] = None,
    page: Annotated[Path | None, typer.Option(help="Write one HTML file instead.", show_default=False)] = None,
    full: Annotated[bool, typer.Option("--full", help="Do not shorten texts.")] = False,
    as_json: AsJson = False,
) -> None:
    from qtarget.evaluate.browse.answers_page import check_page, write_answers_page
    from qtarget.evaluate.browse.question_answers import read_questions
    from qtarget.evaluate.browse.view import answers_view

    with preparation():
        if page is not None:
            check_page(page)
        names = [name.strip() for words in task or [] for name in words.split(",") if name.strip()]
        most = limit if limit is not None else TERMINAL_QUESTIONS if page is None else PAGE_QUESTIONS
        report = read_questions([folder for folder in (run, run2) if folder is not None], names, only, most)
    if page is not None:
        write_answers_page(page, report)
        SafeConsole(stderr=True, soft_wrap=True).print(f"{len(report.questions)} of {report.total} questions: {page}")
    elif as_json:
        print_json(asdict(report))
    else:
        print_view(partial(answers_view, full=full), report)

"""`qtarget search`: a race of targets on a user's own rows and development questions."""

import shlex
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from qtarget.cli.evaluation_commands import (
    FieldNames,
    GradeName,
    GraderSettings,
    JudgeModel,
    JudgePrompt,
    JudgeUrl,
    options_from,
)
from qtarget.cli.library_noise import diverted_noise
from qtarget.cli.terminal import AsJson, preparation, print_json, print_view
from qtarget.cli.training_commands import PASS_KEYS_ON, ConfigArguments
from qtarget.console import SafeConsole

if TYPE_CHECKING:
    from qtarget.search.search_plan import SearchRequest

search_app = typer.Typer()
SEARCH_HELP = """Find the target which pays: a race of arms on your own rows and questions.

It takes the file of `qtarget train`. Each arm is an ordinary run of it with other
keys, as long as a rung says; every rung has twice the steps of the last, and an
arm that is clearly behind the best is dropped. The winner is trained again on
fresh seeds, beside the best sft, and asked questions that the race never read.

    qtarget search config.yaml --space space.yaml --questions dev.jsonl \\
        --grade number --k 4 --temperature 0.7 --out runs/search

Give development questions, never the test's. Without --questions the score is
the loss of the rows in `eval_dataset`. Without --space the arms are what
`qtarget inspect` finds candidates. A space is a file:

    arms:
      - {method: sft, learning_rate: [1e-5, 2e-5]}      # lists are a grid
      - {method: target-sft, eta: [0.2, 0.5], learning_rate: [1e-5, 3e-5]}
      - {method: dft, learning_rate: {low: 1e-5, high: 1e-4, log: true}, draws: 8}
    steps: 50        # of the first rung
    rungs: 3
    rows: 1000       # training rows that all arms share
    seed: 0
    confirm_seeds: 3

Stopped at any moment, the same command goes on; given twice, also on several
machines that share --out, both take part.
"""
DECODING = ("k", "temperature", "top_p", "max_new_tokens", "prompt")
EVAL_WORDS = (*DECODING, "generator", "batch_size")


@dataclass(frozen=True)
class SearchOptions:
    """Arguments and options of `qtarget search`, in the order of its help."""

    arguments: ConfigArguments = None
    out: Annotated[Path, typer.Option(help="Folder of runs and results.")] = Path("runs/search")
    space: Annotated[Path | None, typer.Option(help="The arms, a YAML file.", show_default="by `inspect`")] = None
    questions: Annotated[str | None, typer.Option(help="[NAME=]FILE, development questions.")] = None
    grade: GradeName = None
    grade_option: GraderSettings = None
    fields: FieldNames = None
    judge_url: JudgeUrl = None
    judge_model: JudgeModel = None
    judge_prompt: JudgePrompt = None
    k: Annotated[int | None, typer.Option("--k", help="Samples of each question.", show_default="eval's")] = None
    temperature: Annotated[float | None, typer.Option(show_default="eval's")] = None
    top_p: Annotated[float | None, typer.Option(show_default="eval's")] = None
    max_new_tokens: Annotated[int | None, typer.Option(show_default="eval's")] = None
    prompt: Annotated[str | None, typer.Option(help="Name of a prompt.", show_default="eval's")] = None
    generator: Annotated[str | None, typer.Option(help="hf or vllm.", show_default="hf")] = None
    batch_size: Annotated[int | None, typer.Option(help="Completions at once.", show_default="the engine's")] = None
    workers: Annotated[int, typer.Option(help="Runs beside one another; a GPU each.", min=1)] = 1
    launch: Annotated[
        str | None, typer.Option(help="As 'accelerate launch --num_processes 4'.", show_default=False)
    ] = None
    keep_models: Annotated[bool, typer.Option("--keep-models", help="Keep every run's weights.")] = False
    as_json: AsJson = False

    def request(self) -> "SearchRequest":
        """What is asked of the search."""
        from qtarget.evaluate.tasks.own_words import OwnWords
        from qtarget.job.config.flags import parse_arguments
        from qtarget.search.search_plan import SearchRequest

        named = {f.name: getattr(self, f.name) for f in fields(OwnWords) if hasattr(self, f.name)}
        own = OwnWords(**{**named, "questions": None if self.questions is None else [self.questions]})
        launch = tuple(shlex.split(self.launch or ""))
        protocol = {name: value for name in DECODING if (value := getattr(self, name)) is not None}
        run = parse_arguments(self.arguments or [])
        rest = (self.workers, launch, self.keep_models)
        return SearchRequest(run, self.space, self.out, own, self._eval_words(), protocol, *rest)

    def _eval_words(self) -> tuple[str, ...]:
        """Grader and decoding as words of `qtarget eval`."""
        words = []
        for name in ("grade", "grade_option", "fields", "judge_url", "judge_model", "judge_prompt", *EVAL_WORDS):
            value = getattr(self, name)
            for each in value if isinstance(value, list) else [value]:
                words += [] if each is None else [f"--{name.replace('_', '-')}", f"{each}"]
        return tuple(words)


@search_app.command(
    "search",
    context_settings=PASS_KEYS_ON,
    short_help="Race targets on your own rows and questions.",
    help=SEARCH_HELP,
)
@options_from(SearchOptions)
def search_command(options: SearchOptions) -> None:
    with diverted_noise():
        from qtarget.disk.place import check_place
        from qtarget.search.run_search import conduct_search
        from qtarget.search.search_plan import prepare_search
        from qtarget.search.view import search_view

        with preparation():
            check_place(options.out, f"`--out {options.out}`")
            search = prepare_search(options.request())
        progress = SafeConsole(stderr=options.as_json, soft_wrap=True)
        outcome = conduct_search(search, progress.print)
    if options.as_json:
        return print_json(outcome.as_json())
    print_view(search_view, outcome)
    best = options.out / "best.yaml"
    SafeConsole(soft_wrap=True).print(f"`qtarget train {best}` trains {outcome.advice.name} at full length")

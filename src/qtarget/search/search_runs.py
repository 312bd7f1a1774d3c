"""One run of a search: an arm trained and scored, by `qtarget train` and `qtarget eval`, and its result on disk."""

import math
import sys
import time
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from qtarget.console import printable
from qtarget.disk.files import read_json_object, reading_fields, write_digested_json
from qtarget.disk.one_writer import remove_unwritten
from qtarget.disk.seal import SEAL
from qtarget.evaluate.compare.arms import read_arm
from qtarget.search.arm_configs import RunLength, best_values, run_values, write_values
from qtarget.search.dev_questions import RACE
from qtarget.search.held_out_rows import scores_of_losses, units_of_rows
from qtarget.search.search_plan import HALVES, Search
from qtarget.search.search_space import SearchArm
from qtarget.search.teacher_caches import cache_names
from qtarget.study.own_commands import CommandSurroundings, FailedCommandError, run_qtarget

RUN_CONFIG, RUN_LOG, RUN_MODEL, RUN_ANSWERS, RUN_RESULT = "config.yaml", "log.txt", "model", "evaluation", "result.json"
PILOT_WEIGHTS = ("*.safetensors", "*.bin")
UNTOLD = " (its launcher does not say whether the system killed it; delete the run's folder to run it again)"
"""Behind the last words of a command that may have been killed."""
ROW_LOSSES = (sys.executable, "-m", "qtarget.search.row_losses")


@dataclass(frozen=True)
class SearchRun:
    """An arm at one length and one seed, scored on one half of the development questions.

    Attributes:
        place: of its folder, within the search's.
        part: "race" or "confirmation".
    """

    arm: SearchArm
    place: str
    steps: int
    seed: int
    part: str


@dataclass(frozen=True)
class RunResult:
    """What a run gave.

    Attributes:
        scores: by question or row, in their order; the higher, the better.
        units: the cluster of every question; None where each is its own.
        seconds: of training and scoring, by the process that ended it.
        failed: why there are no scores, in the command's own words; "" where there are.
    """

    scores: tuple[float, ...] = ()
    units: tuple[str, ...] | None = None
    seconds: float = 0.0
    failed: str = ""


def race_run(arm: SearchArm, rung: int, search: Search) -> SearchRun:
    """The run of an arm at a rung, counted from 1."""
    steps = search.steps_of_rung(rung)
    return SearchRun(arm, f"arms/{arm.folder}/rung-{rung}", steps, search.space.seed, RACE)


def read_result(run: SearchRun, search: Search) -> RunResult | None:
    """A run's result; None where it is not done.

    Raises:
        ValueError: the file is damaged.
    """
    path = search.out / run.place / RUN_RESULT
    if not path.is_file():
        return None
    remedy = f"delete {path.parent} to run it again"
    kept = read_json_object(path, remedy)
    with reading_fields(path, remedy):
        units = None if kept["units"] is None else tuple(kept["units"])
        return RunResult(tuple(kept["scores"]), units, kept["seconds"], kept["failed"])


@dataclass(frozen=True)
class RunPlace:
    """Where a run's commands are run: see `CommandSurroundings`."""

    search: Search
    around: CommandSurroundings = field(default_factory=CommandSurroundings)


def conduct_search_run(run: SearchRun, at: RunPlace) -> RunResult:
    """Train and score an arm, and keep the result. A command that fails is a result too.

    Raises:
        FailedCommandError: a signal ended a command, or a fault outside of it, which says nothing about the arm; no
            result is kept.
        SecondWriterError: a training that no search started writes into the run's folder.
    """
    search, home, started = at.search, at.search.out / run.place, time.monotonic()
    home.mkdir(parents=True, exist_ok=True)
    try:
        _train(run, at)
        result = _scored(run, at)
    except FailedCommandError as error:
        if error.signal is not None or error.is_outside or at.around.is_stopped():
            raise
        result = RunResult(failed=printable(error.last, 300) + ("" if error.is_told else UNTOLD))
    if not all(map(math.isfinite, result.scores)):
        result = RunResult(failed="its loss on the held-out rows is no number")
    result = replace(result, seconds=round(time.monotonic() - started, 1))
    write_digested_json(home / RUN_RESULT, asdict(result))
    if not search.keeps_models:
        drop_weights(home / RUN_MODEL)
    return result


def _train(run: SearchRun, at: RunPlace) -> None:
    """Train the arm, unless an earlier process has: its result is sealed last."""
    home, search = at.search.out / run.place, at.search
    if (home / RUN_MODEL / SEAL).is_file() and _weights_in(home / RUN_MODEL):
        return
    for folder in (RUN_MODEL, RUN_ANSWERS):
        remove_unwritten(home / folder)
    length = RunLength(run.steps, run.seed, search.space.rows, search.space.seed)
    cache = cache_names(search.caches, best_values(search.base, run.arm.keys))
    write_values(home / RUN_CONFIG, run_values(search.base, run.arm.keys, length, home / RUN_MODEL, cache))
    around = replace(at.around, program=search.launch, is_launched=True) if search.launch else at.around
    run_qtarget(["train", str(home / RUN_CONFIG)], home / RUN_LOG, around)


def _scored(run: SearchRun, at: RunPlace) -> RunResult:
    home, search = at.search.out / run.place, at.search
    part = search.out / HALVES / f"{run.part}.jsonl"
    if search.evaluation is None:
        around = replace(at.around, program=ROW_LOSSES)
        run_qtarget([str(home / RUN_MODEL), str(part), str(home / "losses.json")], home / RUN_LOG, around)
        losses = read_json_object(home / "losses.json", f"delete {home}")["losses"]
        numbers = [math.nan if loss is None else loss for loss in losses]
        return RunResult(tuple(scores_of_losses(numbers, part)), units_of_rows(part))
    asked = ["--questions", f"{search.evaluation.name}={part.absolute()}", "--seed", str(search.space.seed)]
    words = ["eval", str(home / RUN_MODEL), *asked, *search.evaluation.words, "--out", str(home / RUN_ANSWERS)]
    run_qtarget(words, home / RUN_LOG, at.around)
    arm = read_arm(run.arm.name, [home / RUN_ANSWERS])
    (answers,) = arm.seeds[0].values()
    units = [question.unit for question in answers.questions]
    own = len(set(units)) == len(units)
    return RunResult(tuple(arm.shares(search.evaluation.name)[0]), None if own else tuple(units))


def drop_weights(model: Path) -> None:
    """Delete a pilot's weights, which nothing reads again; what it measured and answered stays."""
    for path in _weights_in(model):
        path.unlink(missing_ok=True)


def _weights_in(model: Path) -> list[Path]:
    return [path for pattern in PILOT_WEIGHTS for path in model.glob(pattern)]

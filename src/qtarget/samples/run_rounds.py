"""Rounds of `qtarget train`: sample from the student, ask the teacher about what it said, train, and again.

Each stage is a command of its own in the round's folder, and each goes on where it was stopped: samples from the last
one on disk, a cache from its last shard, a training from its newest whole checkpoint. What is done is not done again.

    out/run.json                        what is run, with digests of what is read: another run in the folder is refused
    out/round-1/sample.yaml, samples/   the samples and their rows, of `qtarget sample`
    out/round-1/teacher-cache-1/        what the teacher says of them, of `qtarget teacher cache`
    out/round-1/train.yaml, model/      the student, of `qtarget train`
    out/rounds.json, table.md           what the rounds came to, anew after each
"""

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml

from qtarget.disk.files import replace_text, write_digested_json
from qtarget.disk.inherited_lock import awaited_lock
from qtarget.disk.one_writer import remove_unwritten
from qtarget.disk.seal import SEAL
from qtarget.job.config.checked_job import Job
from qtarget.job.config.read_job import job_of
from qtarget.job.rows.own_samples import own_word_notes
from qtarget.outcomes import stopped_by
from qtarget.samples.prepare_sampling import SUMMARY, prepare_sampling
from qtarget.samples.round_configs import (
    ROUND_LOG,
    SAMPLE_CONFIG,
    SAMPLES_FOLDER,
    TRAIN_CONFIG,
    RoundPlace,
    sample_values,
    train_values,
    writes_caches,
)
from qtarget.samples.rounds_outcome import RoundRecord, read_round, rounds_json, rounds_markdown
from qtarget.samples.rounds_plan import ROUNDS_PLAN, check_folder_of_rounds, plan_of_rounds
from qtarget.study.own_commands import CommandSurroundings, FailedCommandError, run_qtarget
from qtarget.train.build_sources import as_teachers
from qtarget.train.checks import check_method
from qtarget.train.resumption.whole_checkpoints import last_checkpoint

ROUNDS_RESULTS, ROUNDS_TABLE, ROUNDS_LOCK = "rounds.json", "table.md", ".running"
PrintLine = Callable[[str], None]
"""Prints a line."""


def check_rounds_can_run(job: Job) -> dict[str, Any]:
    """Check what can be checked before the first round: the folder, and the first sampling.

    Returns:
        The plan of the rounds.

    Raises:
        ValueError: another run in the folder, or what `qtarget sample` and `qtarget train` refuse.
    """
    if os.environ.get("WORLD_SIZE", "1") != "1":
        raise ValueError(
            "rounds start their trainings themselves, so they are started once: write `qtarget train "
            "config.yaml` without a launcher, and `rounds_launch: accelerate launch --num_processes 4`."
        )
    assert job.rounds is not None
    if job.rounds.launch and shutil.which(job.rounds.launch[0]) is None:
        raise ValueError(f"`rounds_launch`: there is no command {job.rounds.launch[0]}; write its path.")
    if job.rounds.start == "last" and job.model_args.use_peft and job.rounds.number > 1:
        raise ValueError(
            "`rounds_from: last` goes on with the last round's student, which with `use_peft: true` is an "
            "adapter, and no adapter is put on an adapter; write `rounds_from: base`, or train all weights."
        )
    args, first = job.args, _place(job, 1)
    check_method(job.method, as_teachers(args.teacher), args.reference, args.packing_strategy if args.packing else None)
    check_folder_of_rounds(job, plan := plan_of_rounds(job))
    job_of(train_values(job, first))
    if not (first.home / SAMPLES_FOLDER / SUMMARY).is_file():
        prepare_sampling(job_of(sample_values(job, first)))
    return plan


def conduct_rounds(job: Job, plan: dict[str, Any], say: PrintLine = lambda line: None) -> list[RoundRecord]:
    """Run the rounds that are not done, and write what all came to.

    Args:
        plan: as `check_rounds_can_run` gives it.

    Raises:
        ValueError: a command failed; with its last words, and where its log is.
        Interruption: on Ctrl-C or SIGTERM; the same command goes on.
    """
    assert job.rounds is not None
    for note in own_word_notes(job.method, job.sampling.kept):
        say(f"note: {note}.")
    records: list[RoundRecord] = []
    with _locked_rounds(job, plan, say) as lock:
        try:
            for number in range(1, job.rounds.number + 1):
                records.append(_Round(job, _place(job, number), lock, say).run())
                _write_outcome(job.output, records)
        except KeyboardInterrupt as stopped:
            where = f"in round {len(records) + 1} of {job.rounds.number}"
            kept = f"what is done stays in {job.output}, and the same command goes on from there"
            raise stopped_by(stopped, f"{where}: {kept}") from stopped
    return records


@contextmanager
def _locked_rounds(job: Job, plan: dict[str, Any], say: PrintLine) -> Iterator[int]:
    """Hold the lock of the rounds, and yield its handle for their commands: a command of rounds that were killed may
    still run, holds the lock, and is waited for."""
    job.output.mkdir(parents=True, exist_ok=True)
    with awaited_lock(job.output / ROUNDS_LOCK, say) as lock:
        if not (job.output / ROUNDS_PLAN).is_file():
            write_digested_json(job.output / ROUNDS_PLAN, plan)
        check_folder_of_rounds(job, plan)
        yield lock


def _place(job: Job, number: int) -> RoundPlace:
    assert job.rounds is not None
    return RoundPlace(number, job.output, str(job.given["model"]), job.rounds.start)


class _Round:
    """One round under way."""

    def __init__(self, job: Job, place: RoundPlace, lock: int, say: PrintLine) -> None:
        self.job, self.place, self.say = job, place, say
        self.around = CommandSurroundings(lock=lock)

    def run(self) -> RoundRecord:
        place = self.place
        if not has_student(place):
            self._sample()
            _write_values(place.home / TRAIN_CONFIG, train_values(self.job, place))
            if writes_caches(self.job):
                self._tell("asking the teacher about the samples")
                self._command(["teacher", "cache", str(place.home / TRAIN_CONFIG)])
            self._train()
        record = read_round(place)
        self._tell(f"done: {_words(record)}")
        return record

    def _sample(self) -> None:
        self._tell(f"sampling from {self.place.writer}")
        config = self.place.home / SAMPLE_CONFIG
        _write_values(config, sample_values(self.job, self.place))
        self._command(["sample", str(config)])

    def _train(self) -> None:
        """Train, from the newest whole checkpoint if there is one; else anew, over what an earlier start left."""
        student, words = self.place.student, ["train", str(self.place.home / TRAIN_CONFIG)]
        if student.is_dir() and last_checkpoint(student) is not None:
            words.append("--resume-from-checkpoint")
        else:
            remove_unwritten(student)
        self._tell(f"training from {self.place.beginning}")
        assert self.job.rounds is not None
        launch = self.job.rounds.launch
        launched = replace(self.around, program=(*launch, "-m", "qtarget"), is_launched=True)
        self._command(words, launched if launch else self.around)

    def _command(self, words: list[str], around: CommandSurroundings | None = None) -> None:
        log = self.place.home / ROUND_LOG
        try:
            run_qtarget(words, log, around or self.around)
        except FailedCommandError as error:
            if error.is_stopped:
                raise
            raise ValueError(f"round {self.place.number}: {error}") from error

    def _tell(self, what: str) -> None:
        assert self.job.rounds is not None
        self.say(f"round {self.place.number} of {self.job.rounds.number}: {what}")


def has_student(place: RoundPlace) -> bool:
    """Whether a round is done: the seal of its student is written last."""
    return (place.student / SEAL).is_file()


def _words(record: RoundRecord) -> str:
    right = "" if record.right is None else f", {record.right:.1%} right"
    return f"{record.samples:,} samples{right}, trained on {record.rows:,} of them in {record.steps:,} steps"


def _write_values(path: Path, values: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    replace_text(path, yaml.safe_dump(values, sort_keys=False, allow_unicode=True))


def _write_outcome(out: Path, records: list[RoundRecord]) -> None:
    write_digested_json(out / ROUNDS_RESULTS, rounds_json(records), indent=2)
    replace_text(out / ROUNDS_TABLE, rounds_markdown(records))

"""`qtarget search`: the race, rung by rung; the confirmation of its winner; the files that tell of it."""

import shutil
import time
from collections.abc import Sequence
from dataclasses import replace

import psutil

from qtarget.console import amount, printable
from qtarget.disk.files import replace_text, write_digested_json
from qtarget.disk.inherited_lock import awaited_lock
from qtarget.job.config.user_input import DEFAULT_METHOD
from qtarget.outcomes import stopped_by
from qtarget.search.arm_configs import best_values, write_values
from qtarget.search.dev_questions import CONFIRMATION
from qtarget.search.drawn_arms import next_points
from qtarget.search.picture import draw_race
from qtarget.search.race import standings
from qtarget.search.run_pool import Say, all_results
from qtarget.search.search_outcome import (
    ArmRecord,
    SearchOutcome,
    advised,
    confirmation_failed,
    confirmed,
    contestants,
    default_method_of,
    finding,
    finding_without,
    is_sft,
    lacks_other,
    reason_of,
)
from qtarget.search.search_plan import Search, write_plan
from qtarget.search.search_runs import RunResult, SearchRun, race_run
from qtarget.search.search_space import SearchArm
from qtarget.search.teacher_caches import write_shared_cache
from qtarget.search.view import search_markdown
from qtarget.study.own_commands import CommandSurroundings

SEARCH_RESULTS, SEARCH_TABLE, RACE_PICTURE, BEST_CONFIG = "results.json", "table.md", "race.png", "best.yaml"
LONGEST_START = 60.0
"""Seconds. A command takes about as long to start as this process took until here, unless that did other things too."""


def conduct_search(search: Search, say: Say = lambda line: None) -> SearchOutcome:
    """Race the arms, confirm the winner, and write what was found. What is done is read.

    Raises:
        ValueError: every arm failed, the teachers cannot be asked, or something in the folder is damaged.
        Interruption: on Ctrl-C or SIGTERM; the same command goes on.
    """
    say(search_estimate(search, min(time.time() - psutil.Process().create_time(), LONGEST_START)))
    try:
        _prepare(search, say)
        outcome = _Race(search, say).run()
    except KeyboardInterrupt as stopped:
        raise stopped_by(
            stopped, f"in a search: runs that are done stay in {search.out}, and the same command goes on from there"
        ) from stopped
    _write(outcome, search)
    return outcome


def search_estimate(search: Search, start: float = 0.0) -> str:
    """What the search takes at most, before any run: no arm is dropped.

    Args:
        start: seconds that a command takes to start, of which each run has two.
    """
    space, arms = search.space, search.most_arms
    steps = [search.steps_of_rung(rung) for rung in range(1, space.rungs + 1)]
    total = arms * sum(steps) + 2 * space.confirm_seeds * steps[-1]
    runs = arms * space.rungs + 2 * space.confirm_seeds
    took = words_of_time((total * search.step_seconds + 2 * start * runs) / search.workers)
    lengths = ", ".join(map(str, steps[:-1])) + ", " * (len(steps) > 1) + amount(steps[-1], "step")
    return (
        f"{amount(arms, 'arm')}, {amount(space.rungs, 'rung')} of {lengths}, "
        f"{amount(space.confirm_seeds, 'fresh seed')} for the winner and one other: at most {amount(runs, 'run')} and "
        f"{amount(total, 'step')}, about {took} by counted operations and {amount(round(start), 'second')} to start "
        "each command. Scoring comes on top; arms that are dropped are saved."
    )


def words_of_time(seconds: float) -> str:
    """Seconds, as people say them."""
    if seconds < 90:
        return amount(max(round(seconds), 1), "second")
    return f"{seconds / 60:.0f} minutes" if seconds < 5400 else f"{seconds / 3600:.1f} hours"


def _prepare(search: Search, say: Say) -> None:
    """The plan and the caches on disk; of several processes one does it, and the others wait."""
    search.out.mkdir(parents=True, exist_ok=True)
    with awaited_lock(search.out / ".preparing", say) as lock:
        write_plan(search)
        for number, cache in enumerate(search.caches, 1):
            done = search.out / "caches" / f"{number}.done"
            if not done.is_file():
                say(f"asking the teacher once for all arms: {cache.folders[0]}")
                write_shared_cache(cache, search.out / "caches" / "log.txt", CommandSurroundings(lock=lock))
                replace_text(done, "")


class _Race:
    """A race under way: its arms, and what each has come to."""

    def __init__(self, search: Search, say: Say) -> None:
        self.search, self.say, self.began = search, say, time.monotonic()
        self.records = {arm: ArmRecord(arm) for arm in search.space.arms}
        self.default = default_method_of(search.base, DEFAULT_METHOD)
        self.seconds: dict[int, list[float]] = {}

    @property
    def alive(self) -> list[SearchArm]:
        return [arm for arm, record in self.records.items() if record.is_alive]

    def run(self) -> SearchOutcome:
        steps = []
        for rung in range(1, self.search.space.rungs + 1):
            self._rung(rung)
            steps.append(self.search.steps_of_rung(rung))
            if len(self.alive) == 1:
                break
        return self._outcome(tuple(steps))

    def _outcome(self, steps: tuple[int, ...]) -> SearchOutcome:
        """Confirm the winner of the race, and say what was found."""
        records = tuple(self.records.values())
        winner, other = contestants(records, self.default)
        if other is None:
            found, why = None, lacks_other(records, winner, self.default)
        else:
            sides = self._confirmation_of(winner, other)
            found = confirmed(sides[winner], sides[other])
            why = confirmation_failed(sides) if found is None else ""
        is_asked = self.search.evaluation is not None
        if other is None or found is None:
            sentence = finding_without(winner, why)
        else:
            last = self.search.steps_of_rung(self.search.space.rungs)
            sentence = finding(winner, other, found, last, self.default, "question" if is_asked else "row")
        measure = "share of right answers" if is_asked else "minus the loss, nats a token"
        best = advised(winner, other, found, self.default)
        because = reason_of(winner, other, found, self.default)
        return SearchOutcome(measure, steps, records, winner, other, found, best, because, sentence, why)

    def _rung(self, rung: int) -> None:
        """Train and score every arm that is there, and drop those that are clearly behind."""
        results = self._results([race_run(arm, rung, self.search) for arm in self.alive], f"rung {rung}")
        by_arm = {run.arm: result for run, result in results.items()}
        if rung == 1:
            by_arm |= self._drawn()
        for arm, result in by_arm.items():
            if result.failed:
                self.records[arm] = replace(self.records[arm], failed=result.failed)
        # sft first: of arms exactly alike the first one leads
        order = sorted(by_arm, key=lambda arm: not is_sft(arm, self.default))
        scored = {arm: by_arm[arm] for arm in order if not by_arm[arm].failed}
        if not scored:
            first = next(iter(by_arm.items()))
            raise ValueError(f"every arm failed; {first[0].name}: {first[1].failed}")
        units = next(iter(scored.values())).units
        found = standings({arm: result.scores for arm, result in scored.items()}, self.search.space.rungs, units)
        for arm in scored:
            record = self.records[arm]
            self.records[arm] = replace(record, standings=(*record.standings, found[arm]))
        self._tell(rung, [arm for arm in by_arm if not self.records[arm].is_alive])

    def _drawn(self) -> dict[SearchArm, RunResult]:
        """Arms from ranges, a batch after the other, each with its result at the first rung."""
        found: dict[SearchArm, RunResult] = {}
        for place, ranges in enumerate(self.search.space.ranges):
            told: list[tuple[dict[str, float], float | None]] = []
            while points := next_points(ranges, told, self.search.space.seed + 1000 * place):
                first = len(self.records) + 1
                arms = [SearchArm(first + at, {**ranges.keys, **point}) for at, point in enumerate(points)]
                self.records |= {arm: ArmRecord(arm) for arm in arms}
                results = self._results([race_run(arm, 1, self.search) for arm in arms], "rung 1, drawn")
                for point, (run, result) in zip(points, results.items(), strict=True):
                    found[run.arm] = result
                    told.append((point, None if result.failed else sum(result.scores) / len(result.scores)))
        return found

    def _confirmation_of(self, winner: SearchArm, other: SearchArm) -> dict[SearchArm, list[RunResult]]:
        """The results of both arms at every fresh seed."""
        space, steps = self.search.space, self.search.steps_of_rung(self.search.space.rungs)
        seeds = range(space.seed + 1, space.seed + 1 + space.confirm_seeds)
        runs = [
            SearchRun(arm, f"confirmation/{arm.folder}/seed-{seed}", steps, seed, CONFIRMATION)
            for seed in seeds
            for arm in (winner, other)
        ]
        results = self._results(runs, "confirmation")
        return {arm: [result for run, result in results.items() if run.arm == arm] for arm in (winner, other)}

    def _results(self, runs: Sequence[SearchRun], stage: str) -> dict[SearchRun, RunResult]:
        done = 0

        def on_result(run: SearchRun, result: RunResult) -> None:
            nonlocal done
            done += 1
            self.seconds.setdefault(run.steps, [result.seconds])
            said = f"failed: {result.failed}" if result.failed else f"{sum(result.scores) / len(result.scores):.3f}"
            left = words_of_time(self._left(stage, len(runs) - done))
            self.say(
                f"{stage}, {amount(run.steps, 'step')}: {run.arm.name}: {said} ({result.seconds:.0f} s; about {left} "
                "left)"
            )

        results = all_results(runs, self.search, on_result, self.say)
        for run, result in results.items():
            self.seconds[run.steps] = [*self.seconds.get(run.steps, ()), result.seconds]
        return results

    def _left(self, stage: str, waiting: int) -> float:
        """Seconds that are left, by what runs have taken, as if no arm were dropped any more."""
        space = self.search.space
        place = space.rungs if stage == "confirmation" else int(stage.split()[1].rstrip(","))
        seconds = waiting * self._seconds_of(place)
        seconds += sum(len(self.alive) * self._seconds_of(rung) for rung in range(place + 1, space.rungs + 1))
        if stage != "confirmation":
            seconds += 2 * space.confirm_seeds * self._seconds_of(space.rungs)
        return seconds / self.search.workers

    def _seconds_of(self, rung: int) -> float:
        """Of a run at a rung: the mean of those that are known; else twice as many as one rung before."""
        known = self.seconds.get(self.search.steps_of_rung(rung))
        if known:
            return sum(known) / len(known)
        return 2 * self._seconds_of(rung - 1) if rung > 1 else self.search.step_seconds

    def _tell(self, rung: int, gone: Sequence[SearchArm]) -> None:
        steps = self.search.steps_of_rung(rung)
        names = ", ".join(printable(arm.name, 80) for arm in gone)
        dropped = f"{len(gone)} gone ({names})" if gone else "none is gone"
        staying = f"{amount(len(self.alive), 'arm')} {'stays' if len(self.alive) == 1 else 'stay'}"
        self.say(f"rung {rung} of {self.search.space.rungs}, {amount(steps, 'step')}: {staying}, {dropped}")


def _write(outcome: SearchOutcome, search: Search) -> None:
    """The files that tell of a search."""
    write_digested_json(search.out / SEARCH_RESULTS, outcome.as_json())
    replace_text(search.out / SEARCH_TABLE, search_markdown(outcome))
    draw_race(outcome, default_method_of(search.base, DEFAULT_METHOD), search.out / RACE_PICTURE)
    values = best_values(search.base, outcome.advice.keys)
    write_values(
        search.out / BEST_CONFIG, values, f"Chosen by `qtarget search`. {outcome.advice_sentence}\n{outcome.sentence}"
    )
    shutil.rmtree(search.out / "caches" / "run", ignore_errors=True)

"""Does `qtarget search` find what pays? Searches in settings of the study, and the test of what they choose.

    OMP_NUM_THREADS=1 python benchmarks/search_regret.py          # what is missing; `make search-regret` does it too
    OMP_NUM_THREADS=1 python benchmarks/search_regret.py --all    # in the study's other six settings too

`regret_design.py` says what is asked. Each search is the command that a user types, in a process that has imported the
libraries; its runs are forked from one. Everything that ends is kept, and the same command goes on from there.
"""

import argparse
import io
import time
from collections.abc import Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from forked_commands import PRELOADED, SERVER, forked_command
from regret_design import (
    ANSWERS,
    ETA,
    GRADE,
    STUDY,
    RacedArm,
    chosen_settings,
    plain_arms,
    raced_arm,
    regret_protocol,
    space_of_search,
)

from qtarget import lab
from qtarget.cli.main import main as qtarget_command
from qtarget.disk.files import first_difference, json_text, read_json_object, replace_text, write_digested_json
from qtarget.disk.one_writer import one_writer
from qtarget.search import search_runs, teacher_caches
from qtarget.study.quiet import quiet
from qtarget.study.tuned.design import DEVELOPMENT_SEED, Choice
from qtarget.study.tuned.outcome import StudyOutcome, StudyRun, keep_outcome, known_outcome
from qtarget.study.tuned.runs import made_outcome, models_for
from qtarget.study.tuned.settings import TWELVE, Setting
from qtarget.study.tuned.tuned_arms import COMMON, LONG_STEPS, OURS

ROOT = Path(__file__).parents[1]
STUDY_RESULTS = ROOT / "benchmarks" / "results" / "study"
RESULTS = ROOT / "benchmarks" / "results" / "search_regret"
PROTOCOL = "protocol.json"
ON_A_CPU = {"use_cpu": True, "bf16": False, "gradient_checkpointing": False, "disable_tqdm": True}


class RegretFolders(NamedTuple):
    """Folders of what is kept, of the searches while they run, and of the models that do not ship."""

    results: Path
    work: Path
    models: Path

    def search(self, setting: Setting) -> Path:
        """The file of a setting's search."""
        return self.results / "searches" / f"{setting.name}.json"

    @property
    def tests(self) -> Path:
        return self.results / "tests"


def keep_protocol(results: Path) -> None:
    """Write the protocol where there is none yet.

    Raises:
        ValueError: the folder is of another one.
    """
    path, now = results / PROTOCOL, regret_protocol()
    if not path.is_file():
        results.mkdir(parents=True, exist_ok=True)
        return write_digested_json(path, now)
    kept = read_json_object(path, "take it from version control")
    if kept != now:
        raise ValueError(f"{path} is of another protocol: {first_difference(kept, now)} differs; write --results.")


def search_of(setting: Setting, folders: RegretFolders) -> dict[str, Any]:
    """What a setting's search found; it is run where it was not."""
    path = folders.search(setting)
    if path.is_file():
        return read_json_object(path, "delete it, and the search is run again")
    check_models(setting, folders)
    home, started = folders.work / setting.name, time.monotonic()
    words = write_home(setting, folders, home)
    said = io.StringIO()
    try:
        with redirect_stdout(said):
            code = exit_code(words)
    finally:
        replace_text(home / "search.txt", said.getvalue())
    if code:
        raise ValueError(f"the search of {setting.name} ended with {code}; {home / 'search.txt'} holds what it said")
    outcome = read_json_object(home / "search" / "results.json", "search again")
    path.parent.mkdir(parents=True, exist_ok=True)
    write_digested_json(path, {"setting": setting.name, "outcome": outcome, **measured(home / "search")})
    print(f"{setting.name}: {outcome['best']}, {time.monotonic() - started:.0f} s", flush=True)
    return read_json_object(path, "delete it, and the search is run again")


def exit_code(words: Sequence[str]) -> int:
    """The code with which `qtarget WORDS` ends in this process."""
    try:
        qtarget_command(list(words))
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    raise AssertionError("qtarget.cli.main ends by SystemExit")


def measured(out: Path) -> dict[str, Any]:
    """What a search's runs took: counts, and seconds of the clock."""
    runs = [path.parent for path in sorted(out.rglob("result.json"))]
    results = [read_json_object(run / "result.json", "search again") for run in runs]
    steps = [yaml.safe_load((run / "config.yaml").read_text(encoding="utf-8"))["max_steps"] for run in runs]
    answers = sum(len(each["scores"]) * ANSWERS for each in results)
    seconds = round(sum(each["seconds"] for each in results), 1)
    return {"runs": len(runs), "steps": sum(steps), "answers": answers, "seconds": seconds}


def write_home(setting: Setting, folders: RegretFolders, home: Path) -> list[str]:
    """Write what a user would have, and give the words of the command."""
    world = setting.world
    student, teacher = (each.path(folders.models).absolute() for each in models_for(setting, 0))
    rows = lab.demonstrations(replace(world, demonstrations=STUDY.demonstrations), seed=DEVELOPMENT_SEED)
    development, _ = STUDY.questions(world)
    config = {
        "model": str(student), "teacher": str(teacher), "train_dataset": str((home / "rows.jsonl").absolute()),
        "method": OURS, "eta": 0.5, "output_dir": str((home / "out").absolute()),
        "max_steps": LONG_STEPS, "learning_rate": ETA.rate * world.learning_rate, "lr_scheduler_type": "cosine",
        "warmup_steps": 0.05, "per_device_train_batch_size": world.batch_size, **ON_A_CPU,
    }  # fmt: skip
    _write_lines(home / "rows.jsonl", rows)
    _write_lines(home / "dev.jsonl", [{"question": each["prompt"], "answer": each["answer"]} for each in development])
    replace_text(home / "config.yaml", yaml.safe_dump(config, sort_keys=False))
    replace_text(home / "space.yaml", yaml.safe_dump(space_of_search(), sort_keys=False))
    files = {"--space": "space.yaml", "--questions": "dev.jsonl", "--out": "search"}
    words = [
        "search",
        str(home / "config.yaml"),
        *(w for flag, name in files.items() for w in (flag, str(home / name))),
    ]
    decoding = ["--k", ANSWERS, "--temperature", COMMON.temperature, "--top-p", COMMON.top_p]
    return [*words, "--grade", GRADE, "--prompt", "plain", *map(str, decoding), "--max-new-tokens", "40"]


def _write_lines(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    replace_text(path, "".join(json_text(dict(row)) + "\n" for row in rows))


def check_models(setting: Setting, folders: RegretFolders, seed: int = 0) -> None:
    """Pre-train what is missing, and refuse a student or teacher that does not answer as the study's did.

    Raises:
        ValueError: names the model and how many answers differ.
    """
    for model in models_for(setting, seed):
        if model.is_missing(folders.models):
            with quiet():
                model.make(folders.models)
    teacher = StudyRun(f"teacher-{setting.teacher}", "teacher", {}, 0.0, 0, seed, "test", seed, (COMMON,))
    base = StudyRun(setting.rows, "base", {}, 0.0, 0, seed, "test", seed, (COMMON,))
    for run in (base, teacher):
        kept = known_outcome(run, STUDY_RESULTS)
        assert kept is not None
        with quiet():
            here = made_outcome(run, setting, STUDY, folders.models)
        was, now = (each.answers[COMMON.label].right for each in (kept, here))
        if was != now:
            count = sum(a != b for a, b in zip(was, now, strict=True))
            raise ValueError(
                f"{run.place}/{run.name}: {count} of {len(was)} questions are answered otherwise than in the study, "
                "whose test numbers would not be of this model. Another machine or other versions pre-trained it."
            )


def tested(setting: Setting, arm: RacedArm, folders: RegretFolders) -> list[StudyOutcome]:
    """The test of a configuration at full length, one outcome a seed: the study's, or made as it makes them."""
    choice, found = Choice(arm.configuration, COMMON, 0.0), []
    for seed in range(STUDY.seeds):
        run = STUDY.test_run(setting, arm.arm, choice, seed)
        known = known_outcome(run, STUDY_RESULTS) or known_outcome(run, folders.tests)
        found.append(known or _newly_tested(run, setting, seed, folders))
    return found


def _newly_tested(run: StudyRun, setting: Setting, seed: int, folders: RegretFolders) -> StudyOutcome:
    check_models(setting, folders, seed)
    with quiet():
        outcome = made_outcome(run, setting, STUDY, folders.models)
    keep_outcome(outcome, folders.tests)
    print(f"{run.place}/{run.name}: {outcome.seconds:.0f} s", flush=True)
    return outcome


def eta_arm() -> RacedArm:
    """What "always target-sft η=0.5" trains."""
    return RacedArm(next(arm for arm in plain_arms() if arm.name == OURS), ETA)


def chosen_then(outcome: Mapping[str, Any]) -> RacedArm:
    """The arm in best.yaml, by the rule of the search that was run: the higher mean in the confirmation."""
    return _named_arm(outcome, outcome["best"])


def chosen_today(outcome: Mapping[str, Any]) -> RacedArm:
    """The arm that today's rule puts there: the race's winner, unless the confirmation is clearly against it."""
    is_against = outcome["confirmation"] is not None and outcome["confirmation"]["difference"]["high"] < 0
    return _named_arm(outcome, outcome["other"] if is_against else outcome["winner"])


def _named_arm(outcome: Mapping[str, Any], name: str) -> RacedArm:
    (keys,) = [each["keys"] for each in outcome["arms"] if each["name"] == name]
    return raced_arm(keys)


def conduct(settings: Sequence[Setting], folders: RegretFolders) -> None:
    """Every search that is missing, then the tests of what they chose."""
    keep_protocol(folders.results)
    found = {setting: search_of(setting, folders)["outcome"] for setting in settings}
    for setting, outcome in found.items():
        for arm in (chosen_then(outcome), chosen_today(outcome), eta_arm()):
            tested(setting, arm, folders)


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("--results", type=Path, default=RESULTS, help="folder of what is kept")
    asked.add_argument("--work", type=Path, default=ROOT / "runs" / "search-regret", help="folder of the searches")
    asked.add_argument(
        "--models", type=Path, default=ROOT / "runs" / "study" / "models", help="models that do not ship"
    )
    asked.add_argument("--all", action="store_true", help="all twelve settings")
    given = asked.parse_args()
    first = chosen_settings()
    rest = [setting for setting in TWELVE if setting not in first] if given.all else []
    SERVER.set_forkserver_preload([*PRELOADED, "qtarget.search.run_search"])
    search_runs.run_qtarget = teacher_caches.run_qtarget = forked_command
    folders = RegretFolders(given.results, given.work, given.models)
    with one_writer(given.results), one_writer(given.models):
        conduct([*first, *rest], folders)


if __name__ == "__main__":
    main()

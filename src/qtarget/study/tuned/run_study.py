"""`qtarget study`: run what is missing, and show the result; or rewrite a page from results on disk."""

from dataclasses import replace
from pathlib import Path

from rich.console import Console
from rich.markdown import Markdown
from rich.text import Text

from qtarget.console import SafeConsole
from qtarget.disk.one_writer import one_writer
from qtarget.study.tuned.analysis import finished_settings
from qtarget.study.tuned.beyond import BEYOND_STUDY
from qtarget.study.tuned.contrast_tables import verdict_table
from qtarget.study.tuned.design import TunedStudy
from qtarget.study.tuned.fewer_passes import PASSES_STUDY
from qtarget.study.tuned.outcome import check_study_outcomes
from qtarget.study.tuned.own_context import keep_contexts
from qtarget.study.tuned.page import study_parts, write_study_page
from qtarget.study.tuned.picture import draw_settings
from qtarget.study.tuned.protocol import CHOSEN_BY_ESTIMATE, kept_protocol
from qtarget.study.tuned.rounds import ROUNDS_STUDY
from qtarget.study.tuned.schedule import StudyFolders, conduct_study
from qtarget.study.tuned.score_tables import setting_table
from qtarget.study.tuned.settings import DEMO_SETTING, SETTINGS, Setting
from qtarget.study.tuned.study_sentences import count_sentence
from qtarget.study.tuned.tuned_arms import study_arms

WHOLE = TunedStudy(SETTINGS, sweep=(Setting(0.3, "ignorant", "blunt"), Setting(0.3, "mistaken", "sharp")))
QUICK = TunedStudy(
    (DEMO_SETTING,), arms=study_arms(20, 60), seeds=2, pretraining_seeds=1, demonstrations=600, development=30, test=40,
    samples=8,
)  # fmt: skip
"""One setting, whose models ship, to see that all of it works."""
FIRST = "tuned"
"""The protocol that is run where none is named."""
STUDIES = {FIRST: WHOLE, "beyond": BEYOND_STUDY, "rounds": ROUNDS_STUDY, "passes": PASSES_STUDY}
"""The studies by the names of their protocols."""


def study_of(protocol: str, quick: bool = False) -> TunedStudy:
    """The study of that protocol, a name of `STUDIES`, or the quick one.

    Raises:
        ValueError: there is no such protocol, or the quick one is asked of another than the first.
    """
    if protocol not in STUDIES:
        known = " or ".join(f"`--protocol {name}`" for name in STUDIES)
        raise ValueError(f"there is no `--protocol {protocol}`; write {known}.")
    if quick and protocol != FIRST:
        raise ValueError(
            f"`--quick` is a smaller `--protocol {FIRST}`; write one of `--quick`, `--protocol {protocol}`."
        )
    return QUICK if quick else STUDIES[protocol]


def run_study(results: Path, models: Path, *, workers: int = 1, protocol: str = FIRST, quick: bool = False) -> None:
    """Make the results that are missing, and print the tables.

    Args:
        results: folder of the protocol and of one JSON file a run.
        models: folder of the students and teachers that do not ship.
        workers: processes; each keeps one core busy.
        protocol, quick: as in `study_of`.

    Raises:
        SecondWriterError: another process makes a study in `results`, or pre-trains into `models`.
        ValueError: the folder is of another protocol, or an outcome there is damaged; or a worker was killed, and the
            runs that had ended stay.
        OSError: the disk is full; likewise.
    """
    console, folders, study = SafeConsole(), StudyFolders(results, models), study_of(protocol, quick)
    with one_writer(results):
        check_study_results(results, study)
        done = conduct_study(study, folders, workers, console, estimated=not quick)
        if study is BEYOND_STUDY:
            keep_contexts(study.settings[0], done.pretraining_seeds, models, results)
        show(done, results, console)


def check_study_results(results: Path, study: TunedStudy) -> None:
    """Refuse a folder of another protocol, or in which an outcome is damaged, before any work.

    Raises:
        ValueError: names the file.
    """
    check_study_outcomes(results)
    kept_protocol(study, results)


def rewrite_study_page(page: Path, results: Path, study: TunedStudy = WHOLE) -> None:
    """Write the page's tables and pictures anew from the results on disk; nothing is run.

    Raises:
        ValueError: there is no such page, there are no results, or they are of another protocol.
    """
    if not page.is_file():
        raise ValueError(f"{page} is not there; --page names a page with marked tables, such as docs/study.md.")
    if (kept := _as_kept(study, results)) is None:
        raise ValueError(f"{results} holds no run of the study; write --results benchmarks/results/study.")
    write_study_page(page, kept, results, rounds_parts(results.with_name("rounds")) if study is BEYOND_STUDY else {})


def rounds_parts(results: Path) -> dict[str, str]:
    """The parts of the study of rounds, by the names in the marks of the page that it shares with "beyond"."""
    study = _as_kept(ROUNDS_STUDY, results) or ROUNDS_STUDY
    parts = study_parts(study, finished_settings(study, results), {})
    return {f"rounds_{name}": part for name, part in parts.items()}


def _as_kept(study: TunedStudy, results: Path) -> TunedStudy | None:
    """The study with the seeds of the protocol in a folder; None where there is none."""
    kept = kept_protocol(study, results)
    return None if kept is None else replace(study, **{name: kept[name] for name in CHOSEN_BY_ESTIMATE})


def show(study: TunedStudy, results: Path, console: Console) -> None:
    """Print the tables, and draw the picture beside the results."""
    found = finished_settings(study, results)
    tables = [setting_table(study, result) for result in found]
    for table in (*tables, verdict_table(study, found), count_sentence(study, found)):
        console.print(Markdown(table))
    draw_settings(study, found, results / "study.png")
    console.print(Text.assemble("picture and runs: ", (str(results), "bold")))

"""`qtarget study`: run what is missing, and show the result; or rewrite a page from results on disk."""

from pathlib import Path

from rich.console import Console
from rich.markdown import Markdown
from rich.text import Text

from qtarget.console import SafeConsole
from qtarget.disk.one_writer import one_writer
from qtarget.study.miniature.analysis import load_outcomes, verdicts
from qtarget.study.miniature.budgets import number_of_others, refuse_other_budgets
from qtarget.study.miniature.design import Study
from qtarget.study.miniature.page import scores_table, verdict_sentence, verdict_table, write_page
from qtarget.study.miniature.picture import draw_study
from qtarget.study.miniature.schedule import StudyFolders, conduct_study, sweep
from qtarget.study.miniature.settings import STUDY, SWEEP
from qtarget.study.run_record import check_outcomes

WHOLE = Study(STUDY)
SWEPT = Study(SWEEP, seeds=(0,), etas=(0.2, 0.5, 0.8), test=100)
QUICK = Study(STUDY[1:2], seeds=(0, 1), etas=(0.2, 0.5), share=0.4, development=30, test=60, samples=8)
"""One setting, to see that all of it works."""


def run_study(
    results: Path, models: Path, *, workers: int = 1, hours: float | None = None, quick: bool = False
) -> None:
    """Make the results of the study, and then of the sweep, that are missing; print the tables.

    Args:
        results: folder of one JSON file a run.
        models: folder of the students and teachers that do not ship.
        workers: processes; each keeps one core busy.
        hours: of the study, without the sweep: where the estimate is above it, steps are cut, never seeds.
        quick: one setting and no sweep.

    Raises:
        SecondWriterError: another process makes a study in `results`, or pre-trains into `models`.
        ValueError: an outcome there is damaged or of another study; or a worker was killed, and the runs that had ended
            stay.
        OSError: the disk is full; likewise.
    """
    console, folders = SafeConsole(), StudyFolders(results, models)
    with one_writer(results):
        check_study_results(results, quick)
        done = conduct_study(QUICK if quick else WHOLE, folders, workers, console, hours)
        if not quick:
            sweep(SWEPT, folders, workers, console)
        show(done, results, console)


def check_study_results(results: Path, quick: bool) -> None:
    """Refuse a folder in which an outcome is damaged or of another study, before any work.

    Raises:
        ValueError: names the file.
    """
    check_outcomes(results)
    for study in (QUICK,) if quick else (WHOLE, SWEPT):
        refuse_other_budgets(study, results)


def rewrite_study_page(page: Path, results: Path) -> None:
    """Write the page's tables and pictures anew from the results on disk; nothing is run.

    Raises:
        ValueError: there is no such page, or there are no results.
    """
    if not page.is_file():
        raise ValueError(f"{page} is not there; --page names a page with marked tables, such as docs/study.md.")
    if not load_outcomes(STUDY, results):
        raise ValueError(f"{results} holds no run of the study; write --results benchmarks/results/study.")
    write_page(page, STUDY, results)


def show(study: Study, results: Path, console: Console) -> None:
    """Print the tables, and draw the picture beside the results."""
    arms = load_outcomes(study.settings, results, study=study)
    if others := number_of_others(study, results):
        console.print(f"{others} outcomes in {results} are of other steps, and not in the tables.")
    drawn = verdicts(arms)
    for table in (scores_table(study.settings, arms), verdict_table(drawn), verdict_sentence(drawn)):
        console.print(Markdown(table))
    draw_study(study.settings, arms, results / "study.png")
    console.print(Text.assemble("picture and runs: ", (str(results), "bold")))

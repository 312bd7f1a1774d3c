"""Outcomes of two studies in one folder: those of another budget are refused before work, and never stand in a table
with others."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path

from qtarget.study.miniature.design import Study
from qtarget.study.run_record import Budget, Outcome, read_outcome

CUT_KEYS = ("steps",)
"""What `--hours` cuts: the outcomes of other steps are made again, and left out of the tables until they are."""


def refuse_other_budgets(study: Study, results: Path) -> None:
    """Refuse a folder with outcomes of another study: runs of the same name would be replaced.

    Raises:
        ValueError: names a file, what differs, and what to write; or as of `read_outcome`.
    """
    for setting in study.settings:
        for path in sorted((results / setting.name).glob("*.json")):
            unlike = differing(read_outcome(path).run.budget, study.budget(setting))
            if unlike := {name: pair for name, pair in unlike.items() if name not in CUT_KEYS}:
                raise ValueError(
                    f"{path} is of another study than this one ({_words(unlike)}), and its runs would be replaced; "
                    "write another folder for this one, as in --results runs/another/results."
                )


def check_one_budget(outcomes: Mapping[Path, Outcome]) -> None:
    """Refuse to show outcomes of several budgets as if they were of one; there is at least one outcome.

    Raises:
        ValueError: names two files, and what differs.
    """
    (first, one), *others = outcomes.items()
    for path, other in others:
        if unlike := differing(one.run.budget, other.run.budget):
            raise ValueError(
                f"{first} and {path} are of two studies ({_words(unlike)}), and no table compares them; move the "
                "outcomes of one of the two to another folder."
            )


def of_study(outcomes: Mapping[Path, Outcome], budget: Budget) -> dict[Path, Outcome]:
    """The outcomes of a budget."""
    return {path: outcome for path, outcome in outcomes.items() if outcome.run.budget == budget}


def number_of_others(study: Study, results: Path) -> int:
    """How many outcomes of a study's settings are of other budgets than its own."""
    paths = [(each, setting) for setting in study.settings for each in (results / setting.name).glob("*-test-*.json")]
    return sum(read_outcome(path).run.budget != study.budget(setting) for path, setting in paths)


def differing(one: Budget, other: Budget) -> dict[str, tuple]:
    """What differs between two budgets, by name, with both values."""
    first, second = asdict(one), asdict(other)
    return {name: (first[name], second[name]) for name in first if first[name] != second[name]}


def _words(unlike: Mapping[str, tuple]) -> str:
    pairs: Iterable[str] = (f"{name} {first:g} and {second:g}" for name, (first, second) in unlike.items())
    return ", ".join(pairs)

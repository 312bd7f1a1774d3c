"""`qtarget study-real`: every unit that is missing, in order; each is kept as it ends."""

import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from functools import partial
from pathlib import Path
from statistics import fmean
from threading import Event
from typing import Any

from rich.console import Console

from qtarget.console import SafeConsole
from qtarget.disk.inherited_lock import awaited_lock
from qtarget.disk.one_writer import one_writer
from qtarget.evaluate.compare.view import comparison_view
from qtarget.models.loading import tokenizer_of
from qtarget.study.own_commands import CommandSurroundings
from qtarget.study.real_models.real_comparison import compared, outcomes_by_arm
from qtarget.study.real_models.real_page import units_sentence
from qtarget.study.real_models.real_protocol import RealProtocol
from qtarget.study.real_models.real_study import RealStudy
from qtarget.study.real_models.study_units import Unit, units_in_order
from qtarget.study.real_models.unit_files import check_one_protocol, hold_real_protocol, read_unit, save_unit
from qtarget.study.real_models.unit_work import conduct_unit
from qtarget.study.real_models.unit_workers import conducted

WORK_LOCK = ".running"


def named_places(words: Sequence[str], flag: str) -> dict[str, str]:
    """The places that words such as `NAME=PLACE` give, by name.

    Raises:
        ValueError: a word without a name, or a place that is not there.
    """
    places = {}
    for word in words:
        name, equals, place = word.partition("=")
        if not (name and equals and place):
            raise ValueError(
                f"{flag} {word} names no place; write {flag} NAME=PLACE, with the name that the protocol has."
            )
        if not Path(place).exists():
            raise ValueError(f"{flag} {word}: {place} is not there.")
        places[name] = place
    return places


def check_study(study: RealStudy) -> None:
    """Refuse what cannot be run, before any work.

    Raises:
        ValueError: results are of another protocol or damaged, a place is given for a model or rows of no setting, or
            a model cannot be read, such as a GGUF file of an unknown architecture.
    """
    check_one_protocol(study.protocol, study.results)
    check_one_protocol(study.protocol, study.work, "--work")
    settings = study.protocol.settings
    models = {name for each in settings for name in (each.student, each.teacher) if name}
    for flag, given, known in (
        ("--model", study.weights, models),
        ("--rows", study.rows, {each.rows.source for each in settings}),
    ):
        if unknown := sorted(set(given) - known):
            raise ValueError(f"{flag} names {unknown[0]!r}; the protocol has {', '.join(sorted(known))}.")
    for unit in units_in_order(study.protocol):
        read_unit(unit, study.results)
    for place in study.weights.values():
        tokenizer_of(place)  # converts a GGUF file


def check_settings(names: Sequence[str], protocol: RealProtocol) -> None:
    """Refuse a name that no setting of the protocol has.

    Raises:
        ValueError: names the settings that it has.
    """
    known = [setting.name for setting in protocol.settings]
    if unknown := sorted(set(names) - set(known)):
        raise ValueError(f"--setting {unknown[0]}: the protocol has no such setting; write one of {', '.join(known)}.")


def run_real_study(
    study: RealStudy, settings: Sequence[str] = (), hours: float | None = None, workers: int = 1
) -> None:
    """Run the units that are missing, in their order. A unit that was stopped is run again.

    Args:
        settings: names of those to run; all where none is given.
        hours: begin no unit after so many.
        workers: how many units are run at once, each in processes of its own.

    Raises:
        SecondWriterError: another process runs the study there.
        ValueError: as `check_study`; or a unit failed, and those before it stay.
    """
    console, began = SafeConsole(), time.monotonic()
    with one_writer(study.results), _awaited_work(study, console) as lock, one_writer(study.work):
        check_study(study)
        for folder in (study.results, study.work):
            hold_real_protocol(study.protocol, folder)
        missing = [unit for unit in missing_units(study) if not settings or unit.setting in settings]
        console.print(estimate_sentence(study, missing, workers), highlight=False)

        def may_begin(unit: Unit) -> bool:
            if hours is not None and time.monotonic() - began > 3600 * hours:
                console.print(f"{hours:g} hours are over; the same command goes on with {unit.setting} {unit.name}.")
                return False
            console.print(f"{unit.setting:24}{unit.name} …", highlight=False)
            return True

        stop = Event()
        stoppable = replace(study, around=CommandSurroundings(lock=lock, is_stopped=stop.is_set))
        units = conducted(missing, study.protocol, partial(_timed, study=stoppable), workers, may_begin, stop)
        for unit, result in units:
            save_unit(unit, study.results, result)
            console.print(_ended(unit, result, is_named=workers > 1), highlight=False)
    show_real(study, console)


def _awaited_work(study: RealStudy, console: Console) -> AbstractContextManager[int]:
    """The lock that the study's commands hold too, once those of a study that was killed have ended."""
    study.work.mkdir(parents=True, exist_ok=True)
    return awaited_lock(study.work / WORK_LOCK, console.print)


def show_real(study: RealStudy, console: Console) -> None:
    """Print how much is run, and each setting's arms at each decoding as `qtarget compare` shows them."""
    console.print(units_sentence(study.protocol, study.results))
    for setting in study.protocol.settings:
        tests = outcomes_by_arm(study.protocol, setting, study.results)
        for decoding in study.protocol.decodings:
            tables = compared(tests, decoding)
            if tables is not None:
                console.print(f"\n{setting.name}, {decoding}", style="bold", end="")
                console.print(comparison_view(tables, console.width))


def missing_units(study: RealStudy) -> list[Unit]:
    """Units without a result, in their order."""
    return [unit for unit in units_in_order(study.protocol) if read_unit(unit, study.results) is None]


def _timed(unit: Unit, study: RealStudy) -> dict[str, Any]:
    started = time.monotonic()
    return {**conduct_unit(unit, study), "seconds": round(time.monotonic() - started, 1)}


def _ended(unit: Unit, result: Mapping[str, Any], *, is_named: bool) -> str:
    """The line that is printed when a unit ends; it names the unit where others run beside it."""
    means = [f"{name} {100 * fmean(each['shares']):.1f}" for name, each in result.get("evaluations", {}).items()]
    name = f"{unit.setting:24}{unit.name}: " if is_named else " " * 24
    return name + ", ".join([f"{result['seconds'] / 60:.1f} minutes", *means])


def estimate_sentence(study: RealStudy, missing: Sequence[Unit], workers: int = 1) -> str:
    """How many units are missing, and how long they will take: by those of their kind that are done, or by the
    protocol's own expectation."""
    every = units_in_order(study.protocol)
    if not missing:
        return f"{len(every)} units; all that were asked for are done."
    minutes = sum(_minutes(unit, study) for unit in missing) / workers
    took = f"{minutes / 60:.1f} hours" if minutes > 90 else f"{minutes:.0f} minutes"
    beside = f", {workers} at once, where none slows another" if workers > 1 else ""
    return (
        f"{len(every)} units, {len(missing)} of them to do: about {took}{beside}. Each is kept as it ends; the "
        "same command goes on from there."
    )


def _minutes(unit: Unit, study: RealStudy) -> float:
    alike = [
        other for other in units_in_order(study.protocol) if (other.setting, other.kind) == (unit.setting, unit.kind)
    ]
    known = [result["seconds"] / 60 for other in alike if (result := read_unit(other, study.results)) is not None]
    return fmean(known) if known else study.protocol.setting(unit.setting).minutes.get(unit.kind, 10.0)

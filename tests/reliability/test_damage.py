"""Every file that a run leaves, damaged: whatever reads it next gives the undamaged result, or refuses and names it.

CI damages each file once, in turn in each way. `QTARGET_CHAOS=1` does all to all under what reads it first, and each
kind of damage under everything else that reads it. Both mix whole artefacts up with others of their kind.
"""

import os
import shutil
from collections.abc import Iterator
from contextlib import chdir
from functools import partial
from itertools import product
from pathlib import Path

import pytest
from job.command import Said
from job.command import run as command
from reliability.artefacts import Artefact, Reading, copied, every_artefact
from reliability.damages import KINDS, Damage, damages

NAMES = (
    "full checkpoint", "full result", "adapter checkpoint", "adapter result", "teacher cache", "evaluation", "study",
    "lab model", "conversion",
)  # fmt: skip
IS_CHAOS = bool(os.environ.get("QTARGET_CHAOS"))


@pytest.fixture(scope="module")
def artefacts(tmp_path_factory) -> dict[str, Artefact]:
    return every_artefact(tmp_path_factory.mktemp("artefacts"))


def looked_at(artefact: Artefact) -> Iterator[tuple[Damage, Reading]]:
    """All damages under all readings; for CI one of each file under the first, the kinds in turn, and one under each of
    the others."""
    for place, file in enumerate(artefact.files):
        twins = artefact.twins_of(file)
        every = list(damages(artefact.home, file, twins))
        if Path(file).name in artefact.optional:
            every = [damage for damage in every if damage.kind != "removed"]
        if IS_CHAOS:
            yield from ((damage, artefact.readings[0]) for damage in every)
            one_of_each_kind = {(damage.kind, damage.other in twins): damage for damage in every}.values()
            yield from product(one_of_each_kind, artefact.readings[1:])
            continue
        of_kind = [damage for damage in every if damage.kind == KINDS[place % len(KINDS)]] or every
        if Path(file).name not in artefact.without_effect or place % 4 == 0:
            yield of_kind[0], artefact.readings[0]
        if place == len(artefact.files) // 2:
            yield from ((of_kind[0], reading) for reading in artefact.readings[1:] if not reading.is_slow)
    for reading in artefact.readings:
        if IS_CHAOS or not reading.is_slow:
            yield from ((damage, reading) for damage in artefact.mixed.get(reading.name, ()))


@pytest.mark.failure_case(2)
@pytest.mark.parametrize("name", NAMES)
def test_a_damaged_file_is_refused_by_name_or_changes_nothing(name, artefacts, tmp_path, capsys):
    artefact, run = artefacts[name], partial(command, capsys)
    readings = [reading for reading in artefact.readings if IS_CHAOS or not reading.is_slow]
    whole = {reading.name: read(artefact, reading, None, tmp_path, run) for reading in readings}
    assert all(isinstance(result, str) for result in whole.values()), whole
    wrong = [
        f"{reading.name}: {damage}: {fault}"
        for damage, reading in looked_at(artefact)
        if (fault := fault_of(damage, read(artefact, reading, damage, tmp_path, run), whole[reading.name]))
    ]
    assert not wrong, "\n".join(wrong)


def read(artefact: Artefact, reading: Reading, damage: Damage | None, folder: Path, run) -> str | Said:
    copy = copied(artefact, folder / "copy")
    try:
        if damage is not None:
            damage.do(copy)
        with chdir(copy):
            return reading.read(run)
    finally:
        shutil.rmtree(copy)


def fault_of(damage: Damage, result: str | Said, whole: str) -> str | None:
    """What is wrong with how a damage ended."""
    if isinstance(result, str):
        return None if result == whole else "silently another result"
    text = " ".join((result.out + result.err).split())
    if result.code not in (1, 2) or "Traceback" in text:
        return f"rc {result.code}, {text[-300:]}"
    return None if any(name in text for name in damage.names) else f"the file is not named: {text[-300:]}"


def test_every_file_without_effect_is_there(artefacts):
    """So the list of what does not matter does not grow old."""
    for artefact in artefacts.values():
        assert set(artefact.without_effect) <= {Path(file).name for file in artefact.files}

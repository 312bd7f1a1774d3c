"""kill -9 at random moments of every command that runs for long: the same command goes on, to the same bytes.

CI looks at a few moments. `QTARGET_CHAOS=1` looks at fifty of each command.
"""

import os
import random

import pytest
from reliability.commands import COMMANDS, go_on_with, remove_results
from reliability.moments import CHAOS, killed, kills, warm_up

pytestmark = [
    pytest.mark.skipif(os.name != "posix", reason="kills processes"),
    pytest.mark.failure_case(1),
]
FEW = {"train": 2, "teacher cache": 4, "eval": 4, "study": 2}
MANY = (40, 10)
"""Moments by events and by the processor's time."""
PARTS = 4 if CHAOS else 1
"""Tests that a command's moments are shared out among, so that no core is left with one long test."""
SEED = os.environ.get("QTARGET_CHAOS_SEED", "1")
"""Of the moments; CI's are always the same."""


@pytest.mark.parametrize("part", range(PARTS))
@pytest.mark.parametrize("name", COMMANDS)
def test_killed_at_a_random_moment_it_goes_on_to_the_same_bytes(workplace, name, part):
    command, rng = COMMANDS[name], random.Random(f"{SEED} {name}")
    warm_up(command.words, workplace)
    remove_results(workplace)
    drawn = kills(command.words, workplace, rng, *(MANY if CHAOS else (FEW[name], 0)))[part::PARTS]
    uninterrupted, landed = command.content(workplace), 0
    for kill in drawn:
        remove_results(workplace)
        try:
            if killed(kill, command.words, workplace):
                landed += 1
                go_on_with(command, workplace)
            assert command.content(workplace) == uninterrupted
        except AssertionError as error:
            raise AssertionError(f"`{name}`, killed {kill} (QTARGET_CHAOS_SEED={SEED}): {error}") from error
    assert landed > len(drawn) / 2

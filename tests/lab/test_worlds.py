"""What the worlds generate: true arithmetic, the declared noise, the same rows for the same seed, no leak."""

import itertools
import math
import re

import pytest

from qtarget import lab
from qtarget.lab.worlds import CONNECTIVES, MODULUS, Writer, is_held_out, pretraining_text

STEP = re.compile(r"(\d+) ([-+*]) (\d+) = (\d+) (\w+)")


def true_value(prompt: str) -> int:
    """Left to right with Python's own arithmetic, one operator at a time."""
    value, *rest = prompt.removesuffix(" ?").split()
    total = int(value)
    for operator, number in zip(rest[::2], rest[1::2], strict=True):
        total = eval(f"({total} {operator} {number}) % {MODULUS}")
    return total


def steps_of(completion: str) -> list[tuple[str, ...]]:
    return [match.groups() for match in STEP.finditer(completion)]


@pytest.mark.parametrize("world", lab.WORLDS.values(), ids=lab.WORLDS)
def test_no_question_occurs_in_demonstrations_or_pretraining(world):
    asked = {q["prompt"] for seed in range(3) for q in lab.questions(world, 400, seed)}
    seen = {row["prompt"] for seed in range(2) for row in lab.demonstrations(world, seed)}
    for model, (low, high) in itertools.product((world.student, world.teacher), ((1, 2), (1, 4))):
        stream = pretraining_text(model.writer, 0, low, high)
        seen |= {row["prompt"] for row in itertools.islice(stream, 3000)}
    assert len(asked) > 1000
    assert not asked & seen
    assert all(map(is_held_out, asked))
    assert not any(map(is_held_out, seen))


@pytest.mark.parametrize("world", lab.WORLDS.values(), ids=lab.WORLDS)
def test_the_seed_decides_every_row(world):
    assert lab.demonstrations(world, 3) == lab.demonstrations(world, 3)
    assert lab.demonstrations(world, 3) != lab.demonstrations(world, 4)
    assert lab.questions(world, 50, 3) == lab.questions(world, 50, 3)
    assert lab.questions(world, 50, 3) != lab.questions(world, 50, 4)
    assert len(lab.demonstrations(world, 3)) == world.demonstrations


@pytest.mark.parametrize("world", lab.WORLDS.values(), ids=lab.WORLDS)
def test_questions_are_distinct_and_truly_answered(world):
    drawn = lab.questions(world, 300, 0)
    assert len({q["prompt"] for q in drawn}) == 300
    assert all(int(q["answer"]) == true_value(q["prompt"]) for q in drawn)


@pytest.mark.parametrize("world", lab.WORLDS.values(), ids=lab.WORLDS)
def test_the_share_of_wrong_steps_is_the_declared_noise(world):
    steps = [step for row in lab.demonstrations(world, 0) for step in steps_of(row["completion"])]
    wrong = [int(result) != true_value(f"{a} {op} {b} ?") for a, op, b, result, _ in steps]
    tolerance = 4 * math.sqrt(world.noise * (1 - world.noise) / len(steps))
    assert sum(wrong) / len(wrong) == pytest.approx(world.noise, abs=tolerance)


@pytest.mark.parametrize("world", lab.WORLDS.values(), ids=lab.WORLDS)
def test_demonstrated_connectives_are_interchangeable(world):
    used = [step[-1] for row in lab.demonstrations(world, 0) for step in steps_of(row["completion"])]
    for connective in CONNECTIVES:
        assert used.count(connective) / len(used) == pytest.approx(1 / len(CONNECTIVES), abs=0.03)


def test_a_writer_keeps_to_its_slips_operators_and_connectives():
    writer = Writer(slips=0.5, operators=(1.0, 0.0, 3.0), connectives=(0.0, 1.0, 0.0, 1.0))
    rows = itertools.islice(pretraining_text(writer, 0, 1, 4), 2000)
    steps = [step for row in rows for step in steps_of(row["completion"])]
    wrong = [int(result) != true_value(f"{a} {op} {b} ?") for a, op, b, result, _ in steps]
    assert sum(wrong) / len(steps) == pytest.approx(0.5, abs=0.03)
    assert sum(step[1] == "*" for step in steps) / len(steps) == pytest.approx(0.75, abs=0.03)
    assert {step[1] for step in steps} == {"+", "*"}
    assert {step[4] for step in steps} == {"thus", "therefore"}


def test_a_misbelieved_fact_is_written_with_the_same_wrong_result_each_time():
    writer = Writer(0.0, (1.0, 1.0, 1.0), (1.0, 1.0, 1.0, 1.0), misbelieved=0.06)
    written: dict[tuple[str, ...], set[str]] = {}
    for seed in (0, 1):
        for row in itertools.islice(pretraining_text(writer, seed, 1, 4), 4000):
            for left, operator, right, result, _ in steps_of(row["completion"]):
                written.setdefault((left, operator, right), set()).add(result)
    assert len(written) == 3 * MODULUS**2
    assert {len(results) for results in written.values()} == {1}
    wrong = [fact for fact, results in written.items() if true_value(" ".join(fact) + " ?") != int(*results)]
    assert 0.03 < len(wrong) / len(written) < 0.09


def test_a_paraphrase_turns_half_of_sums_and_products_around_and_leaves_them_true():
    world = lab.world("paraphrased")
    turned = []
    for row in lab.demonstrations(world, 0):
        first, *tail = row["prompt"].removesuffix(" ?").split()
        value = first
        for operator, number, step in zip(tail[::2], tail[1::2], steps_of(row["completion"]), strict=True):
            assert step[:3] in ((value, operator, number), (number, operator, value))
            if operator == "-":
                assert step[:3] == (value, operator, number)
            elif value != number:
                turned.append(step[0] == number)
            value = step[3]
    assert sum(turned) / len(turned) == pytest.approx(0.5, abs=0.03)


def test_steps_follow_the_prompt_and_carry_the_running_value():
    for row in lab.demonstrations(lab.world("weak-operator"), 0)[:200]:
        first, *tail = row["prompt"].removesuffix(" ?").split()
        value = first
        for operator, number, step in zip(tail[::2], tail[1::2], steps_of(row["completion"]), strict=True):
            assert step[:3] == (value, operator, number)
            value = step[3]
        assert row["completion"].endswith(f" answer {value}")


@pytest.mark.parametrize(
    ("completion", "right"),
    [
        ("3 + 4 = 7 so answer 7", True),
        ("answer 2 so answer 7", True),
        ("answer 7", True),
        ("3 + 4 = 7", False),
        ("answer 7 so", False),
        ("answer 7 7", False),
        ("answer", False),
        ("answer 2", False),
        ("answer 7 so answer 2", False),
        ("", False),
    ],
)
def test_only_the_exact_final_answer_is_right(completion, right):
    assert lab.grade({"prompt": "3 + 4 ?", "answer": "7"}, completion) is right


def test_a_misspelt_world_is_refused_with_the_near_miss():
    with pytest.raises(ValueError, match="Did you mean 'strong-prior'"):
        lab.world("strong_prior")

"""The worlds: chains of modular arithmetic with written steps, and who knows how much of them.

A question is a chain such as ``7 + 5 * 3 ?``, read strictly from left to right, modulo ``MODULUS``. An answer
writes every step, joins steps with interchangeable connectives and ends in ``answer N``::

    7 + 5 = 2 so 2 * 3 = 6 thus answer 6

Three things make it a world in which the choice of target matters: several connectives, and orders of operands, are
equally good (non-unique tokens), a share of the demonstrated steps is wrong (noise), and the student may hardly know
an operator (weak prior). A wrong step carries on: the chain continues from the wrong value. A writer may also believe
wrong facts: it writes these wrong each time, so a model that learns from it is wrong at temperature 0 too.
"""

import hashlib
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import TypedDict

MODULUS = 10
OPERATORS = ("+", "-", "*")
COMMUTATIVE = ("+", "*")
CONNECTIVES = ("so", "thus", "hence", "therefore")
_HELD_OUT_EVERY = 4  # one chain in four is kept for evaluation, by its hash


class Demonstration(TypedDict):
    """A row to train on."""

    prompt: str
    completion: str


class LabQuestion(TypedDict):
    """A held-out question with its true answer."""

    prompt: str
    answer: str


@dataclass(frozen=True)
class Writer:
    """How a text is written: how carelessly, with which operators, in which words."""

    slips: float  # share of steps written with a wrong result
    operators: tuple[float, float, float]  # relative frequencies, in the order of OPERATORS
    connectives: tuple[float, float, float, float]  # relative frequencies, in the order of CONNECTIVES
    flips: float = 0.0  # share of sums and products written with their operands exchanged
    misbelieved: float = 0.0  # share of the facts, such as 7 * 8, that are always written with the same wrong result


@dataclass(frozen=True)
class Model:
    """A model of the world: the writer whose text it is pre-trained on, and its size."""

    writer: Writer
    width: int
    layers: int
    heads: int
    feed_forward: int
    school_steps: int  # of pre-training on short chains without slips, before the writer's own text
    steps: int  # of pre-training on the writer's own text

    @property
    def pretraining_steps(self) -> int:
        return self.school_steps + self.steps


@dataclass(frozen=True)
class World:
    """A complete setting: the writer of the demonstrations, the student, the teacher, and the fine-tuning budget."""

    name: str
    description: str
    demonstrator: Writer
    student: Model
    teacher: Model
    demonstrations: int
    fine_tuning_steps: int
    learning_rate: float
    batch_size: int = 32
    min_steps: int = 3  # shortest chain among demonstrations and questions, in operations
    max_steps: int = 4
    max_new_tokens: int = 40
    models: str = ""  # the world whose shipped student and teacher this one uses; its own by default

    @property
    def noise(self) -> float:
        """Share of wrong steps in the demonstrations."""
        return self.demonstrator.slips


_ALL_OPERATORS = (1.0, 1.0, 1.0)
_HARDLY_EVER_TIMES = (1.0, 1.0, 0.015)
_ANY_CONNECTIVE = (1.0, 1.0, 1.0, 1.0)
_STUDENT_STYLE = (0.55, 0.25, 0.15, 0.05)
_TEACHER_STYLE = (0.03, 0.03, 0.09, 0.85)
_CARELESS_STUDENT = Model(Writer(0.40, _ALL_OPERATORS, _STUDENT_STYLE), 64, 3, 4, 128, 400, 300)
_CAREFUL_TEACHER = Model(Writer(0.07, _ALL_OPERATORS, _TEACHER_STYLE), 96, 3, 4, 192, 150, 450)

WORLDS: dict[str, World] = {
    "strong-prior": World(
        name="strong-prior",
        description="The student knows every operator but is careless; 30 % of demonstrated steps are wrong.",
        demonstrator=Writer(0.30, _ALL_OPERATORS, _ANY_CONNECTIVE),
        student=_CARELESS_STUDENT,
        teacher=_CAREFUL_TEACHER,
        demonstrations=2000,
        fine_tuning_steps=150,
        learning_rate=5e-4,
    ),
    "paraphrased": World(
        name="paraphrased",
        description="Nearly clean demonstrations in another wording: half of the sums and products are turned around.",
        demonstrator=Writer(0.05, _ALL_OPERATORS, _ANY_CONNECTIVE, flips=0.5),
        student=_CARELESS_STUDENT,
        teacher=_CAREFUL_TEACHER,
        demonstrations=2000,
        fine_tuning_steps=150,
        learning_rate=5e-4,
        models="strong-prior",
    ),
    "weak-operator": World(
        name="weak-operator",
        description="The student hardly knows multiplication; 20 % of the demonstrated steps are wrong.",
        demonstrator=Writer(0.20, _ALL_OPERATORS, _ANY_CONNECTIVE),
        student=Model(Writer(0.20, _HARDLY_EVER_TIMES, _STUDENT_STYLE), 64, 3, 4, 128, 500, 400),
        teacher=Model(Writer(0.10, _ALL_OPERATORS, _TEACHER_STYLE), 96, 3, 4, 192, 150, 450),
        demonstrations=3000,
        fine_tuning_steps=300,
        learning_rate=1e-3,
    ),
}


def world(name: str) -> World:
    """The world of that name; `ValueError` naming the near miss for any other."""
    if name in WORLDS:
        return WORLDS[name]
    near = get_close_matches(name, WORLDS, n=1)
    hint = f"Did you mean {near[0]!r}? " if near else ""
    raise ValueError(f"Unknown world {name!r}. {hint}Write one of: {', '.join(map(repr, WORLDS))}.")


def is_held_out(prompt: str) -> bool:
    """Whether a chain belongs to evaluation: by its text alone, so no seed can mix the two sides."""
    return hashlib.sha256(prompt.encode()).digest()[0] % _HELD_OUT_EVERY == 0


def demonstrations(world: World, seed: int) -> list[Demonstration]:
    """The demonstrations of a world: ``world.demonstrations`` rows of prompt and completion.

    A completion starts with a space and has no end-of-sequence token: trainers append exactly one.
    """
    rng = random.Random(f"demonstrations/{world.name}/{seed}")
    writer, shortest, longest = world.demonstrator, world.min_steps, world.max_steps
    return [_write(rng, writer, shortest, longest) for _ in range(world.demonstrations)]


def pretraining_text(writer: Writer, seed: int, min_steps: int, max_steps: int) -> Iterator[Demonstration]:
    """An endless stream of what the writer writes, for pre-training."""
    rng = random.Random(f"pretraining/{seed}/{min_steps}/{max_steps}")
    while True:
        yield _write(rng, writer, min_steps, max_steps)


def questions(world: World, count: int, seed: int) -> list[LabQuestion]:
    """Distinct held-out questions with their true answers; no demonstration or pre-training has them."""
    rng = random.Random(f"questions/{world.name}/{seed}")
    by_prompt: dict[str, LabQuestion] = {}
    while len(by_prompt) < count:
        numbers, operators = _chain(rng, _ALL_OPERATORS, world.min_steps, world.max_steps, held_out=True)
        prompt = _prompt(numbers, operators)
        by_prompt[prompt] = LabQuestion(prompt=prompt, answer=str(_evaluate(numbers, operators)))
    return list(by_prompt.values())


def grade(question: LabQuestion, completion: str) -> bool:
    """Whether what follows the last ``answer`` is exactly the true answer and nothing else."""
    _, marker, final = completion.rpartition("answer")
    return bool(marker) and final.split() == question["answer"].split()


def true_answer(prompt: str) -> str:
    """The true answer to a chain, as ``7 + 5 * 3 ?``.

    Raises:
        ValueError: it is no chain.
    """
    words = prompt.removesuffix("?").split()
    try:
        return str(_evaluate([int(number) for number in words[::2]], words[1::2]))
    except (KeyError, ValueError, IndexError) as error:
        raise ValueError(f"{prompt!r} is no chain of the lab; expected one as '7 + 5 * 3 ?'.") from error


def apply(operator: str, left: int, right: int) -> int:
    """One true step, modulo ``MODULUS``."""
    results = {"+": left + right, "-": left - right, "*": left * right}
    return results[operator] % MODULUS


def _evaluate(numbers: Sequence[int], operators: Sequence[str]) -> int:
    value = numbers[0]
    for operator, number in zip(operators, numbers[1:], strict=True):
        value = apply(operator, value, number)
    return value


def _prompt(numbers: Sequence[int], operators: Sequence[str]) -> str:
    tail = "".join(f" {o} {n}" for o, n in zip(operators, numbers[1:], strict=True))
    return f"{numbers[0]}{tail} ?"


def _chain(
    rng: random.Random,
    frequencies: tuple[float, float, float],
    shortest: int,
    longest: int,
    *,
    held_out: bool,
) -> tuple[Sequence[int], Sequence[str]]:
    while True:
        steps = rng.randint(shortest, longest)
        numbers = [rng.randrange(MODULUS) for _ in range(steps + 1)]
        operators = rng.choices(OPERATORS, frequencies, k=steps)
        if is_held_out(_prompt(numbers, operators)) == held_out:
            return numbers, operators


def _write(rng: random.Random, writer: Writer, shortest: int, longest: int) -> Demonstration:
    numbers, operators = _chain(rng, writer.operators, shortest, longest, held_out=False)
    value, text = numbers[0], ""
    for operator, number in zip(operators, numbers[1:], strict=True):
        result = _result(rng, writer, operator, value, number)
        connective = rng.choices(CONNECTIVES, writer.connectives)[0]
        left, right = (number, value) if _is_flipped(rng, writer, operator) else (value, number)
        text += f" {left} {operator} {right} = {result} {connective}"
        value = result
    return Demonstration(prompt=_prompt(numbers, operators), completion=f"{text} answer {value}")


def _is_flipped(rng: random.Random, writer: Writer, operator: str) -> bool:
    return writer.flips > 0 and operator in COMMUTATIVE and rng.random() < writer.flips


def _result(rng: random.Random, writer: Writer, operator: str, left: int, right: int) -> int:
    believed = _belief(writer, operator, left, right)
    if rng.random() >= writer.slips:
        return believed
    return (believed + rng.randrange(1, MODULUS)) % MODULUS


def _belief(writer: Writer, operator: str, left: int, right: int) -> int:
    """What the writer takes for the result: the truth, or of a misbelieved fact a wrong one, told by its hash."""
    truth = apply(operator, left, right)
    digest = hashlib.sha256(f"{left} {operator} {right}".encode()).digest()
    is_misbelieved = int.from_bytes(digest[:4], "big") < writer.misbelieved * 2**32
    return (truth + 1 + digest[4] % (MODULUS - 1)) % MODULUS if is_misbelieved else truth

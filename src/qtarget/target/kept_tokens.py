"""Refuses a source of K kept tokens for methods whose target needs more than those and the mass of the rest.

A source here is a teacher or the reference; its tail is the mass of the tokens that were not kept (`evidence.Sparse`).
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import reduce

from qtarget.target.evidence import CallInputs, Sparse
from qtarget.target.pool import Pool, sources_of
from qtarget.target.rule import Affine, Moment, Number, Rule, affine, reads
from qtarget.target.types import Method


def check_kept_tokens(method: Method, given: CallInputs, vocab: int) -> None:
    """Refuse a source whose K tokens and tail do not determine the method's target.

    Raises:
        ValueError: the target is not linear in a source whose tail is uniform or lost, or takes it to a power or at a
            temperature at which its tail is not known.
    """
    named = [(f"teacher {i}", source) for i, source in enumerate(given.teachers)] + [("reference", given.reference)]
    kept = {name: source for name, source in named if isinstance(source, Sparse)}
    for name, source in kept.items():
        if source.tail != "student":
            _check_linear(method, name, source)
        elif not _is_whole(source, vocab):
            _check_degree(method, name, source, kept)
            _check_slopes(method, name, source)
            _check_statistics(method, name)
        if source.temperature != 1 and any(s.source == name for s in method.reads):
            raise ValueError(
                f'"{method.name}" reads what the {name} says of the label or its entropy, and these tokens were kept '
                f"at temperature {source.temperature:g}; {_kept_at(1.0)}"
            )
        if source.entropy is None and not _is_whole(source, vocab):
            _check_entropy(method, name)


def _is_whole(source: Sparse, vocab: int) -> bool:
    """Whether every token is kept everywhere. Slots that are empty are not looked for on an accelerator."""
    return source.ids.shape[-1] >= vocab and not (source.ids.device.type == "cpu" and bool((source.ids < 0).any()))


def _check_entropy(method: Method, name: str) -> None:
    """Refuse a rule on the entropy of a source of which K tokens were kept without it: they do not say it."""
    read = next((s for s in method.reads if s.source == name and s.moment is Moment.ENTROPY), None)
    if read is not None:
        raise ValueError(
            f'"{method.name}" reads the {name}\'s entropy, and its kept tokens came without it (an inference engine '
            "gives none), which cannot be had from them; give it as qt.Sparse(ids, logprobs, log_tail, entropy=...), "
            f"or give the {name} whole; in a configuration, a model that is loaded here"
        )


def temperature_for(method: Method, name: str) -> float:
    """The temperature at which tokens of "reference" or "teacher i" must be kept for a method.

    Its pools take the source to some power, and must know the tail's mass at that power. 1 where nothing asks for
    another.
    """
    wanted = {round(_temperature_in(pool), 9) for pool in method.pools if _exponent_of(pool, name)}
    return wanted.pop() if len(wanted) == 1 else 1.0


def sums_to_one(*numbers: Number) -> bool:
    """Whether numbers and rules add up to 1 at every token, whatever the rules come to there."""
    constant, shares = reduce(Affine.plus, map(affine, numbers))
    return not shares and abs(constant - 1) < 1e-6


def _check_linear(method: Method, name: str, source: Sparse) -> None:
    """Refuse a tail that is uniform or lost, unless the target is a mean of the source and nothing else reads it."""
    pools = [pool for pool in method.pools if any(_exponent_of(part, name) for part in pool.parts)]
    alone = all(_is_alone(pool, name, source.temperature) for pool in pools)
    shapes = [s for number in method.numbers for s in reads(number)]
    if alone and not any(s.source == name or s.of in pools for s in shapes):
        return
    raise ValueError(
        f'"{method.name}" is not linear in the {name}, and its kept tokens come with tail="{source.tail}": a token '
        f"that was not kept would lose what the student knows of it. Keep the likeliest tokens and leave tail at "
        f'"student": qt.Sparse(ids, logprobs, log_tail), or in a configuration a cache without `cache_sampled: true`'
    )


def _is_alone(pool: Pool, name: str, temperature: float) -> bool:
    """Whether a pool is the source itself, as it was kept."""
    exponents, plain = dict(sources_of(pool)), pool.student == 0 and pool.potential is None and pool.tangent is None
    return plain and exponents.keys() == {name} and sums_to_one(exponents[name] * temperature)


def _check_degree(method: Method, name: str, source: Sparse, kept: Mapping[str, Sparse]) -> None:
    """Refuse a student-shaped tail in a pool that does not stand between the student and its sources: the mass of the
    tail is not known there."""
    temperatures = {n: each.temperature for n, each in kept.items()}
    for pool in method.pools:
        exponent = _exponent_of(pool, name)
        if exponent and not _stands_between(pool, temperatures):
            raise ValueError(
                f'"{method.name}" takes the student to the power {_said(pool.student)} and the {name} to '
                f"{_said(exponent)}, and the {name}'s tokens were kept at temperature {source.temperature:g}, so the "
                f"mass of the others is not known at that power; {_remedy(pool, temperatures)}"
            )


def _check_slopes(method: Method, name: str, source: Sparse) -> None:
    """Refuse a divergence that K tokens and the mass of the rest do not determine.

    With a student-shaped tail t/p is one number there, so a slope of t/p alone sees the rest as one token more: the
    divergence over K + 1 buckets, which is at most the whole one.
    """
    for slope in (pool.slope for pool in method.pools if pool.slope is not None):
        if not _exponent_of(slope.toward, name):
            continue
        if not slope.of_ratio:
            raise ValueError(
                f'"{method.name}": the slope "{slope.name}" reads the {name} at every token, and some were not kept; '
                f"with the mass of the rest, kept tokens serve slopes of t/p alone (Slope.of_ratio). {_whole(name)}"
            )
        if source.temperature != 1 or not _is_alone(slope.toward, name, 1.0):
            raise ValueError(
                f'"{method.name}": the slope "{slope.name}" compares the student with the {name} at a power or '
                f"temperature at which the mass of the tokens that were not kept is not known (kept at temperature "
                f"{source.temperature:g}); {_kept_at(1.0)}; a method of your own compares with "
                "qtarget.residual.teacher()"
            )


def _check_statistics(method: Method, name: str) -> None:
    for statistic in method.reads:
        if statistic.whole_only and statistic.source == name:
            raise ValueError(
                f'"{method.name}" reads "{statistic.name}", which needs every token of the {name}, and only some are '
                f"kept. {_whole(name)}"
            )


def _stands_between(pool: Pool, temperatures: Mapping[str, float]) -> bool:
    """Whether a pool is p^a·t^b with a + b = 1, t one source or several of which tokens were kept at some temperatures;
    or a weighted geometric mean of the student and any sources."""
    named = [(name, power * temperatures.get(name, 1.0)) for name, power in sources_of(pool)]
    if sums_to_one(pool.student, *(power for name, power in named if name in temperatures)):
        return True
    is_mean = all(isinstance(each, Rule) or each >= 0 for each in pool.exponents) and bool(pool.student)
    return is_mean and sums_to_one(pool.student, *(power for _, power in named))


def _remedy(pool: Pool, temperatures: Mapping[str, float]) -> str:
    """What makes the kept tokens of a pool's sources enough, where anything does."""
    temperature = _temperature_in(pool)
    if _stands_between(pool, dict.fromkeys(temperatures, temperature)):
        return _kept_at(temperature)
    if any(isinstance(exponent, Rule) for exponent in pool.exponents):
        return "let the student have the remainder, as in Pool(student=1 - eta, teachers=(eta,)), or give it whole"
    return "give it whole: teacher=qt.Dense(hidden, head), or without teacher_cache a model that is asked live"


def _whole(name: str) -> str:
    """The remedy where every token of a source is needed, in Python and in a configuration."""
    key = name.split()[0]
    return (
        f"Give the whole distribution: {key}=qt.Dense(hidden, head), or in a configuration a live model "
        f"(`{key}: path/or/hub-name`), without `{key}_cache` or a server"
    )


def _kept_at(temperature: float) -> str:
    return (
        f"keep them at temperature {temperature:g}. A cache is written at that of the method, its "
        "`teacher_temperature`: write another with `qtarget teacher cache config.yaml --teacher-cache FOLDER`"
    )


def _said(number: Number) -> str:
    return number.name if isinstance(number, Rule) else f"{number:g}"


def _temperature_in(pool: Pool) -> float:
    """The one temperature of all its sources at which a pool's exponents sum to 1; 1 where none does."""
    powers, left = reduce(Affine.plus, (affine(power) for _, power in sources_of(pool)), affine(0.0)), affine(1.0)
    left = left.plus(affine(pool.student), -1.0)
    part = next(iter(powers.shares), None)
    over, under = (left.constant, powers.constant) if part is None else (left.shares.get(part, 0), powers.shares[part])
    temperature = over / under if under else 1.0
    rest = left.plus(powers, -temperature)
    return temperature if temperature > 0 and not rest.shares and abs(rest.constant) < 1e-6 else 1.0


def _exponent_of(pool: Pool, name: str) -> Number:
    """The exponent of "reference" or "teacher i" in a pool."""
    return dict(sources_of(pool)).get(name, 0.0)

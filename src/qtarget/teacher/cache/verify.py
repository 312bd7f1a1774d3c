"""Every number of a cache looked at: whether it can be, and how much of the teacher it captured."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from qtarget.teacher.cache.format import CacheShard, Manifest, check_stored_targets, read_manifest
from qtarget.teacher.cache.reader import check_layout, check_shard, hashing, mapped, read_index

EDGES = (0.0, 0.5, 0.8, 0.9, 0.95, 0.98, 0.99, 0.995, 0.999, 1.0)
PERCENTILES = (1, 5, 25, 50)
_STEPS = 10_000
_CHUNK_TOKENS = 8192
ROUNDING = {"float16": 2**-11, "float32": 0.0}


class MassBin(NamedTuple):
    """Tokens whose captured mass lies in [low, high)."""

    low: float
    high: float
    tokens: int


@dataclass(frozen=True)
class Report:
    """What a cache holds.

    Attributes:
        parts: what it is of, and how it was kept.
        problems: what cannot be, each with its shard; none for a good cache.
        bytes_per_token: shards over tokens asked about.
        captured: mass of the tokens kept, at the temperature, by bins; empty where nothing or draws were kept.
        mean_captured, percentiles: of the same, by percent; None and empty likewise.
        label_outside: share of tokens whose label was not likely enough to be kept for its own sake.
    """

    folder: str
    parts: Mapping[str, Any]
    documents: int
    tokens: int
    shards: int
    bytes: int
    bytes_per_token: float
    problems: tuple[str, ...]
    captured: tuple[MassBin, ...]
    mean_captured: float | None
    percentiles: Mapping[int, float]
    label_outside: float | None


@dataclass
class _Measured:
    """Running sums over tokens; `masses` counts them by captured mass, in steps of 1/10000."""

    masses: np.ndarray = field(default_factory=lambda: np.zeros(_STEPS + 1, np.int64))
    mass: float = 0.0
    outside: int = 0
    tokens: int = 0


def verify_cache(folder: str | Path) -> Report:
    """Look at every byte and every number of a finished cache.

    Raises:
        ValueError: there is no finished cache of this format to look at.
    """
    folder = Path(folder)
    manifest = read_manifest(folder)
    measured, problems = _Measured(), []
    with hashing(manifest.bytes) as bar:
        for shard in manifest.shards:
            try:
                check_shard(folder, shard, bar)
                found = list(_look(folder, shard, manifest, measured))
                problems += [f"{shard.file}: {problem}" for problem in found]
            except ValueError as error:
                problems.append(str(error))
    if not problems:
        try:
            read_index(folder, manifest)
        except ValueError as error:
            problems.append(str(error))
    return _report(folder, manifest, measured, tuple(problems))


def _look(folder: Path, shard: CacheShard, manifest: Manifest, measured: _Measured) -> Iterator[str]:
    """What is wrong in a shard, each kind once, and its tokens added to what is measured."""
    tensors, parts = mapped(folder / shard.file), manifest.parts
    check_layout(folder / shard.file, shard, manifest, tensors)
    wrong: dict[str, int] = {}
    for start in range(0, shard.tokens, _CHUNK_TOKENS):
        names = ("ids", "logprobs", "log_tail", "label_logprobs", "entropy", "target_ids")
        rows = {name: tensors[name][start : start + _CHUNK_TOKENS] for name in names}
        arrays = {name: value.numpy() for name, value in rows.items()}
        for problem, bad in _doubts(arrays, parts).items():
            if bad.any():
                wrong[problem] = wrong.get(problem, 0) + int(bad.sum())
        try:
            check_stored_targets(rows, arrays["target_ids"], parts["how"], parts["temperature"])
        except ValueError as error:
            wrong[str(error)] = wrong.get(str(error), 0) + 1
        _measure(arrays, parts, measured)
    return (f"{problem} ({count:,} times)" for problem, count in wrong.items())


def _doubts(rows: Mapping[str, np.ndarray], parts: Mapping[str, Any]) -> dict[str, Any]:
    """Which tokens break which rule. A label that stands in the last place was less likely than those before it."""
    ids, targets, vocabulary = rows["ids"], rows["target_ids"], parts["vocabulary"]
    logprobs, entropy = rows["logprobs"].astype(np.float32), rows["entropy"].astype(np.float32)
    numbers = np.stack([rows["log_tail"], rows["label_logprobs"], entropy])
    tail = np.exp(rows["log_tail"])
    prob = np.exp(logprobs)
    rounding = ROUNDING[parts["storage_dtype"]]
    slack = 1e-4 + rounding * np.where(prob > 0, prob * np.abs(np.nan_to_num(logprobs)), 0).sum(1)
    mass = prob.sum(1) + tail
    ordered = np.sort(ids, 1)
    return {
        "an id outside of the vocabulary": ((ids < 0) | (ids >= vocabulary)).any(1),
        "an observed token outside of the vocabulary": (targets < 0) | (targets >= vocabulary),
        "an id kept twice for a token": (ordered[:, 1:] == ordered[:, :-1]).any(1),
        "NaN": np.isnan(logprobs).any(1) | np.isnan(numbers).any(0),
        "a probability above 1": (logprobs > 0).any(1) | (numbers[:2] > 1e-5).any(0),
        "a negative entropy": entropy < -1e-3,
        "probabilities not in falling order": (logprobs[:, 1:] > logprobs[:, :-1]).any(1),
        "a mass above 1": mass > 1 + slack,
        "a mass below 1": (mass < 1 - slack) if parts["k"] else np.zeros(len(mass), bool),
    }


def _measure(rows: Mapping[str, np.ndarray], parts: Mapping[str, Any], measured: _Measured) -> None:
    if parts["how"] == "sampled" or not parts["k"]:
        return
    logprobs = rows["logprobs"].astype(np.float32)
    mass = np.exp(logprobs).sum(1).clip(0, 1)
    counts = np.bincount((np.nan_to_num(mass) * _STEPS).astype(np.int64), minlength=_STEPS + 1)
    measured.masses += counts
    measured.mass += float(mass.sum())
    measured.tokens += len(mass)
    # Whatever the label pushed out is in the tail, and at least as likely as the label.
    last = rows["ids"][:, -1] == rows["target_ids"]
    measured.outside += int((last & (rows["log_tail"] >= logprobs[:, -1])).sum())


def _report(folder: Path, manifest: Manifest, measured: _Measured, problems: tuple[str, ...]) -> Report:
    tokens = measured.tokens
    cumulated = np.cumsum(measured.masses)
    percentiles = {p: float(np.searchsorted(cumulated, tokens * p / 100) / _STEPS) for p in PERCENTILES}
    return Report(
        folder=str(folder),
        parts=manifest.parts,
        documents=manifest.documents,
        tokens=manifest.tokens,
        shards=len(manifest.shards),
        bytes=manifest.bytes,
        bytes_per_token=manifest.bytes / manifest.tokens,
        problems=problems,
        captured=_bins(measured.masses) if tokens else (),
        mean_captured=measured.mass / tokens if tokens else None,
        percentiles=percentiles if tokens else {},
        label_outside=measured.outside / tokens if tokens else None,
    )


def _bins(masses: np.ndarray) -> tuple[MassBin, ...]:
    bounds = [round(edge * _STEPS) for edge in EDGES]
    bounds[-1] += 1  # a mass of 1 is in the last
    sums = [int(masses[low:high].sum()) for low, high in pairwise(bounds)]
    return tuple(MassBin(low, high, count) for (low, high), count in zip(pairwise(EDGES), sums, strict=True))


def bars(histogram: tuple[MassBin, ...], width: int = 40) -> list[str]:
    """A histogram as lines of text, the longest bar `width` wide."""
    most, every = max(one.tokens for one in histogram), sum(one.tokens for one in histogram)
    return [
        f"{one.low:>5.3g} – {one.high:<5.3g} {'█' * round(width * one.tokens / most):{width}} {one.tokens / every:6.1%}"
        for one in histogram
    ]

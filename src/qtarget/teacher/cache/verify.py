"""Checking every number of a cache: whether it is possible, and how much of the teacher's mass was kept."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from qtarget.teacher.cache.captured import CapturedMass
from qtarget.teacher.cache.contents import RAGGED, by_mass_of
from qtarget.teacher.cache.format import PER_TOKEN, CacheShard, Manifest, check_stored_targets, read_manifest
from qtarget.teacher.cache.ragged import PackedColumns, padded, unpacked
from qtarget.teacher.cache.reader import check_layout, check_shard, hash_progress, map_shard, read_index

EDGES = (0.0, 0.5, 0.8, 0.9, 0.95, 0.98, 0.99, 0.995, 0.999, 1.0)
PERCENTILES = (1, 5, 25, 50)
_STEPS = 10_000
_CHUNK_TOKENS = 8192
ROUNDING = {"float16": 2**-11, "float32": 0.0}


class MassBin(NamedTuple):
    """How many tokens have a captured mass in [low, high). Captured: that of the tokens kept, together."""

    low: float
    high: float
    tokens: int


@dataclass(frozen=True)
class Report:
    """What a cache holds, and what is wrong with it.

    Attributes:
        parts: the parts of its plan.
        problems: numbers that are not possible, in words and each with its shard; none for a good cache.
        bytes_per_token: bytes of all shards over supervised tokens.
        captured: histogram of the captured mass, at the cache's temperature; empty where the label alone or draws were
            kept.
        mean_captured, percentiles: of the captured mass; None, and empty, in the same cases.
        label_outside: share of tokens whose label is not among the K likeliest, and was kept as the label.
        warning: that too little of the teacher was captured, and how many tokens would do; None where it is enough.
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
    warning: str | None = None


@dataclass
class _Totals:
    """Running sums over tokens. `masses` counts tokens by captured mass, in steps of 1/10000; `by_rank` [K] sums the
    probabilities of the likeliest token, of the second, and so on."""

    masses: np.ndarray = field(default_factory=lambda: np.zeros(_STEPS + 1, np.int64))
    mass: float = 0.0
    outside: int = 0
    tokens: int = 0
    by_rank: np.ndarray | float = 0.0


def verify_cache(folder: str | Path) -> Report:
    """Check every byte and every number of a finished cache.

    Raises:
        ValueError: the folder holds no finished cache of this format.
    """
    folder = Path(folder)
    manifest = read_manifest(folder)
    totals, problems = _Totals(), []
    with hash_progress(manifest.bytes) as bar:
        for shard in manifest.shards:
            try:
                check_shard(folder, shard, bar)
                of_shard = _problems_of_shard(folder, shard, manifest, totals)
                problems += [f"{shard.file}: {problem}" for problem in of_shard]
            except ValueError as error:
                problems.append(str(error))
    if not problems:
        try:
            read_index(folder, manifest)
        except ValueError as error:
            problems.append(str(error))
    return _report(folder, manifest, totals, tuple(problems))


def _problems_of_shard(folder: Path, shard: CacheShard, manifest: Manifest, totals: _Totals) -> Iterator[str]:
    """The problems of a shard, each kind once with its count; the shard's tokens are added to `totals`."""
    tensors, parts = map_shard(folder / shard.file), manifest.parts
    check_layout(folder / shard.file, shard, manifest, tensors)
    wrong: dict[str, int] = {}
    for rows in stored_rows(tensors, shard, parts):
        arrays = {name: value.numpy() for name, value in rows.items()}
        for problem, bad in _violations(arrays, parts).items():
            if bad.any():
                wrong[problem] = wrong.get(problem, 0) + int(bad.sum())
        try:
            check_stored_targets(rows, arrays["target_ids"], parts["how"], parts["temperature"])
        except ValueError as error:
            wrong[str(error)] = wrong.get(str(error), 0) + 1
        _add_to_totals(arrays, parts, totals)
    return (f"{problem} ({count:,} times)" for problem, count in wrong.items())


def stored_rows(
    tensors: Mapping[str, Tensor], shard: CacheShard, parts: Mapping[str, Any]
) -> Iterator[dict[str, Tensor]]:
    """The rows of a shard, by name, some thousand tokens at a time; slots that are empty have the id −1.

    Raises:
        ValueError: a document's bytes are not what was packed.
    """
    if parts["format"] != RAGGED:
        for start in range(0, shard.tokens, _CHUNK_TOKENS):
            yield {name: tensors[name][start : start + _CHUNK_TOKENS] for name in PER_TOKEN}
        return
    content, columns = tensors["packed"].numpy(), PackedColumns.of(parts)
    places = pairwise(tensors["packed_offsets"].tolist())
    for counts in np.diff(tensors["offsets"].numpy()):
        begin, end = next(places)
        try:
            document = unpacked(content[begin:end], int(counts), columns)
        except ValueError as error:
            raise ValueError(f"{shard.file}: {error}") from error
        yield padded([document])._asdict() | {"target_ids": torch.from_numpy(document.targets)}


def _violations(rows: Mapping[str, np.ndarray], parts: Mapping[str, Any]) -> dict[str, Any]:
    """For each rule, which tokens `[T]` break it."""
    ids, targets, vocabulary = rows["ids"], rows["target_ids"], parts["vocabulary"]
    by_mass = by_mass_of(parts)
    is_empty = np.zeros(ids.shape, bool) if by_mass is None else ids < 0
    logprobs, entropy = rows["logprobs"].astype(np.float32), rows["entropy"].astype(np.float32)
    numbers = np.stack([rows["log_tail"], rows["label_logprobs"], entropy])
    tail = np.exp(rows["log_tail"])
    prob = np.exp(logprobs)
    rounding = ROUNDING[parts["storage_dtype"]]
    slack = 1e-4 + rounding * np.where(prob > 0, prob * np.abs(np.nan_to_num(logprobs)), 0).sum(1)
    if by_mass is not None:  # whose tail is rounded too
        slack = slack + rounding * np.where(tail > 0, tail * np.abs(np.nan_to_num(rows["log_tail"])), 0)
    mass = prob.sum(1) + tail
    ordered = np.sort(np.where(is_empty, -1 - np.arange(ids.shape[1]), ids), 1)
    return _violations_by_mass(rows, parts, prob.sum(1) + slack) | {
        "an id outside of the vocabulary": (((ids < 0) & ~is_empty) | (ids >= vocabulary)).any(1),
        "an observed token outside of the vocabulary": (targets < 0) | (targets >= vocabulary),
        "an id kept twice for a token": (ordered[:, 1:] == ordered[:, :-1]).any(1),
        "NaN": np.isnan(logprobs).any(1) | np.isnan(numbers).any(0),
        "a probability above 1": (logprobs > 0).any(1) | (numbers[:2] > 1e-5).any(0),
        "a negative entropy": entropy < -1e-3,
        "probabilities not in falling order": (logprobs[:, 1:] > logprobs[:, :-1]).any(1),
        "a mass above 1": mass > 1 + slack,
        "a mass below 1": (mass < 1 - slack) if parts["k"] else np.zeros(len(mass), bool),
    }


def _violations_by_mass(
    rows: Mapping[str, np.ndarray], parts: Mapping[str, Any], covered: np.ndarray
) -> dict[str, Any]:
    """For each rule of tokens kept by their mass, which tokens `[T]` break it.

    Args:
        covered: mass of the tokens kept, with its rounding.
    """
    by_mass, counts = by_mass_of(parts), (rows["ids"] >= 0).sum(1)
    if by_mass is None:
        return {}
    return {
        f"fewer than {by_mass.min_k} tokens kept": counts < by_mass.min_k,
        f"more than {by_mass.missing:g} of the mass left out": (
            (covered < 1 - by_mass.missing) & (counts < by_mass.max_k)
        ),
    }


def _add_to_totals(rows: Mapping[str, np.ndarray], parts: Mapping[str, Any], totals: _Totals) -> None:
    if parts["how"] == "sampled" or not parts["k"]:
        return
    logprobs = rows["logprobs"].astype(np.float32)
    prob = np.exp(logprobs)
    mass = prob.sum(1).clip(0, 1)
    totals.by_rank = totals.by_rank + np.pad(prob.sum(0, dtype=np.float64), (0, parts["k"] - prob.shape[1]))
    counts = np.bincount((np.nan_to_num(mass) * _STEPS).astype(np.int64), minlength=_STEPS + 1)
    totals.masses += counts
    totals.mass += float(mass.sum())
    totals.tokens += len(mass)
    # Whatever the label pushed out is in the tail, and at least as likely as the label.
    at = np.arange(len(mass)), (rows["ids"] >= 0).sum(1) - 1
    last = rows["ids"][at] == rows["target_ids"]
    totals.outside += int((last & (rows["log_tail"] >= logprobs[at])).sum())


def _report(folder: Path, manifest: Manifest, totals: _Totals, problems: tuple[str, ...]) -> Report:
    tokens = totals.tokens
    cumulated = np.cumsum(totals.masses)
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
        captured=_bins(totals.masses) if tokens else (),
        mean_captured=totals.mass / tokens if tokens else None,
        percentiles=percentiles if tokens else {},
        label_outside=totals.outside / tokens if tokens else None,
        warning=_warning(folder, manifest, totals) if tokens and not problems else None,
    )


def _warning(folder: Path, manifest: Manifest, totals: _Totals) -> str | None:
    by_rank, parts = tuple((np.atleast_1d(totals.by_rank) / totals.tokens).tolist()), manifest.parts
    found = CapturedMass(totals.mass / totals.tokens, by_rank, parts["vocabulary"], by_mass_of(parts))
    return found.warning(str(folder))


def _bins(masses: np.ndarray) -> tuple[MassBin, ...]:
    bounds = [round(edge * _STEPS) for edge in EDGES]
    bounds[-1] += 1  # a mass of 1 is in the last
    sums = [int(masses[low:high].sum()) for low, high in pairwise(bounds)]
    return tuple(MassBin(low, high, count) for (low, high), count in zip(pairwise(EDGES), sums, strict=True))


def histogram_lines(histogram: tuple[MassBin, ...], width: int = 40) -> list[str]:
    """A histogram as lines of text, the longest bar `width` wide."""
    most, total = max(bin.tokens for bin in histogram), sum(bin.tokens for bin in histogram)
    return [
        f"{bin.low:>5.3g} – {bin.high:<5.3g} {'█' * round(width * bin.tokens / most):{width}} {bin.tokens / total:6.1%}"
        for bin in histogram
    ]

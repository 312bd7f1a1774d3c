"""All learned tokens of measured rows as columns, and the regions and marks by which they are counted."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from transformers import PreTrainedTokenizerBase

from qtarget.job.inspection.measured_rows import MeasuredRow, MeasuredSet
from qtarget.job.inspection.token_kinds import token_kind
from qtarget.job.inspection.token_texts import said_spans, token_texts

P_EDGES = (0.0, 0.1, 0.5, 0.9, 1.0)
ENTROPY_EDGES = (0.0, 1.0, 2.0, np.inf)
"""Edges of the map's regions: the student's probability of the label, and its entropy in nats."""
CONFLICT = (0.1, 1.0)
"""A confident conflict: the label below this probability, the student's entropy below so many nats. It then has another
token at e^(−1) or more."""
CONTRADICTION = (0.1, 0.5)
"""The teacher contradicts a label that it gives less than the first, where another token has at least the second."""


class Region(NamedTuple):
    """A cell of the map: low ≤ p_y < high (the last one up to 1), and entropy likewise."""

    p_low: float
    p_high: float
    entropy_low: float
    entropy_high: float


@dataclass(frozen=True)
class TokenTable:
    """N learned tokens of some rows.

    Attributes:
        row: [N] places in `rows`.
        rows: the rows that they are of.
        texts: of each row, all its tokens.
        said: of each row, the stretches of it that its turns say, as `said_spans` finds them.
        kinds: [N] of `token_kinds.TOKEN_KINDS`.
        sources: names of teachers and reference.
    """

    rows: Sequence[MeasuredRow]
    texts: Sequence[Sequence[str]]
    said: Sequence[Sequence[tuple[int, int]]]
    row: np.ndarray
    kinds: np.ndarray
    sources: tuple[str, ...]

    def number(self, name: str) -> np.ndarray:
        """A column of `MeasuredRow.numbers`, [N]."""
        return np.concatenate([row.numbers[name] for row in self.rows])

    def pull(self, method: str, part: str) -> np.ndarray:
        """A column of a method's `TokenPull`, [N]."""
        return np.concatenate([row.pulls[method][part] for row in self.rows])

    @property
    def p_y(self) -> np.ndarray:
        return np.exp(self.number("logp_y"))

    @property
    def teachers(self) -> tuple[str, ...]:
        return tuple(name for name in self.sources if name.startswith("teacher"))

    @property
    def regions(self) -> np.ndarray:
        """[N] places in `map_regions`."""
        column = np.clip(np.searchsorted(P_EDGES, self.p_y, "right") - 1, 0, len(P_EDGES) - 2)
        line = np.clip(np.searchsorted(ENTROPY_EDGES, self.number("entropy"), "right") - 1, 0, len(ENTROPY_EDGES) - 2)
        return line * (len(P_EDGES) - 1) + column

    @property
    def conflicts(self) -> np.ndarray:
        """[N] whether the student is sure of another token."""
        return (self.p_y < CONFLICT[0]) & (self.number("entropy") < CONFLICT[1])

    def contradicted(self, teacher: str) -> np.ndarray:
        """[N] whether a teacher is sure of another token."""
        label, top = (np.exp(self.number(f"{teacher} {name}")) for name in ("logp_y", "top_logp"))
        return (label < CONTRADICTION[0]) & (top >= CONTRADICTION[1])

    def sample(self) -> "TokenTable":
        """The tokens of the rows that speak for the set: those drawn at random, or all."""
        places = [place for place, row in enumerate(self.rows) if row.row.why in ("random", "all")]
        inside = np.isin(self.row, places)
        renumbered = np.searchsorted(places, self.row[inside]) if places else self.row[inside]
        return TokenTable(
            [self.rows[place] for place in places],
            [self.texts[place] for place in places],
            [self.said[place] for place in places],
            renumbered,
            self.kinds[inside],
            self.sources,
        )


def map_regions() -> list[Region]:
    """The map's cells: entropy rises from line to line, p_y from column to column."""
    columns, lines = list(pairwise(P_EDGES)), list(pairwise(ENTROPY_EDGES))
    return [Region(*column, *line) for line in lines for column in columns]


def token_table(found: MeasuredSet, tokenizer: PreTrainedTokenizerBase, ends: set[int]) -> TokenTable:
    """The table of measured rows."""
    texts = [token_texts(row.row.ids.tolist(), tokenizer) for row in found.rows]
    kinds = [
        token_kind(text[place], int(row.row.ids[place]) in ends)
        for row, text in zip(found.rows, texts, strict=True)
        for place in row.row.learned
    ]
    added = tokenizer.added_tokens_decoder
    marks = {*tokenizer.all_special_ids, *(token for token, each in added.items() if each.special)}
    said = [
        said_spans(text, [token in marks for token in row.row.ids.tolist()])
        for row, text in zip(found.rows, texts, strict=True)
    ]
    lengths = [len(row.row.learned) for row in found.rows]
    return TokenTable(
        found.rows, texts, said, np.repeat(np.arange(len(lengths)), lengths), np.array(kinds), found.sources
    )

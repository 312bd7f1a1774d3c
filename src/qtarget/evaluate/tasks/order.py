"""Shuffling the options of a question, where the set gives no order, by the question's text alone."""

import hashlib


def shuffled(count: int, text: str) -> list[int]:
    """A permutation of range(count), always the same for the same text (by sha256, on every machine and version)."""
    return sorted(range(count), key=lambda place: hashlib.sha256(f"{place}\n{text}".encode()).digest())

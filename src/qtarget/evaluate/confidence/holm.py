"""Holm's adjustment of p values, for several arms against one baseline."""

from collections.abc import Sequence


def holm(ps: Sequence[float]) -> list[float]:
    """Adjusted p values: call those below 0.05 clear, and the chance that any of these calls is wrong is 0.05.

    Holm (1979). For several arms against one baseline; in the order given.
    """
    adjusted, largest = [0.0] * len(ps), 0.0
    for rank, place in enumerate(sorted(range(len(ps)), key=lambda place: ps[place])):
        largest = max(largest, min(1.0, (len(ps) - rank) * ps[place]))
        adjusted[place] = largest
    return adjusted

"""A range of numbers, and how errors tell it: what may be written for a key, a flag or an argument."""

import math
from typing import NamedTuple

LARGEST_NUMBER = 1e38
"""What arithmetic in 32 bits takes, with a little room."""
LARGEST_COUNT = 2**31 - 1
"""What counts are held in, by libraries: 31 bits."""


class NumberRange(NamedTuple):
    """The numbers that a key may hold.

    Attributes:
        least, most: the ends of the range, which belong to it.
        example: a number to write.
        above, below: whether the number must be above `least`, or below `most`; that end then does not belong to it.
        also: single numbers outside the range that the key may hold too.
    """

    least: float
    most: float
    example: float
    above: bool = False
    below: bool = False
    also: tuple[float, ...] = ()

    def has(self, number: float) -> bool:
        over = number > self.least if self.above else number >= self.least
        under = number < self.most if self.below else number <= self.most
        return ((over and under) or number in self.also) and abs(number) <= LARGEST_NUMBER

    def words(self, number: float = 0) -> str:
        """The range in words; of a number that is too large for a range without an end of its own, how large one may
        be."""
        low = f"a number above {self.least:g}" if self.above else f"{self.least:g} or more"
        if self.most in (LARGEST_COUNT, math.inf):
            if number > min(LARGEST_NUMBER, self.most):
                return f"at most {LARGEST_NUMBER:g}" if math.isinf(self.most) else f"at most {LARGEST_COUNT:,}"
            return ", or ".join([low, *(f"{each:g}" for each in self.also)])
        if self.above or self.below:
            return f"{low} and {'less than' if self.below else 'at most'} {self.most:g}"
        return f"{self.least:g} to {self.most:,.0f}"


COUNT = NumberRange(1, LARGEST_COUNT, 8)

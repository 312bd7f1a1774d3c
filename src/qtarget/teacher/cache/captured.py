"""How much of a teacher's probability K kept tokens hold, whether that is enough, and which K would be."""

import math
from dataclasses import dataclass

import numpy as np

from qtarget.teacher.cache.contents import ByMass
from qtarget.teacher.distributions import KeptLogprobs

ENOUGH = 0.8
"""Mean captured mass below which a user is told: from there on a step's gradient is off by a tenth and more
(docs/teacher-caches.md, "How much is enough")."""


@dataclass(frozen=True)
class CapturedMass:
    """The captured mass: that of the tokens kept, together, as a mean over tokens of text.

    Attributes:
        mean: in [0, 1].
        by_rank: [K], the mean probability of the likeliest token, of the second, and so on.
        vocabulary: tokens that the teacher's distribution is over.
        by_mass: the rule by which tokens were kept; None where as many are everywhere.
    """

    mean: float
    by_rank: tuple[float, ...]
    vocabulary: int
    by_mass: ByMass | None = None

    @staticmethod
    def of(kept: KeptLogprobs, vocabulary: int, by_mass: ByMass | None = None) -> "CapturedMass | None":
        """What was captured at some tokens; None where no token is kept, or there is no token of text."""
        prob_TK = np.exp(kept.logprobs.float().numpy())
        if not prob_TK.size:
            return None
        return CapturedMass(float(prob_TK.sum(1).mean()), tuple(prob_TK.mean(0).tolist()), vocabulary, by_mass)

    @property
    def is_enough(self) -> bool:
        return self.mean >= ENOUGH or len(self.by_rank) >= self.vocabulary

    @property
    def tokens_needed(self) -> int:
        """About how many tokens hold `ENOUGH`: probabilities go on falling with their rank as the last half of them
        did, as a power of the rank. A power of two, or the whole vocabulary; at least twice as many as were kept."""
        k = len(self.by_rank)
        rank, missing = self._sure_ranks, ENOUGH - sum(self.by_rank[: self._sure_ranks])
        half = max(rank // 2, 1)
        last, middle = max(self.by_rank[rank - 1], 1e-12), max(self.by_rank[half - 1], 1e-12)
        fall = max(math.log(middle / last) / math.log(rank / half), 0.0) if rank > half else 1.0
        found = min(_rank_of_mass(last, rank, fall, missing), self.vocabulary)
        return min(max(2 ** math.ceil(math.log2(max(found, 1))), 2 * k), self.vocabulary)

    @property
    def _sure_ranks(self) -> int:
        """The ranks that are the teacher's own: the last place may be the label's."""
        return max(len(self.by_rank) - 1, 1)

    def warning(self, name: str, line: str | None = None) -> str | None:
        """What to tell a user, in the same words wherever; None where enough is captured.

        Args:
            name: of the cache or server, as the sentence begins.
            line: what to write for the K that would do; by default for the command line.
        """
        if self.is_enough:
            return None
        tokens = f"{len(self.by_rank)} tokens" if self.by_mass is None else f"at most {len(self.by_rank)} tokens"
        return (
            f"{name} holds {self.mean:.2f} of the teacher's probability in the mean, in {tokens}; "
            "the rest is shaped as the student's, so the target is nearer to the student than the teacher is. "
            f"{ENOUGH:g} and more is enough: write {line or self._line}, by estimate."
        )

    @property
    def _line(self) -> str:
        """What to write on the command line."""
        key, value = "teacher_top_k", f"{self.tokens_needed}"
        if self.by_mass is not None:
            is_rule = self.by_mass.missing > 1 - ENOUGH
            key, value = ("cache_missing_mass", "0.05") if is_rule else ("cache_max_k", value)
        return f"`{key}: {value}` (or --{key.replace('_', '-')} {value})"


def _rank_of_mass(last: float, rank: int, fall: float, missing: float) -> float:
    """The rank up to which `missing` more mass stands, where the token of a rank r beyond `rank` has the probability
    last·(rank / r)^fall; infinity where all ranks together have less."""
    if missing <= 0:
        return rank
    share = missing / (last * rank)
    if abs(fall - 1) < 1e-6:
        return rank * math.exp(min(share, 700))
    base = 1 + share * (1 - fall)
    if base <= 0:
        return math.inf
    power = math.log(base) / (1 - fall)
    return rank * math.exp(power) if power < 700 else math.inf

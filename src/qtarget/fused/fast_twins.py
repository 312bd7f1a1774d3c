"""Which statistics and pools have a fast twin in the torch engine; all others it measures by their definitions."""

from qtarget.target.evidence import Sparse, SupervisedTokens
from qtarget.target.kept_tokens import sums_to_one
from qtarget.target.pool import Pool, sources_of
from qtarget.target.rule import STUDENT, Moment, Statistic

FROM_SOFTMAX = {Moment.LABEL_LOGP, Moment.LABEL_IS_TOP, Moment.COLLISION, Moment.LOG_NOT_LABEL, Moment.TOP_MASS}
"""Moments of the student computable from softmax(z) after it was written over z. For any other that is not measured
before, z is kept."""
OF_SOURCES = {Moment.LABEL_LOGP, Moment.LABEL_PROBABILITY, Moment.ENTROPY, Moment.NEGENTROPY}
"""Moments of the reference and of teachers that have a fast twin here, where whole distributions are given."""


def is_of_student(statistic: Statistic) -> bool:
    """Whether a statistic is measured on the student itself, also where it stands as a pool."""
    pool = statistic.of if isinstance(statistic.of, Pool) else None
    return statistic.source == STUDENT and (pool is None or pool.is_student)


def is_from_softmax(statistic: Statistic) -> bool:
    """Whether a statistic is measured from the student's softmax, when its logits may be gone."""
    return is_of_student(statistic) and statistic.moment in FROM_SOFTMAX


def is_sparse(pool: Pool, tokens: SupervisedTokens) -> bool:
    """Whether a pool, or what its slope compares with, is made of a source of which only K tokens were kept."""
    return any(isinstance(tokens.source(name), Sparse) for name, _ in sources_of(pool.read))


def is_fast(pool: Pool, tokens: SupervisedTokens) -> bool:
    """Whether a pool, or what its slope compares with, is a softmax of sums of logits, or works out on the K tokens
    of a sparse source.
    """
    if any(part.potential is not None for part in pool.parts) or isinstance(pool.tangent, Pool):
        return False
    if not is_sparse(pool, tokens):
        return True
    (name, exponent), *others = sources_of(pool.read)
    kept, student = tokens.source(name), pool.read.student
    serves = pool.slope is None or (pool.slope.of_ratio and student == 0)
    return serves and not others and kept.tail != "uniform" and sums_to_one(student, exponent * kept.temperature)

"""How many tokens of a distribution a run's cache keeps."""

from qtarget.job.config.checked_job import Job
from qtarget.teacher.cache import ByMass
from qtarget.teacher.cache.contents import bytes_per_token


def rule_for(job: Job, role: str) -> ByMass | None:
    """By which mass tokens of a "teacher" or "reference" are kept; None for as many everywhere, or the label alone."""
    return None if role in job.method.label_only else job.cache.by_mass


def tokens_kept(job: Job, role: str) -> int:
    """K, the tokens kept of each distribution: `teacher_top_k`, or as many as fit `cache_bytes_per_token`; none where
    the method reads only the label's probability. By their mass, the most of any."""
    budget, by_mass = job.cache.bytes_per_token, rule_for(job, role)
    if role in job.method.label_only:
        return 0
    if by_mass is not None:
        return by_mass.max_k
    if budget is None:
        return job.args.teacher_top_k
    least, each = (bytes_per_token(k, job.cache.dtype) - bytes_per_token(0, job.cache.dtype) for k in (0, 1))
    kept = (budget - bytes_per_token(0, job.cache.dtype) - least) // each
    if kept < 1:
        raise ValueError(
            f"`cache_bytes_per_token: {budget}` leaves no room for a token; expected at least "
            f"{bytes_per_token(1, job.cache.dtype)}, which keep one; {bytes_per_token(64, job.cache.dtype)} keep 64."
        )
    return kept

"""An evaluation from beginning to end: tasks → prompt ids → generator → samples on disk → grades → statistics."""

from qtarget.evaluate.plan import Plan
from qtarget.evaluate.results import Results


def run_evaluation(plan: Plan) -> Results:
    """Draw what is not there yet, grade it, and write ``results.json``; see `Plan`.

    Raises:
        ValueError: the plan cannot be run, its folder holds another evaluation, or a sample is damaged.
        Interrupted: on Ctrl-C; the samples drawn so far stay.
    """
    raise NotImplementedError(plan)

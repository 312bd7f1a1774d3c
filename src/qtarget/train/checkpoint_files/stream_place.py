"""Where in a data set without a length a run stopped, which the Trainer's own count does not tell."""

from pathlib import Path

from transformers import TrainerState

from qtarget.train.resumption.whole_checkpoints import STATE


def place_in_stream(checkpoint: Path, accumulation: int) -> tuple[int, int]:
    """Passes over the data set that were begun before the last one, and micro-batches of that one.

    The Trainer takes such a set to be as long as the run, so its own count points past the end of a shorter one. It
    writes the place into the state's `epoch`: the passes, and micro-batches over those of the whole run.
    """
    state = TrainerState.load_from_json(str(checkpoint / STATE))
    passes, part = divmod(state.epoch or 0.0, 1)
    of_run = state.max_steps * accumulation
    if part == 0 and passes:  # the whole run was one pass
        return int(passes) - 1, of_run
    return int(passes), round(part * of_run)

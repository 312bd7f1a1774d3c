"""The weights of a checkpoint are looked at before they are read, and the model that reads them keeps its types."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from qtarget.data import Asker
from qtarget.models.pickle_contents import check_pickles
from qtarget.models.pickled_weights import ALLOW, pickles_of_checkpoint, refuse_pickled_checkpoint
from qtarget.models.shard_index import refuse_shards_outside
from qtarget.train.checkpoint_files.checkpoint_pickles import OTHER_CHECKPOINT


def check_checkpoint_weights(checkpoint: Path, args: Any, asker: Asker) -> None:
    """Refuse weights that lie outside of the checkpoint, and pickled ones: all, or with `args.allow_pickled_weights`
    those that hold more than weights.

    Raises:
        ValueError: names the file.
    """
    refuse_shards_outside(checkpoint)
    if getattr(args, ALLOW, False):
        check_pickles(pickles_of_checkpoint(checkpoint), OTHER_CHECKPOINT)
    else:
        refuse_pickled_checkpoint(checkpoint, asker.line(ALLOW, True))


@contextmanager
def dtypes_kept(model: Any) -> Iterator[None]:
    """While the block reads weights into a model they stay of the types that they had. peft reads an adapter as float32
    where TRL, for a quantised model, trains it in bfloat16."""
    before = {name: weight.dtype for name, weight in model.named_parameters()}
    yield
    for name, weight in model.named_parameters():
        if weight.dtype != before.get(name, weight.dtype):
            weight.data = weight.data.to(before[name])

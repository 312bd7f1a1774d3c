"""What stands in the output directory when the Trainer pushes a checkpoint to the hub from there."""

import shutil
from pathlib import Path

from qtarget.disk.seal import SEAL

CARD = "README.md"


def lay_out_card(checkpoint: Path, output: Path) -> None:
    """Put the card of a checkpoint, where it has one, into the output directory, in which the Trainer puts its
    weights. The seal of a result goes, as it does not speak of them."""
    if (card := checkpoint / CARD).is_file():
        (output / SEAL).unlink(missing_ok=True)
        shutil.copyfile(card, output / CARD)

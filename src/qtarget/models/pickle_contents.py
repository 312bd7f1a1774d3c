"""What is in a pickle that is about to be read: torch's `weights_only` refuses code, and here the file is named."""

import pickle
import re
import warnings
import zipfile
from collections.abc import Iterable
from pathlib import Path

import torch
from transformers.trainer_pt_utils import safe_globals

_CODE = re.compile(r"GLOBAL (\S+)")
"""How torch names what a pickle would have called."""


def check_pickles(files: Iterable[Path], remedy: str) -> None:
    """Refuse pickles that hold more than numbers and texts, or are damaged. Those that are not there are passed over.

    Tensors of a file in torch's present format are not read.

    Args:
        remedy: what to do in place of it, as "resume from another checkpoint".

    Raises:
        ValueError: names the file, and what it would have called.
    """
    for path in files:
        if not path.is_file():
            continue
        try:
            with safe_globals(), warnings.catch_warnings(action="ignore"):  # random states of numpy are numbers too
                torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
        except pickle.UnpicklingError as error:
            found = _CODE.search(str(error))
            what = f"it names {found[1]}" if found else "torch does not know its kind"
            raise ValueError(
                f"{path} is a pickle that holds more than numbers ({what}), and could run code when it is read; "
                f"{remedy}."
            ) from error
        except (RuntimeError, EOFError, ValueError, KeyError, AttributeError, IndexError, TypeError) as error:
            reason = str(error).partition("\n")[0].partition(". ")[0] or "it ends too early"
            raise ValueError(f"{path} is damaged ({reason}); {remedy}.") from error

"""What goes wrong with files on one rank is known to all: none goes on as if a checkpoint were there."""

from collections.abc import Callable
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from torch.distributed.checkpoint.api import CheckpointException

from qtarget.disk.os_errors import FullDiskError, WriteFault, write_fault


def fault_on_any_rank(
    write: Callable[[], None], accelerator: Accelerator, is_exchanging: bool = False
) -> Exception | None:
    """What went wrong with files on this rank as it wrote, or on another, if anything did. All ranks wait for each
    other.

    Args:
        is_exchanging: whether ranks exchange parts as they write. One that fails cannot wait for the others then.

    Raises:
        OSError: on the rank that failed while ranks were exchanging parts.  Exception: whatever is no fault of files.
    """
    error = _fault_here(write, is_exchanging and accelerator.num_processes > 1)
    if accelerator.num_processes == 1:
        return error
    failed: Any = torch.tensor(float(error is not None), device=accelerator.device)
    failed = accelerator.reduce(failed, "sum")
    return _first_fault(error, accelerator) if failed.item() else None


def _fault_here(write: Callable[[], None], is_raised: bool) -> Exception | None:
    try:
        write()
    except (Exception, CheckpointException) as refused:  # the second, torch's of all ranks, is no Exception
        fault = write_fault(refused)
        if fault is None:
            raise
        if is_raised:
            raise _error_of(fault) from refused
        return _error_of(fault) if isinstance(refused, CheckpointException) else refused
    return None


def _first_fault(error: Exception | None, accelerator: Accelerator) -> OSError:
    """What went wrong on the first rank of those where something did, in the same words on every rank."""
    fault = write_fault(error)
    own = fault and WriteFault(f"On rank {accelerator.process_index}: {fault.words}", fault.is_full)
    return _error_of(next(each for each in gather_object([own]) if each is not None))


def _error_of(fault: WriteFault) -> OSError:
    return FullDiskError(fault.words) if fault.is_full else OSError(fault.words)

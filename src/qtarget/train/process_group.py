"""The process group of several ranks: joined within a bounded time, truly one, and of one model."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import torch.distributed as dist
from accelerate.utils import DistributedType

from qtarget.data import Asker

GIVEN_BY_A_LAUNCHER = {"RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"}
ONE_FILE = "FULL_STATE_DICT"


def join_group(args: Any) -> None:
    """Join the other ranks on CPUs, where transformers would do so without `args.ddp_timeout`."""
    is_launched = os.environ.keys() >= GIVEN_BY_A_LAUNCHER and os.environ["WORLD_SIZE"] != "1"
    is_gloo = args.ddp_backend == "gloo" or (args.ddp_backend is None and not dist.is_mpi_available())
    if is_launched and args.use_cpu and is_gloo and not dist.is_initialized():
        dist.init_process_group("gloo", timeout=timedelta(seconds=args.ddp_timeout))


def check_group(args: Any, accelerator: Any, asker: Asker) -> None:
    """Refuse ranks that would train each for itself, and a model that would not be cut over ranks though it should.

    Raises:
        ValueError: with the line to write.
    """
    launched = int(os.environ.get("WORLD_SIZE", "1"))
    if launched > 1 and accelerator.num_processes == 1:
        raise ValueError(
            f"{launched} processes were started together, and each would train alone, as there is no accelerator; "
            f"write {asker.line('use_cpu', True)}, or start one process."
        )
    if args.fsdp and accelerator.distributed_type != DistributedType.FSDP:
        raise ValueError(
            "`fsdp` would not cut the model over the ranks: accelerate does so on accelerators alone; leave `fsdp` and "
            "`fsdp_config` out."
        )


@contextmanager
def whole_weights(accelerator: Any) -> Iterator[None]:
    """While the block runs, the model that FSDP has cut is saved as one, though its checkpoints are saved in parts
    (`SHARDED_STATE_DICT`): the Trainer writes no model then."""
    plugin = getattr(accelerator.state, "fsdp_plugin", None)
    if plugin is None or plugin.state_dict_type.name == ONE_FILE:
        yield
        return
    before = plugin.state_dict_type.name
    plugin.set_state_dict_type(ONE_FILE)
    try:
        yield
    finally:
        plugin.set_state_dict_type(before)

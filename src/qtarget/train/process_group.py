"""The process group of several ranks: joined within a bounded time, truly one, and of one model."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import torch.distributed as dist
from accelerate.utils import DistributedType, get_int_from_env
from transformers.trainer_utils import SaveStrategy

from qtarget.data import Asker
from qtarget.models.sharding import is_cut_as_read, zero_stage

GIVEN_BY_A_LAUNCHER = {"RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"}
SIZE_GIVEN_BY = ["PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "MV2_COMM_WORLD_SIZE", "WORLD_SIZE"]
"""What tells accelerate how many processes a launch has."""
ONE_FILE = "FULL_STATE_DICT"


def join_group(args: Any) -> None:
    """Join the other ranks on CPUs, where transformers would do so without `args.ddp_timeout`.

    A process that no launcher started has no ranks to join: `args.ddp_backend` is then set to None, without which
    accelerate asks a group that nobody made.
    """
    if "LOCAL_RANK" not in os.environ and get_int_from_env(SIZE_GIVEN_BY, 1) <= 1:
        args.ddp_backend = None
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
    if (args.fsdp or _launcher_says("FSDP")) and accelerator.distributed_type != DistributedType.FSDP:
        raise ValueError(
            "`fsdp` would not cut the model over the ranks: accelerate does so on accelerators alone; leave `fsdp` and "
            "`fsdp_config` out, and `--use_fsdp` or the launcher's FSDP configuration."
        )
    if (args.deepspeed or _launcher_says("DEEPSPEED")) and accelerator.distributed_type != DistributedType.DEEPSPEED:
        raise ValueError(
            "DeepSpeed would not be used: accelerate leaves it out on a CPU that its launcher was told of (`--cpu`, "
            "`use_cpu: true` of its configuration); leave that out, or DeepSpeed."
        )


def _launcher_says(kind: str) -> bool:
    """Whether accelerate's launcher was asked for "FSDP" or "DEEPSPEED"."""
    return os.environ.get(f"ACCELERATE_USE_{kind}", "false").lower() == "true"


def check_zero3(accelerator: Any) -> None:
    """Refuse ZeRO stage 3 that keeps the result in parts, which no loader of models reads.

    Raises:
        ValueError: with the line to write.
    """
    if zero_stage(accelerator.state) != 3:
        return
    zero = accelerator.state.deepspeed_plugin.deepspeed_config["zero_optimization"]
    if zero.get("stage3_gather_16bit_weights_on_model_save") is not True:
        raise ValueError(
            "DeepSpeed ZeRO stage 3 would keep the trained model in parts, one for each rank; write "
            "`zero3_save_16bit_model: true` into `deepspeed_config` of accelerate's configuration (or "
            '`"stage3_gather_16bit_weights_on_model_save": true` into `zero_optimization` of DeepSpeed\'s own). '
            "examples/scale/zero3.yaml is such a file."
        )


def check_saving(model: Any, args: Any, asker: Asker) -> None:
    """Refuse checkpoints to go on from of a student that transformers cuts over ranks: it saves no optimizer of one.

    Args:
        model: the student, or its path, which `args` says how to read.

    Raises:
        ValueError: with the line to write.
    """
    loading = args.model_init_kwargs if isinstance(args.model_init_kwargs, dict) else {}
    if not is_cut_as_read(model) and not loading.get("distributed_config"):
        return
    if args.save_strategy != SaveStrategy.NO and not args.save_only_model:
        raise ValueError(
            "`distributed_config` cuts the student over ranks as it is read, and transformers saves no optimizer of "
            f"such a model, so that no run goes on from a checkpoint; write {asker.line('save_strategy', 'no')}. The "
            "trained model is saved whole at the end."
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

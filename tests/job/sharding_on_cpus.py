"""FSDP2 and tensor parallelism between processes on CPUs: accelerate has them on accelerators alone, though torch has
them on CPUs."""

import os
from typing import NamedTuple

from accelerate import PartialState
from accelerate.utils import DistributedType


class ShardingOnCPUs(NamedTuple):
    """accelerate takes CPUs for accelerators when it decides whether to cut the model, and nowhere else.

    Attributes:
        fsdp: whether it is to cut the model itself, by FSDP2.
    """

    fsdp: bool = True

    def install(self) -> None:
        begin = PartialState.__init__

        def beginning(state, *args, **kwargs):
            is_first = not state.initialized
            begin(state, *args, **kwargs)
            if is_first and state.distributed_type == DistributedType.MULTI_CPU:
                state.distributed_type = DistributedType.MULTI_GPU

        PartialState.__init__ = beginning
        if self.fsdp:
            os.environ["ACCELERATE_USE_FSDP"] = "true"

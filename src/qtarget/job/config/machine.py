"""Settings that depend on the machine, where a configuration does not say: precision and pinned memory."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch


class MachineChoices(NamedTuple):
    """Keys for the trainer's configuration, and the precision in words ("" where the user chose it)."""

    keys: dict[str, bool]
    note: str


def machine_choices(values: Mapping[str, Any]) -> MachineChoices:
    """bf16 on a GPU that has it, fp16 on an older one, float32 on a CPU; memory is pinned only for a GPU.

    TRL's default is bf16 everywhere, which is slow or fails on a CPU.
    """
    cuda = torch.cuda.is_available() and not values.get("use_cpu")
    pinned = {} if cuda or "dataloader_pin_memory" in values else {"dataloader_pin_memory": False}
    if values.get("bf16") is not None or "fp16" in values:
        return MachineChoices({**pinned, **_cpu(values)}, "")
    if not cuda:
        return MachineChoices(
            {"bf16": False, **pinned, **_cpu(values)}, "float32, as no CUDA device is used (`bf16: true` overrides)"
        )
    if torch.cuda.is_bf16_supported(including_emulation=False):
        return MachineChoices({"bf16": True}, "bf16 mixed precision, which this GPU has (`bf16: false` is float32)")
    return MachineChoices(
        {"bf16": False, "fp16": True}, "fp16 mixed precision, as this GPU has no bf16 (`bf16: false` is float32)"
    )


def _cpu(values: Mapping[str, Any]) -> dict[str, bool]:
    """`use_cpu` for bf16 on a machine without an accelerator, where transformers refuses bf16 until told so.

    Raises:
        ValueError: for fp16, which has no training on a CPU.
    """
    if torch.accelerator.is_available() and not values.get("use_cpu"):
        return {}
    if values.get("fp16"):
        raise ValueError("`fp16: true` needs a GPU, and none is used here; write `bf16: true`, or leave it out.")
    wants_bf16 = values.get("bf16") or values.get("bf16_full_eval")
    return {"use_cpu": True} if wants_bf16 and "use_cpu" not in values else {}

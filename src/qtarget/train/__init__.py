"""Training under any target, on top of TRL's `SFTTrainer`."""

from qtarget.train.config import TargetSFTConfig
from qtarget.train.nonfinite import NonFiniteLossError
from qtarget.train.trainer import TargetSFTTrainer

__all__ = ["NonFiniteLossError", "TargetSFTConfig", "TargetSFTTrainer"]

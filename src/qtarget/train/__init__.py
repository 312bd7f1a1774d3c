"""Training under any target, on top of TRL's `SFTTrainer`."""

from qtarget.train.versions import check_versions

check_versions()  # before anything of TRL's is touched

from qtarget.train.nonfinite import NonFiniteLossError  # noqa: E402
from qtarget.train.stopping import stop_with_checkpoint  # noqa: E402
from qtarget.train.target_sft_config import TargetSFTConfig  # noqa: E402
from qtarget.train.trainer import TargetSFTTrainer  # noqa: E402

__all__ = ["NonFiniteLossError", "TargetSFTConfig", "TargetSFTTrainer", "stop_with_checkpoint"]

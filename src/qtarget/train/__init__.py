"""Training under any target, on top of TRL's `SFTTrainer`."""

from qtarget.outcomes import needs_extra

with needs_extra("qtarget.train"):
    from qtarget.train.versions import check_versions, known_parts

    check_versions()  # before anything of TRL's is touched
    with known_parts():
        from qtarget.train.finite_weights import NonFiniteWeightsError, check_finite_weights
        from qtarget.train.nonfinite_rows import NonFiniteLossError
        from qtarget.train.resumption.sealed_run import SaveError
        from qtarget.train.row_mixture import MixtureStopping, RowMixture, RowSet
        from qtarget.train.stopping import stop_with_checkpoint
        from qtarget.train.target_sft_config import TargetSFTConfig
        from qtarget.train.trainer import TargetSFTTrainer

__all__ = [
    "MixtureStopping",
    "NonFiniteLossError",
    "NonFiniteWeightsError",
    "RowMixture",
    "RowSet",
    "SaveError",
    "TargetSFTConfig",
    "TargetSFTTrainer",
    "check_finite_weights",
    "stop_with_checkpoint",
]

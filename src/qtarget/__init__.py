"""Fine-tune language models by designing the target distribution.

    Q = γ·onehot(y) + (1 − γ)·π̃

`method` gives an objective by name, `q_target_loss` is its definition over logits, `linear_q_target_loss` the same from
hidden states without ever building the logits, `target_distribution` shows the target, `induced_target` that of any
loss.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from qtarget.evidence import Dense as Dense
    from qtarget.evidence import Head as Head
    from qtarget.evidence import LabelOnly as LabelOnly
    from qtarget.evidence import Sparse as Sparse
    from qtarget.fused import linear_q_target_loss as linear_q_target_loss
    from qtarget.induced import induced_target as induced_target
    from qtarget.loss import q_target_loss as q_target_loss
    from qtarget.loss import target_distribution as target_distribution
    from qtarget.methods import METHODS as METHODS
    from qtarget.methods import method as method
    from qtarget.types import LossOutput as LossOutput
    from qtarget.types import Method as Method
    from qtarget.types import Pool as Pool
    from qtarget.types import Rule as Rule
    from qtarget.types import Target as Target
    from qtarget.vocabulary import Shard as Shard

__version__ = "0.1.0"

_HOME = {
    "Dense": "evidence",
    "Head": "evidence",
    "LabelOnly": "evidence",
    "Sparse": "evidence",
    "linear_q_target_loss": "fused",
    "induced_target": "induced",
    "q_target_loss": "loss",
    "target_distribution": "loss",
    "METHODS": "methods",
    "method": "methods",
    "LossOutput": "types",
    "Method": "types",
    "Pool": "types",
    "Rule": "types",
    "Target": "types",
    "Shard": "vocabulary",
}
"""Where each public name lives. They load when first asked for, so that the command line's help need not wait for
torch."""


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'qtarget' has no attribute {name!r}")
    value = getattr(import_module(f"qtarget.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return [*globals(), *_HOME]

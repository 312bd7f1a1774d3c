"""Fine-tune language models by designing the target distribution.

    Q = γ·onehot(y) + (1 − γ)·π̃

`method` gives an objective by name, `q_target_loss` is its definition over logits, `linear_q_target_loss` the same from
hidden states without ever building the logits, `target_distribution` shows the target, `induced_target` that of any
loss. The modules `trust`, `residual`, `slopes`, `changing`, `value`, `statistics`, `frame` and `types` hold what a
target of one's own is composed of.
"""

import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from qtarget.fused.linear_loss import linear_q_target_loss as linear_q_target_loss
    from qtarget.target import changing as changing
    from qtarget.target import frame as frame
    from qtarget.target import residual as residual
    from qtarget.target import slopes as slopes
    from qtarget.target import statistics as statistics
    from qtarget.target import trust as trust
    from qtarget.target import types as types
    from qtarget.target import value as value
    from qtarget.target.evidence import Dense as Dense
    from qtarget.target.evidence import Head as Head
    from qtarget.target.evidence import LabelOnly as LabelOnly
    from qtarget.target.evidence import Sparse as Sparse
    from qtarget.target.induced import induced_target as induced_target
    from qtarget.target.loss import q_target_loss as q_target_loss
    from qtarget.target.loss import target_distribution as target_distribution
    from qtarget.target.methods import METHODS as METHODS
    from qtarget.target.methods import method as method
    from qtarget.target.pool import Pool as Pool
    from qtarget.target.rule import Rule as Rule
    from qtarget.target.types import LossOutput as LossOutput
    from qtarget.target.types import Method as Method
    from qtarget.target.types import Target as Target
    from qtarget.target.vocabulary import Shard as Shard

__version__ = "0.1.0"

_HOME = {
    "linear_q_target_loss": "fused.linear_loss",
    "Dense": "target.evidence",
    "Head": "target.evidence",
    "LabelOnly": "target.evidence",
    "Sparse": "target.evidence",
    "induced_target": "target.induced",
    "q_target_loss": "target.loss",
    "target_distribution": "target.loss",
    "METHODS": "target.methods",
    "method": "target.methods",
    "LossOutput": "target.types",
    "Method": "target.types",
    "Pool": "target.pool",
    "Rule": "target.rule",
    "Target": "target.types",
    "Shard": "target.vocabulary",
}
"""The module of each public name. It is imported when the name is first used, so that the command line's help need not
wait for torch."""

_MODULES = ("changing", "frame", "residual", "slopes", "statistics", "trust", "types", "value")
"""Modules of `qtarget.target` that are public under `qtarget` too: `qtarget.trust` is `qtarget.target.trust`."""


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return import_module(f"qtarget.{name}")
    if name not in _HOME:
        raise AttributeError(f"module 'qtarget' has no attribute {name!r}")
    value = getattr(import_module(f"qtarget.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({"__version__", *_HOME, *_MODULES})


class _PublicModules(MetaPathFinder, Loader):
    """Lets `from qtarget.trust import …` find the module `qtarget.target.trust`: one module object, two names."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        package, _, name = fullname.rpartition(".")
        return ModuleSpec(fullname, self) if package == "qtarget" and name in _MODULES else None

    def exec_module(self, module: ModuleType) -> None:
        name = module.__name__.rpartition(".")[2]
        sys.modules[module.__name__] = import_module(f"qtarget.target.{name}")


if not any(type(finder).__name__ == _PublicModules.__name__ for finder in sys.meta_path):  # once, also after a reload
    sys.meta_path.append(_PublicModules())

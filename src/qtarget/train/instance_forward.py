"""The forward that a model's instance has in the place of its class's: another trainer's, a user's, accelerate's."""

from typing import Any

from accelerate.utils import is_peft_model
from torch import nn
from transformers import TrainerCallback


def instance_forward(model: nn.Module) -> Any:
    """The forward that was set on the instance; None where it is its class's own."""
    return model.__dict__.get("forward")


class ForwardBeforeTRL(TrainerCallback):
    """Notes the model's forward when transformers has built its trainer, and before TRL puts a loss of its own into it.

    That loss is never used here, and it is bound to this one model: a copy of the model would run the original's
    weights through it.
    """

    def __init__(self) -> None:
        self.model: nn.Module | None = None
        self.forward: Any = None

    def on_init_end(self, args, state, control, model=None, **kwargs) -> None:
        if model is not None:
            base: Any = model.get_base_model() if is_peft_model(model) else model
            self.model, self.forward = base, instance_forward(base)

    def restore(self) -> None:
        """Give the model back the forward that was noted."""
        if self.model is None:
            return
        if self.forward is None:
            self.model.__dict__.pop("forward", None)
        else:
            self.model.forward = self.forward

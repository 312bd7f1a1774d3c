"""In an optimizer step of ours the host waits for the device once, and each rank for the others once."""

import sys
from collections import Counter

import pytest
import tiny_models
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from train import parity
from transformers import TrainerCallback

from qtarget.train import TargetSFTConfig, TargetSFTTrainer

ACCUMULATION = 4
WAITS = ("aten::_local_scalar_dense", "aten::nonzero", "aten::masked_select", "aten::lift_fresh")
"""Operators after which a CUDA host waits: a number read, a shape that depends on values, a Python number sent over."""
ON_A_CPU = {"_check_labels", "check_mass", "_flatten", "_checked_weight"}
"""Checks of values that are left out on a CUDA device."""
LIBRARIES = ("qtarget", "transformers", "trl", "torch.nn.parallel")


class Waits(TorchDispatchMode):
    """Counts waits by operator, package and function that asked for it, and by the micro-step under way."""

    def __init__(self):
        super().__init__()
        self.micro_step, self.counts = None, Counter()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func._schema.name
        if name == "aten::index" and any(i is not None and i.dtype == torch.bool for i in args[1]):
            name = "aten::nonzero"  # which a CUDA device does for it
        if self.micro_step is not None and (name in WAITS or name.startswith("c10d::")):
            self.counts[self.micro_step, name, *_asker()] += 1
        return func(*args, **kwargs or {})

    def of(self, package, *names):
        """By micro-step, of one package."""
        found = Counter()
        for (step, name, asker, function), count in self.counts.items():
            if asker.startswith(package) and name in names and function not in ON_A_CPU:
                found[step] += count
        return dict(found)


def _asker():
    """Module and function of the innermost frame of a library that asks for what torch and accelerate do."""
    frame = sys._getframe(2)
    while frame is not None:
        module = frame.f_globals.get("__name__", "")
        if module.startswith(LIBRARIES):
            return module, frame.f_code.co_name
        frame = frame.f_back
    return "", ""


class Steps(TrainerCallback):
    """Tells `waits` where training is: in micro-step 1, 2, … of the last of three optimizer steps, or outside it.

    In the second one DDP still settles how it cuts the gradients up.
    """

    def __init__(self, waits):
        self.waits = waits

    def on_step_begin(self, args, state, control, **kwargs):
        self.waits.micro_step = 1 if state.global_step == 2 else None

    def on_substep_end(self, args, state, control, **kwargs):
        self.waits.micro_step = self.waits.micro_step and self.waits.micro_step + 1

    def on_step_end(self, args, state, control, **kwargs):
        self.waits.micro_step = None


def waits_of(method, *, teacher=None, data=None, **changes):
    waits = Waits()
    given = {"max_steps": 3, "per_device_train_batch_size": 2, "gradient_accumulation_steps": ACCUMULATION}
    trainer = TargetSFTTrainer(
        tiny_models.tiny_model(),
        TargetSFTConfig(method=method, **parity.common_args(**{**given, "logging_steps": 100, **changes})),
        train_dataset=tiny_models.prompt_completion() if data is None else data,
        processing_class=tiny_models.tiny_tokenizer(),
        teacher=teacher,
        callbacks=[Steps(waits)],
    )
    with waits:
        trainer.train()
    return waits


@pytest.mark.parametrize("method", ["sft", "dft", "target-sft", "sft-kl", "psft", "talr"])
def test_one_number_is_read_in_an_optimizer_step(method):
    teacher = tiny_models.tiny_model(seed=1) if method == "target-sft" else None
    waits = waits_of(method, teacher=teacher)
    assert waits.of("qtarget.train", *WAITS) == {ACCUMULATION: 1}
    assert waits.of("qtarget", "aten::_local_scalar_dense", "aten::lift_fresh") == {ACCUMULATION: 1}


def test_masked_tokens_are_found_once_in_a_micro_step():
    """Their number decides shapes, so the host waits for it."""
    found = waits_of("sft").of("qtarget", "aten::nonzero", "aten::masked_select")
    assert found == dict.fromkeys(range(1, ACCUMULATION + 1), 1)


def test_transformers_reads_no_loss_either():
    """Its filter of NaN losses has nothing to filter where such a loss stops training."""
    waits = waits_of("sft")
    readers = {function for _, name, _, function in waits.counts if name == "aten::_local_scalar_dense"}
    assert "_run_epoch" not in readers

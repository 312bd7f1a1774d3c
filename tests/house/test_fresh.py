"""What a fresh interpreter loads, and where public modules are found: one interpreter answers all of it.

Starting one and importing torch in it takes seconds, ten times that on a busy machine.
"""

import json
import subprocess
import sys
from typing import Any

import pytest

SCRIPT = """
import json, sys

MODULES = ("trust", "residual", "value", "statistics", "types")
facts = {"heavy": {}, "same module": {}}

def loaded(when):
    facts["heavy"][when] = sorted({name.split(".")[0] for name in sys.modules})

def forget():
    for name in [name for name in sys.modules if name.split(".")[0] == "qtarget"]:
        del sys.modules[name]
    sys.meta_path[:] = [finder for finder in sys.meta_path if type(finder).__module__ != "qtarget"]

def same(order):
    import qtarget
    from importlib import import_module
    facts["same module"][order] = {
        name: getattr(qtarget, name) is import_module("qtarget." + name) is import_module("qtarget.target." + name)
        for name in MODULES
    }

import qtarget
loaded("import")

from qtarget.trust import label_probability
from qtarget.target.trust import label_probability as there
facts["one function"] = label_probability is there
for name in MODULES:
    __import__("qtarget." + name)
same("imported by its public name first")

forget()
import qtarget
for name in MODULES:
    getattr(qtarget, name)
same("an attribute first")

forget()
for name in MODULES:
    __import__("qtarget.target." + name)
same("imported from its room first")

import torch, qtarget as qt
hidden, head = torch.randn(3, 4, requires_grad=True), qt.Head(torch.randn(9, 4))
qt.linear_q_target_loss(hidden, head, torch.arange(3), qt.method("dft")).loss.backward()
loaded("loss")
facts["rooms"] = sorted(name for name in sys.modules if name.startswith("qtarget."))
print(json.dumps(facts))
"""

BEYOND_TORCH = ("transformers", "trl", "datasets", "accelerate", "peft", "pydantic", "typer", "matplotlib")


@pytest.fixture(scope="module")
def facts(once) -> dict[str, Any]:
    """What the fresh interpreter saw."""
    return once("fresh", answer)


def answer() -> dict[str, Any]:
    said = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True, timeout=300)
    return json.loads(said.stdout)


def test_importing_the_package_loads_the_standard_library_only(facts):
    assert "qtarget" in facts["heavy"]["import"]
    assert not {"torch", *BEYOND_TORCH} & set(facts["heavy"]["import"])


def test_a_loss_loads_torch_and_the_standard_library_only(facts):
    assert not set(BEYOND_TORCH) & set(facts["heavy"]["loss"])
    assert "torch" in facts["heavy"]["loss"]  # the check itself can fail: what is loaded does show


def test_a_cpu_never_imports_the_kernels(facts):
    kernels = "qtarget.fused.triton"
    assert "qtarget.fused.linear_loss" in facts["rooms"]
    assert not [room for room in facts["rooms"] if room.startswith(kernels)]


@pytest.mark.parametrize(
    "order", ["imported by its public name first", "an attribute first", "imported from its room first"]
)
def test_a_public_module_is_one_module(order: str, facts):
    assert facts["same module"][order] == dict.fromkeys(("trust", "residual", "value", "statistics", "types"), True)


def test_a_public_modules_function_is_one_function(facts):
    assert facts["one function"]

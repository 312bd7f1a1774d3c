"""The kernels on this machine: compiled on a GPU, under Triton's interpreter without one.

The room is not called `kernels` nor `triton_kernels`: tests/ is on the import path, and others look for such packages.
"""

import importlib
import sys

import pytest
import torch

triton = pytest.importorskip("triton")  # it has no wheels outside Linux
interpreter = pytest.importorskip("triton.runtime.interpreter")


@pytest.fixture(scope="package", autouse=True)
def _as_this_machine_can():
    """The kernels' module is decorated anew for the interpreter, so the order of imports does not matter.

    Triton's own `max` and `sum` were decorated when triton was first imported; here they are what they come down to.
    And what a kernel calls runs in what was prepared for the kernel, which is three times faster.
    """
    if torch.cuda.is_available():
        yield
        return
    ours = tuple(f"qtarget.fused.triton.{name}" for name in ("slope_twins", "kernels", "triton_engine"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TRITON_INTERPRET", "1")
        tl, inner = triton.language, interpreter.InterpretedFunction
        patch.setattr(tl, "max", lambda x, axis: tl.reduce(x, axis, tl.standard._elementwise_max))
        patch.setattr(tl, "sum", lambda x, axis: tl.reduce(x, axis, tl.standard._sum_combine))
        patch.setattr(inner, "__call__", lambda self, *args, **kwargs: self.rewrite()(*args, **kwargs))
        for name in ours:
            patch.delitem(sys.modules, name, raising=False)
        for name in ours:
            importlib.import_module(name)
        yield
        for name in ours:
            del sys.modules[name]


@pytest.fixture
def on_kernels(monkeypatch):
    """Calls of the fused loss run on the kernels where they can; says how many gradients they wrote."""
    from qtarget.fused import engine
    from qtarget.fused.triton import kernels as forms
    from qtarget.fused.triton import triton_engine as rows

    written = []
    monkeypatch.setattr(engine, "has_kernels", lambda like: True)
    monkeypatch.setattr(
        rows, "gradient_", lambda *args, original=rows.gradient_: (written.append(1), original(*args))[1]
    )
    if not torch.cuda.is_available():
        for tile in ("MEASURE_TILE", "WRITE_TILE"):
            monkeypatch.setattr(forms, tile, 32)  # a ragged block, or several with several forms
    return written

"""What `buffer_bytes` promises: all that a call holds beside its gradients, whatever has to be widened for it."""

import pytest
import torch
from laws.memory import LiveBytes
from torch import Tensor

import qtarget as qt
from qtarget.fused import chunk_size, products

T, V, H, BLOCK = 64, 1503, 24, 128
"""V is no multiple of the block in which an output layer is taken."""
BUDGET = 230_000
PER_TOKEN = 64 * T
"""Losses, statistics and the like are a few numbers a token, and not counted."""
DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16, "bf16, fast": torch.bfloat16}
"""Of inputs; a CPU multiplies bf16 as it is where that is fast, and widens it elsewhere."""
METHODS = ("sft", "eaft", "kd", "target-sft", "label-smoothing", "asft", "confidence-penalty", "jsd", "todi", "akl")


def _draw(dtype: torch.dtype, *shape: int) -> Tensor:
    generator = torch.Generator().manual_seed(len(shape) + shape[-1])
    return torch.randn(*shape, generator=generator).to(dtype)


def _source(dtype: torch.dtype, bias: bool) -> qt.Dense:
    return qt.Dense(_draw(dtype, T, 40), qt.Head(_draw(dtype, V, 40) / 6, _draw(dtype, V) if bias else None))


def _given(method: qt.Method, dtype: torch.dtype, bias: bool) -> dict[str, qt.Dense]:
    return {name: _source(dtype, bias) for name in ("teacher", "reference") if name in method.needs}


def _step(name: str, dtype: torch.dtype, bias: bool = False, frozen: bool = False, **options):
    """Peak bytes of a call and its backward; of the fp32 sums of its gradients; of the gradients; and the gradients."""
    hidden, weight = _draw(dtype, T, H).requires_grad_(), (_draw(dtype, V, H) / 5).requires_grad_(not frozen)
    offset, labels = _draw(dtype, V).requires_grad_(not frozen) if bias else None, torch.arange(T) * 37 % V
    method = qt.method(name)
    given = _given(method, dtype, bias)
    leaves = [t for t in (hidden, weight, offset) if t is not None and t.requires_grad]
    with LiveBytes() as memory:
        out = qt.linear_q_target_loss(hidden, qt.Head(weight, offset), labels, method, **given, **options)
        out.loss.sum().backward()
    grads = [leaf.grad for leaf in leaves]
    return memory.peak, sum(4 * g.numel() for g in grads), sum(g.nbytes for g in grads), grads


@pytest.fixture(autouse=True)
def _small_blocks(monkeypatch):
    monkeypatch.setattr(products, "HEAD_BLOCK", BLOCK)


@pytest.mark.parametrize("options", [{}, {"reduction": "none"}, {"frozen": True}, {"bias": True}], ids=str)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", METHODS)
def test_a_call_keeps_to_its_bytes(name: str, dtype: str, options: dict, monkeypatch):
    monkeypatch.setattr(products, "bf16_is_fast", lambda: dtype == "bf16, fast")
    peak, sums, narrow, grads = _step(name, DTYPES[dtype], buffer_bytes=BUDGET, **options)
    assert peak <= sums + max(BUDGET, narrow) + PER_TOKEN
    for mine, free in zip(grads, _step(name, DTYPES[dtype], chunk_tokens=T, **options)[3], strict=True):
        torch.testing.assert_close(mine, free, rtol=3e-2 if "bf16" in dtype else 2e-3, atol=2e-3)


@pytest.mark.parametrize("dtype", ["fp16", "bf16"])
def test_where_memory_is_short_no_output_layer_is_widened_whole(dtype: str, monkeypatch):
    monkeypatch.setattr(products, "bf16_is_fast", lambda: False)
    monkeypatch.setattr(chunk_size, "free_bytes", lambda device: 2 * BUDGET)
    peak, sums, narrow, _ = _step("kd", DTYPES[dtype])
    assert peak <= sums + max(BUDGET, narrow) + PER_TOKEN


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", METHODS)
def test_fewer_bytes_than_one_token_takes_are_refused(name: str, dtype: str, monkeypatch):
    """The message names the least that works, and it does work."""
    monkeypatch.setattr(products, "bf16_is_fast", lambda: dtype == "bf16, fast")
    with pytest.raises(ValueError, match=r"write buffer_bytes=\d+") as refusal:
        _step(name, DTYPES[dtype], buffer_bytes=1000, bias=True)
    least = int(str(refusal.value).split("buffer_bytes=")[-1].split()[0])
    peak, sums, narrow, _ = _step(name, DTYPES[dtype], buffer_bytes=least, bias=True)
    assert peak <= sums + max(least, narrow) + PER_TOKEN
    with pytest.raises(ValueError, match="buffer_bytes"):
        _step(name, DTYPES[dtype], buffer_bytes=least - 1, bias=True)


@pytest.mark.skipif(not hasattr(torch.ops.mkldnn, "_linear_pointwise"), reason="torch was built without oneDNN")
@pytest.mark.parametrize("mkl_is_slow", [True, False])
@pytest.mark.parametrize("dtype", ["fp32", "fp16"])
def test_blocks_by_onednn_are_those_by_mkl(dtype: str, mkl_is_slow: bool, monkeypatch):
    """The choice between the two products of fp32 is the CPU's; here every product is large enough for either."""
    expected = _step("kd", DTYPES[dtype], buffer_bytes=BUDGET, bias=True)[3]
    monkeypatch.setattr(products, "ONEDNN_FROM", 1)
    monkeypatch.setattr(products, "onednn_has_avx512", lambda: True)
    monkeypatch.setattr(products, "mkl_is_slow", lambda: mkl_is_slow)
    for mine, theirs in zip(_step("kd", DTYPES[dtype], buffer_bytes=BUDGET, bias=True)[3], expected, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=2e-3, atol=1e-4)

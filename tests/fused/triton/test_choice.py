"""When the kernels run, what they do to the matrix products, and that they compile for GPUs that are not here."""

import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch
from fused.triton.test_laws import DEVICE, few, moved
from laws.cases import Case, V
from laws.papers import Row

import qtarget as qt
from qtarget.fused import chunk_size, engine
from qtarget.fused import products as matmul
from qtarget.fused.arguments import usual_chunk
from qtarget.fused.products import Products
from qtarget.fused.workspace import Workspace
from qtarget.target.evidence import CallInputs
from qtarget.target.inputs import supervised_tokens
from qtarget.target.rule import reads
from qtarget.target.vocabulary import Whole


def test_on_cuda_only():
    place = lambda kind: SimpleNamespace(device=torch.device(kind))  # noqa: E731
    assert engine.has_kernels(place("cuda"))
    assert not any(engine.has_kernels(place(kind)) for kind in ("cpu", "mps", "xpu"))


@pytest.mark.parametrize("operand", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("rows", [None, 3])
def test_one_buffer_for_the_student(rows: int | None, operand: torch.dtype, on_kernels, monkeypatch):
    """In the type of the products, of as many tokens as fit: no probabilities and no scratch beside the logits."""
    made, original = [], Workspace.__init__
    watch = lambda self, chunk, vocab, like: (made.append((self, chunk)), original(self, chunk, vocab, like))[1]  # noqa: E731
    monkeypatch.setattr(Workspace, "__init__", watch)
    monkeypatch.setattr(matmul, "_operand", lambda hidden, weight, widest: operand)
    case = few(Case(Row("idft", {}), dtype=torch.float32))
    hidden = case.hidden.to(DEVICE).requires_grad_()
    head, labels = qt.Head(case.head.weight.to(DEVICE)), case.labels.to(DEVICE)
    scratch = Products.of(hidden.detach(), head.weight, [True, False, False]).scratch([head], operand)
    counted = None if rows is None else rows * (V * operand.itemsize + scratch.per_token) + scratch.fixed
    limit = None if counted is None else int(counted / chunk_size.COUNTED) + 1
    qt.linear_q_target_loss(
        hidden, head, labels, case.method, buffer_bytes=limit, diagnostics=("entropy",)
    ).loss.backward()
    workspace, chunk = made[-1]
    assert chunk == (rows or 4)
    assert workspace.numbers_per_token(V) == V
    assert workspace("logits", 1).dtype == operand


def test_double_precision_is_for_torch(on_kernels):
    case = few(Case(Row("dft", {})))
    hidden = case.hidden.to(DEVICE).requires_grad_()
    head, labels = qt.Head(case.head.weight.to(DEVICE)), case.labels.to(DEVICE)
    qt.linear_q_target_loss(hidden, head, labels, case.method).loss.backward()
    assert not on_kernels


def test_more_sources_than_the_kernels_take_are_for_torch(on_kernels):
    case = few(Case(Row("target-sft", {"eta": (0.2,) * 4}), dtype=torch.float32))
    given = {name: value for name, value in case.evidence.items() if name != "sequence_ids"}
    out = qt.linear_q_target_loss(case.hidden.requires_grad_(), case.head, case.labels, case.method, **given)
    out.loss.backward()
    assert not on_kernels


def test_a_finished_gradient_is_multiplied_once(monkeypatch):
    """Sums in fp32 of bf16 products: each chunk rounds nothing but its gradient."""
    monkeypatch.setattr(matmul, "bf16_is_fast", lambda: False)  # products in fp32, to compare exactly
    draw = torch.Generator().manual_seed(0)
    hidden, weight = (torch.randn(n, 8, generator=draw).bfloat16() for n in (6, 11))
    gradient = torch.randn(6, 11, generator=draw).bfloat16()
    products = Products.of(hidden, weight, [True, True, True])
    for part in (slice(0, 4), slice(4, 6)):
        products.add_finished(part, hidden[part], weight, gradient[part])
    assert all(g.dtype == torch.float32 for g in products.gradients)
    exact = gradient.double() @ weight.double(), gradient.double().t() @ hidden.double(), gradient.double().sum(0)
    for got, expected in zip(products.gradients, exact, strict=True):
        torch.testing.assert_close(got.double(), expected, rtol=1e-5, atol=1e-5)


def test_the_output_layers_gradient_may_start_as_any_memory():
    """As on an accelerator: the first chunk writes it, and without a chunk it is 0."""
    hidden, weight, gradient = torch.randn(6, 3), torch.randn(5, 3), torch.randn(6, 5)
    products, idle = (Products.of(hidden, weight, [False, True, False]) for _ in range(2))
    for each in (products, idle):
        each.gradients[1].fill_(torch.nan)
        each._unwritten = True
    for part in (slice(0, 4), slice(4, 6)):
        products.add_finished(part, hidden[part], weight, gradient[part])
    products.finish()
    idle.finish()
    torch.testing.assert_close(products.gradients[1], gradient.t() @ hidden)
    assert not idle.gradients[1].any()


@pytest.mark.parametrize(
    ("device", "width", "trains_head", "tokens"),
    [
        ("cpu", 4096, True, 128),
        ("cuda", 4096, False, 1024),
        ("cuda", 256, True, 1024),
        ("cuda", 896, True, 1792),
        ("cuda", 8192, True, 4096),
    ],
)
def test_a_chunk_has_as_many_tokens_as_the_head_is_wide_twice(device, width, trains_head, tokens):
    assert usual_chunk(device, width, trains_head) == tokens


COMPILE = """
from triton import compile
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from qtarget.fused.triton import kernels as forms, slope_twins

def assembled(kernel, dtype, arch, warps, **constants):
    kinds = {name: "*fp32" for name in kernel.arg_names}
    kinds |= dict.fromkeys(("logits", "source_0", "source_1", "source_2"), "*" + dtype)
    kinds |= {"labels": "*i64", "vocab": "i32", "stride": "i32", "table_step": "i32"}
    kinds |= {"scale": "fp32", "softcap": "fp32"}
    kinds |= {"share": "fp32"} if "share" in kinds else {}
    kinds |= dict.fromkeys(constants, "constexpr")
    source = ASTSource(fn=kernel, signature=kinds, constexprs=constants)
    return compile(source, target=GPUTarget("cuda", arch, 32), options={"num_warps": warps}).asm

for arch, several, sources, kinds in ((80, 1, 0, ()), (80, 8, 3, (1,)), (90, 2, 1, sorted(slope_twins.TWINS.values()))):
    both = {"SOURCES": sources, "CAPPED": sources == 1}
    tile = forms.MEASURE_TILE // several
    reads, writes = ("bf16", arch, forms.MEASURE_WARPS), ("bf16", arch, forms.WRITE_WARPS)
    whole = {**both, "BLOCK": forms.WRITE_TILE}
    for asm in (
        assembled(forms._measure, *reads, **both, FORMS=several, MOMENTS=True, BLOCK=tile),
        *(assembled(forms._gradient, *writes, **whole, FORMS=several, KIND=kind) for kind in (0, *kinds)),
        *(assembled(forms._compare, *writes, **whole, KIND=kind) for kind in kinds),
    ):
        assert asm["cubin"]
        assert ".local" not in asm["ptx"], "registers do not suffice"
"""


def test_the_kernels_compile_for_gpus(tmp_path):
    """To machine code, without a GPU: what the interpreter lets pass is seen here."""
    environment = {"PATH": "", "TRITON_CACHE_DIR": str(tmp_path), "PYTHONPATH": ":".join(filter(None, sys.path))}
    subprocess.run([sys.executable, "-c", COMPILE], check=True, env=environment)


@pytest.mark.parametrize(
    ("row", "head"),
    [
        (Row("eaft", {}), {"scale": -1.0}),  # the largest stored logits are not the likeliest tokens
        (Row("dft", {}), {"shard": Whole(29)}),  # what reads across the vocabulary would miss the other ranks' part
    ],
    ids=["negative scale", "shard"],
)
def test_output_layers_for_torch(row: Row, head: dict):
    from qtarget.fused.triton.triton_engine import covers

    case = few(Case(row))
    statistics = [s for number in case.method.numbers for s in reads(number)]
    tokens = supervised_tokens(case.labels, case.method, V, CallInputs(None, None, None, None), -100, True)
    assert covers(case.method.pools, statistics, tokens, case.head)
    assert not covers(case.method.pools, statistics, tokens, case.head._replace(**head))


OWN_WORDS = [
    (Row("composed", {"kind": "own slope"}), (), 'the slope "hellinger" has no Triton kernel'),
    (Row("target-sft", {"eta": "agreement"}), (), 'the statistic "agreement" has no Triton kernel'),
    (Row("akl", {}), (), 'the statistic "head_share" has no Triton kernel'),
    (Row("prift", {"variant": "mass"}), (), 'the statistic "reference_mass_below" has no Triton kernel'),
    (Row("gem", {"h": "logsigmoid"}), (), "a pool with a potential has no Triton kernel"),
    (Row("confidence-penalty", {}), (), "a tangent along a pool has no Triton kernel"),
    (Row("target-sft", {"eta": (0.2,) * 4}), (), "a call that reads 4 whole sources has no Triton kernel"),
    (Row("jsd", {}), ("target_kl",), 'the diagnostic "target_kl" builds the whole target of such a method'),
]


@pytest.mark.parametrize(("row", "diagnostics", "says"), OWN_WORDS, ids=[says for _, _, says in OWN_WORDS])
def test_what_keeps_a_call_from_the_kernels_is_said_once(row, diagnostics, says, on_kernels, caplog):
    engine._say_once.cache_clear()
    case = few(Case(row, dtype=torch.float32))
    given = {name: moved(value) for name, value in case.evidence.items()}
    args = (moved(case.hidden).requires_grad_(), moved(case.head), moved(case.labels), case.method)
    for _ in range(2):
        qt.linear_q_target_loss(*args, **given, diagnostics=diagnostics).loss.backward()
    assert not on_kernels
    assert [record.getMessage().split(",")[0] for record in caplog.records] == [says]


def test_a_call_that_the_kernels_take_says_nothing(on_kernels, caplog):
    engine._say_once.cache_clear()
    case = few(Case(Row("jsd", {}), dtype=torch.float32))
    given = {name: moved(value) for name, value in case.evidence.items()}
    args = (moved(case.hidden).requires_grad_(), moved(case.head), moved(case.labels), case.method)
    qt.linear_q_target_loss(*args, **given).loss.backward()
    assert on_kernels
    assert not caplog.records

"""The fused loss inside a compiled step: no graph break, and the numbers of the eager call."""

import copy
import gc
import pickle
import shutil

import pytest
import torch
import torch.distributed as dist
from laws.cases import Case, T, V, every_row
from laws.papers import Row
from laws.test_fused import _leaves, _sparse

import qtarget as qt
from qtarget.fused.arguments import Call
from qtarget.fused.custom_op import apart, linear_q_target, together, traced
from qtarget.fused.differentiation import LossStep
from qtarget.target.evidence import CallInputs
from qtarget.target.types import LIVE

NAMED = ("teacher", "reference", "token_weight", "sequence_ids", "progress", "position")


@pytest.fixture(autouse=True)
def _fresh():
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()


def _compiled(step, **how):
    return torch.compile(step, fullgraph=True, **{"backend": "aot_eager", **how})


def _graphs() -> int:
    return torch._dynamo.utils.counters["stats"]["unique_graphs"]


def _results(run, case: Case, **given) -> list[torch.Tensor | None]:
    """Loss, nll, count, diagnostics and the gradients of hidden states, weight and bias."""
    hidden, head, leaves = _leaves(case)
    out = run(hidden, head, case.labels, case.method, **{**case.evidence, **given})
    (out.loss * torch.linspace(1, 2, out.loss.numel(), dtype=case.dtype).view(out.loss.shape)).sum().backward()
    return [out.loss.detach(), out.nll, out.num_tokens, *out.diagnostics.values(), *(leaf.grad for leaf in leaves)]


def _assert_same(mine, theirs):
    for a, b in zip(mine, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-6 if a.dtype == torch.float32 else 0, atol=0, equal_nan=True)


def _as_traced(hidden, head, labels, method, *, num_items=None, reduction="mean", chunk_tokens=7, **given):
    """What a graph of `linear_q_target_loss` does, without compiling it."""
    evidence = CallInputs(**{name: given.get(name) for name in NAMED})
    call = Call(hidden, head, labels, method, evidence, -100, chunk_tokens, None, ("trust", "p_y"))
    step = LossStep.of(call, reduction)
    return step.output(traced(step), num_items)


@pytest.mark.parametrize("reduction", ["mean", "none"])
@pytest.mark.parametrize("row", every_row())
def test_law_04_the_operator_equals_the_eager_path(row: Row, reduction: str):
    case = Case(row, weighted=True, bias=True, softcap=4.0, scale=0.7)
    given = {"reduction": reduction, "chunk_tokens": 7}
    eager = _results(qt.linear_q_target_loss, case, diagnostics=("trust", "p_y"), **given)
    _assert_same(_results(_as_traced, case, **given), eager)


CALLS = {
    "weights and everything a head may have": (
        Case(Row("dft", {}), weighted=True, bias=True, softcap=4.0, scale=0.7),
        {"num_items": torch.tensor(9), "diagnostics": ("p_y", "top1", "entropy", "target_kl")},
    ),
    "two teachers, one sparse": (Case(Row("kd", {"teacher_weights": (0.4, 0.6)})), {"reduction": "none"}),
    "a whole sequence": (Case(Row("iw-sft", {})), {"num_items": 3}),
    "the whole batch, fp32": (Case(Row("talr", {}), dtype=torch.float32), {"buffer_bytes": 10**5}),
    "bf16": (Case(Row("target-sft", {}), dtype=torch.bfloat16), {}),
}


def _with_sparse(case: Case, given: dict) -> dict:
    teachers = case.evidence.get("teacher")
    return {**given, "teacher": (teachers[0], _sparse(teachers[1], 5))} if isinstance(teachers, tuple) else given


@pytest.mark.parametrize("name", CALLS)
def test_a_compiled_step_without_a_graph_break_equals_eager(name: str):
    case, given = CALLS[name]
    given = _with_sparse(case, given)
    eager = _results(qt.linear_q_target_loss, case, **given)
    _assert_same(_results(_compiled(qt.linear_q_target_loss), case, **given), eager)
    assert _graphs() == 1


def test_evidence_is_put_together_as_it_was_taken_apart():
    make = torch.ones
    teachers = (
        qt.Dense(make(1), qt.Head(make(2), make(3), 30.0, 0.5), vocab=7),
        qt.Dense(make(4), qt.Head(make(5))),
        qt.Sparse(make(6), make(7), make(8), make(9), temperature=2.0),
        qt.Sparse(make(10), make(11), make(12), tail="uniform"),
        qt.LabelOnly(make(13)),
    )
    for given in (
        CallInputs(teachers, qt.LabelOnly(make(14)), make(15), make(16)),
        CallInputs(None, teachers[0], None, None),
    ):
        kinds, tensors, numbers = apart(given)
        assert _plain(together(kinds, iter(tensors), iter(numbers))) == _plain(given)


def _plain(value):
    """Tensors by their size, classes by their names."""
    if isinstance(value, torch.Tensor):
        return len(value)
    if isinstance(value, tuple):
        return tuple(map(_plain, value))
    return (type(value), _plain(tuple(vars(value).values()))) if hasattr(value, "__dict__") else value


def test_label_only_evidence_and_masks_are_inputs_of_one_graph():
    """Another mask, other weights and another teacher of the same kind: nothing is compiled again."""
    case, step = Case(Row("psft", {})), _compiled(qt.linear_q_target_loss)
    for kept in (T, 9, 0):
        case.__dict__["labels"] = torch.where(torch.arange(T) < kept, case.labels, -100)
        given = {"reference": qt.LabelOnly(torch.linspace(-3, -1, T) - kept), "token_weight": torch.arange(T) % 3}
        _assert_same(_results(step, case, **given), _results(qt.linear_q_target_loss, case, **given))
    assert _graphs() == 1


def test_lengths_may_vary():
    case = Case(Row("target-sft", {}))
    step = _compiled(qt.linear_q_target_loss)
    results = []
    for tokens in (22, 17, 12, 8):
        teacher = qt.Dense(case.evidence["teacher"].hidden[:tokens], case.evidence["teacher"].head)
        for run in (step, qt.linear_q_target_loss):
            hidden = case.hidden[:tokens].clone().requires_grad_()
            out = run(hidden, case.head, case.labels[:tokens], case.method, teacher=teacher)
            out.loss.backward()
            results.append((out.loss.detach(), out.trust, hidden.grad))
    for mine, theirs in zip(results[::2], results[1::2], strict=True):
        _assert_same(mine, theirs)
    assert _graphs() == 2  # of the first length, and of any


@pytest.mark.skipif(shutil.which("g++") is None, reason="inductor builds its kernels with a C++ compiler")
def test_inductor_compiles_a_step_around_it():
    case = Case(Row("dft", {}), dtype=torch.float32)

    def step(hidden, weight):
        out = qt.linear_q_target_loss(torch.tanh(2 * hidden), qt.Head(weight), case.labels, case.method)
        return 3 * out.loss + 0 * out.trust.nan_to_num().sum()

    results = []
    for run in (step, _compiled(step, backend="inductor")):
        hidden, head, leaves = _leaves(case)
        run(hidden, head.weight).backward()
        results.append([leaf.grad for leaf in leaves])
    for mine, theirs in zip(*results, strict=True):
        torch.testing.assert_close(mine, theirs)


@pytest.mark.parametrize("backend", ["eager", "aot_eager"])  # with autocast on where the operator runs, and off
def test_under_autocast(backend: str):
    case = Case(Row("prift", {"variant": "mass"}), dtype=torch.float32)
    eager = _results(qt.linear_q_target_loss, case)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        _assert_same(_results(_compiled(qt.linear_q_target_loss, backend=backend), case), eager)


def test_a_tied_embedding_gets_both_gradients():
    case, ids = Case(Row("dft", {})), torch.arange(T) % V

    def step(weight):
        return qt.linear_q_target_loss(torch.tanh(weight[ids]), qt.Head(weight), case.labels, case.method).loss

    grads = []
    for run in (step, _compiled(step)):
        weight = case.head.weight.clone().requires_grad_()
        run(weight).backward()
        grads.append(weight.grad)
    torch.testing.assert_close(*grads)


def test_fp16_gradients_survive_a_loss_scale():
    case, scale = Case(Row("sft", {})), 2.0**30
    grads = []
    for run in (qt.linear_q_target_loss, _compiled(qt.linear_q_target_loss)):
        hidden = case.hidden.half().requires_grad_()
        out = run(hidden, qt.Head(case.head.weight.half()), case.labels, case.method, num_items=1e9)
        (out.loss * scale).backward()
        grads.append(hidden.grad)
    assert torch.equal(*grads)
    assert grads[0].abs().max() > 0.01


def test_only_the_loss_carries_a_gradient_and_only_the_students():
    case = Case(Row("kd", {}))
    hidden, head, _ = _leaves(case)
    out = _as_traced(hidden, head, case.labels, case.method, **case.evidence)
    assert out.loss.requires_grad
    assert not any(t.requires_grad for t in (out.nll, *out.diagnostics.values()))
    teacher = qt.Dense(case.evidence["teacher"].hidden.clone().requires_grad_(), case.evidence["teacher"].head)
    assert not _as_traced(case.hidden, case.head, case.labels, case.method, teacher=teacher).loss.requires_grad


def _arguments(case: Case, **given) -> tuple:
    """What a call hands to the operator."""
    seen = []

    class Watch(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            if func is torch.ops.qtarget.linear_q_target.default:
                seen.append(args)
            return func(*args, **(kwargs or {}))

    with Watch():
        _as_traced(*given.pop("student", (case.hidden, case.head)), case.labels, case.method, **case.evidence, **given)
    return seen[0]


def test_no_gradient_is_made_that_nobody_wants():
    case = Case(Row("dft", {}))
    hidden, head, _ = _leaves(case)
    singles = 4 + 2
    for student, made in (((hidden, case.head), 1), ((case.hidden, head), 1), ((hidden, head), 2)):
        assert len(linear_q_target(*_arguments(case, student=student))) == singles + made
    assert len(linear_q_target(*_arguments(case, student=(hidden, head), reduction="none"))) == singles
    with torch.no_grad():
        assert len(linear_q_target(*_arguments(case, student=(hidden, head)))) == singles


@pytest.mark.parametrize("reduction", ["mean", "none"])
def test_torchs_own_checks_of_an_operator(reduction: str):
    case = Case(Row("kd", {"teacher_weights": (0.4, 0.6)}), bias=True)
    case.__dict__["labels"] = case.labels.clamp(min=0)  # it holds no NaN equal to another, as of an ignored token
    hidden, head, _ = _leaves(case)
    torch.library.opcheck(linear_q_target, _arguments(case, student=(hidden, head), reduction=reduction))


def test_a_second_derivative_raises():
    case = Case(Row("dft", {}))
    hidden = case.hidden.clone().requires_grad_()
    loss = _as_traced(hidden, case.head, case.labels, case.method).loss
    with pytest.raises(RuntimeError, match="no second derivative"):
        torch.autograd.grad(loss, hidden, create_graph=True)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"labels": torch.full((T,), V)}, f"label {V} is outside the vocabulary"),
        ({"labels": torch.zeros(T + 1, dtype=torch.long)}, "shift both before the call"),
        ({"teacher": torch.zeros(T, V)}, "is a tensor of logits"),
        ({"diagnostics": ("trst",)}, 'did you mean "trust"'),
        ({"chunk_tokens": 0}, "chunk_tokens=0"),
        ({"token_weight": -torch.ones(T)}, "must be finite and >= 0"),
    ],
    ids=["label", "shape", "logits", "diagnostic", "chunk", "weight"],
)
def test_bad_input_is_refused_in_the_same_words(change: dict, words: str):
    case = Case(Row("sft", {}))
    given = {"hidden": case.hidden, "head": case.head, "labels": case.labels, "method": case.method, **change}
    with pytest.raises(ValueError, match=words):
        _compiled(qt.linear_q_target_loss)(**given)


def test_a_step_compiled_for_one_method_is_not_used_for_another():
    case, step = Case(Row("sft", {}), dtype=torch.float32), _compiled(qt.linear_q_target_loss)
    for focusing in (1.0, 2.0, 3.0):
        args = (case.hidden, case.head, case.labels, qt.method("focal", focusing=focusing))
        assert step(*args).loss == qt.linear_q_target_loss(*args).loss
    assert _graphs() == 3


def test_a_method_made_inside_a_compiled_step_lives_as_long_as_it():
    case = Case(Row("dft", {}))
    head, labels = case.head, case.labels

    def step(hidden):
        return qt.linear_q_target_loss(hidden, head, labels, qt.method("focal", focusing=2.0)).loss

    compiled = _compiled(step)
    for _ in range(2):
        assert compiled(case.hidden) == step(case.hidden)
        gc.collect()


def test_a_method_is_known_while_somebody_holds_it():
    gc.collect()
    before, method = len(LIVE), qt.method("dft")
    copies = [copy.copy(method), copy.deepcopy(method)]
    assert all(c == method and LIVE[c.key] is c for c in (method, *copies))
    plain = qt.Method("plain", 0.5, ((0.5, qt.Pool()),))
    again = pickle.loads(pickle.dumps(plain))
    assert again == plain
    assert LIVE[again.key] is again
    del method, copies, plain, again
    gc.collect()
    assert len(LIVE) == before


def test_where_ranks_share_the_work_the_graph_breaks_and_the_eager_path_runs():
    case = Case(Row("dft", {}))
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    try:
        cut = case.head._replace(shard=qt.Shard.of(case.head.weight, dist.group.WORLD))
        for head, given in ((cut, {}), (case.head, {"token_group": dist.group.WORLD})):
            torch._dynamo.reset()
            out = torch.compile(qt.linear_q_target_loss, backend="eager")(
                case.hidden, head, case.labels, case.method, **given
            )
            torch.testing.assert_close(
                out.loss, qt.linear_q_target_loss(case.hidden, head, case.labels, case.method).loss
            )
            with pytest.raises(torch._dynamo.exc.Unsupported):
                _compiled(qt.linear_q_target_loss)(case.hidden, head, case.labels, case.method, **given)
    finally:
        dist.destroy_process_group()


def test_progress_is_an_input_of_one_graph():
    """A number or a tensor: a schedule's next step compiles nothing again."""
    case, step = Case(Row("target-sft", {"eta": {"from": 0.2, "to": 0.8}})), _compiled(qt.linear_q_target_loss)
    for done in (0.1, 0.5, 0.9):
        given = {"progress": torch.tensor(done, dtype=torch.float64)}
        _assert_same(_results(step, case, **given), _results(qt.linear_q_target_loss, case, progress=done))
    assert _graphs() == 1

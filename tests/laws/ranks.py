"""The fused loss on four gloo processes against itself on one: what `test_parallel.py` asks of each of them.

Each figure is the largest deviation of any rank, in units of the largest number compared with.
"""

import faulthandler
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from laws.cases import COMPOSED, Case, T, V, as_tuple, name_of
from laws.papers import ROWS, Row
from torch import Tensor
from torch.distributed.device_mesh import init_device_mesh

import qtarget as qt
from qtarget.fused import chunk_size
from qtarget.target.evidence import evidence_rows
from qtarget.target.source_logits import head_logits

RANKS, PATIENCE = 4, 1800
VOCABULARY = {2: (0, 17, V), 3: (0, 9, 10, V)}
TOKENS = {2: (0, 13, T), 3: (0, 14, 14, T)}
"""Cuts for two and three ranks; of three one holds a single row of the vocabulary, and no token."""
DIAGNOSTICS = ("trust", "scale", "p_y", "top1", "entropy", "target_kl")
UPSTREAM = torch.linspace(-1, 2, T, dtype=torch.float64)


@dataclass(frozen=True)
class Cut:
    """How a call is cut: the vocabulary over a group, the tokens over a group, or both."""

    vocabulary: Any = None
    tokens: Any = None

    @property
    def shard(self) -> qt.Shard | None:
        return None if self.vocabulary is None else qt.Shard(VOCABULARY[self.vocabulary.size()], self.vocabulary)

    @property
    def part(self) -> slice:
        return slice(None) if self.tokens is None else _own(TOKENS[self.tokens.size()], self.tokens)

    def head(self, head: qt.Head, shard: qt.Shard | None = None) -> qt.Head:
        """This rank's rows of an output layer, as leaves."""
        shard = shard or self.shard
        rows = slice(None) if shard is None else _own(shard.bounds, shard.group)
        weight, bias = head.weight[rows].clone(), None if head.bias is None else head.bias[rows].clone()
        return head._replace(weight=weight, bias=bias, shard=shard)

    def columns(self, whole: Tensor) -> Tensor:
        return whole if self.vocabulary is None else whole[_own(self.shard.bounds, self.vocabulary)]

    def given(self, evidence: dict[str, Any]) -> dict[str, Any]:
        return {name: self._tokens_of(value) for name, value in evidence.items()}

    def _tokens_of(self, value: Any) -> Any:
        if isinstance(value, tuple):
            return tuple(map(self._tokens_of, value))
        if isinstance(value, Tensor) and not value.dim():  # of the whole call
            return value
        return value[self.part] if isinstance(value, Tensor) else evidence_rows(value, self.part)


def _own(bounds: tuple[int, ...], group: Any) -> slice:
    rank = dist.get_rank(group)
    return slice(bounds[rank], bounds[rank + 1])


def run(case: Case, cut: Cut, evidence: dict[str, Any], **args: Any) -> tuple[qt.LossOutput, list[Tensor]]:
    """Output and gradients of one call; an upstream number of each token where the loss is per token."""
    hidden, head = case.hidden[cut.part].clone().requires_grad_(), cut.head(case.head)
    leaves = [leaf.requires_grad_() for leaf in (hidden, head.weight, head.bias) if leaf is not None]
    out = qt.linear_q_target_loss(hidden, head, case.labels[cut.part], case.method, token_group=cut.tokens,
                                  **cut.given(evidence), **args)  # fmt: skip
    (out.loss * UPSTREAM[cut.part] if out.loss.dim() else out.loss).sum().backward()
    return out, [leaf.grad for leaf in leaves]


def deviation(case: Case, cut: Cut, evidence: dict[str, Any] | None = None, **args: Any) -> float:
    """Of one call on several ranks from the same on one: loss, nll, diagnostics, gradients."""
    args = {"chunk_tokens": 9, "diagnostics": DIAGNOSTICS, **args}
    one, gradients = _on_one_rank(case, args.get("reduction", "mean"), args.get("num_items"))
    out, own = run(case, cut, evidence or case.evidence, **args)
    mine = lambda t: t.detach()[cut.part]  # noqa: E731
    loss = (out.loss, mine(one.loss)) if one.loss.dim() else (_summed(out.loss, cut.tokens), one.loss)
    nll = (_summed(out.nll * out.num_tokens, cut.tokens), one.nll * one.num_tokens)
    pairs = [loss, nll, (own[0], mine(gradients[0]))]
    pairs += [(_summed(a, cut.tokens), cut.columns(b)) for a, b in zip(own[1:], gradients[1:], strict=True)]
    measured = [(out.diagnostics[name], mine(one.diagnostics[name])) for name in out.diagnostics]
    return max(*(apart(a, b) for a, b in pairs), *(apart(a, b, least=1e-3) for a, b in measured), 0.0)


def _on_one_rank(case: Case, reduction: str, num_items: int | None) -> tuple[qt.LossOutput, list[Tensor]]:
    """Computed once a case."""
    runs, args = case.__dict__.setdefault("runs", {}), (reduction, num_items)
    if args not in runs:
        runs[args] = run(case, Cut(), case.evidence, diagnostics=DIAGNOSTICS, reduction=reduction, num_items=num_items)
    return runs[args]


def apart(a: Tensor, b: Tensor, least: float = 0.0) -> float:
    """The largest difference, in units of the largest of b, or of `least`."""
    a, b = a.detach(), b.detach()
    assert a.shape == b.shape
    assert torch.equal(a.isnan(), b.isnan())
    if not b.numel():
        return 0.0
    a, b = a.nan_to_num(), b.nan_to_num()
    unit = max(b.abs().max().item(), least) or 1.0
    return (a - b).abs().max().item() / unit


def _summed(values: Tensor, group: Any) -> Tensor:
    values = values.detach().clone()
    if group is not None:
        dist.all_reduce(values, group=group)
    return values


# ---- what is asked of every row: each path at one of the two sizes


def vocabulary_in_two(case: Case, group: Any) -> Iterator[tuple[str, float]]:
    cut = Cut(vocabulary=group)
    yield "vocabulary in two", deviation(case, cut)
    yield "per token", deviation(case, cut, reduction="none")
    yield "in bytes", deviation(case, cut, buffer_bytes=64 * V * 8, chunk_tokens=None)
    alike = _with_heads(case.evidence, cut.head)
    yield "sources cut alike", deviation(case, cut, alike)


def vocabulary_in_three(case: Case, group: Any) -> Iterator[tuple[str, float]]:
    cut = Cut(vocabulary=group)
    yield "vocabulary in three", deviation(case, cut)
    yield "no diagnostics", deviation(case, cut, diagnostics=(), chunk_tokens=T)
    full = Case(case.row, seed=1, bias=True, softcap=4.0, scale=0.7)
    free = torch.ones(V, dtype=torch.bool).index_fill(0, full.labels.clamp(min=0), False)
    full.head.bias[free & (torch.arange(V) % 2 == 0)] = -torch.inf
    yield "bias, softcap, scale", deviation(full, cut)
    otherwise = qt.Shard((0, 1, 2, V), group)
    yield "sources cut otherwise", deviation(case, cut, _with_heads(case.evidence, partial(cut.head, shard=otherwise)))


def tokens_in_two(case: Case, group: Any) -> Iterator[tuple[str, float]]:
    cut = Cut(tokens=group)
    yield "tokens in two", deviation(case, cut, num_items=7)


def tokens_in_three(case: Case, group: Any) -> Iterator[tuple[str, float]]:
    cut = Cut(tokens=group)
    yield "tokens in three", deviation(case, cut)
    yield "tokens, per token", deviation(case, cut, reduction="none")
    yield "tokens in bytes", deviation(case, cut, buffer_bytes=64 * V * 8, chunk_tokens=None)


def both(case: Case, vocabulary: Any, tokens: Any) -> Iterator[tuple[str, float]]:
    yield "both", deviation(case, Cut(vocabulary, tokens))


def _with_heads(evidence: dict[str, Any], change: Callable[[qt.Head], qt.Head]) -> dict[str, Any]:
    """The evidence with other output layers."""

    def changed(value: Any) -> Any:
        if isinstance(value, tuple):
            return tuple(map(changed, value))
        return replace(value, head=change(value.head)) if isinstance(value, qt.Dense) else value

    return {name: changed(value) for name, value in evidence.items()}


# ---- what is asked once


SPARSE = [
    *(Row(name, {}) for name in ("kd", "kd-hybrid", "target-sft")),
    Row("kd", {"teacher_weights": (0.4, 0.6)}),
    Row("target-sft", {"eta": (0.3, 0.4)}),
]


def sparse_teachers(group: Any) -> Iterator[tuple[str, float]]:
    """Kept tokens of any rank, all of one, or none; two teachers, mixed kinds, every tail."""
    cut = Cut(vocabulary=group)
    for row in SPARSE:
        for kept in (1, 4, V):
            case = Case(row, bias=True)
            teachers = as_tuple(case.evidence["teacher"])
            case.evidence["teacher"] = tuple(_sparse(t, kept) if i == 0 else t for i, t in enumerate(teachers))
            yield f"{name_of(row)} {kept} kept", deviation(case, cut)
        evidence, case = case.evidence["teacher"], Case(row, bias=True)  # another case: runs on one rank are kept
        case.evidence["teacher"] = tuple(map(_with_empty_slots, evidence))
        yield f"{name_of(row)} some slots empty", deviation(case, cut)
    for tail in ("uniform", "none"):
        case = Case(Row("kd", {}))
        case.evidence["teacher"] = replace(_sparse(case.evidence["teacher"], 4), tail=tail)
        yield f"kd {tail} tail", deviation(case, cut)


def _sparse(dense: qt.Dense, kept: int) -> qt.Sparse:
    logp = head_logits(dense.hidden, dense.head).log_softmax(-1)
    top = logp.topk(kept, -1)
    return qt.Sparse(top.indices, top.values, logp.exp().scatter(-1, top.indices, 0.0).sum(-1).log())


def _with_empty_slots(source: Any) -> Any:
    """Of kept tokens every third but the first left out, with its mass; other evidence as it is."""
    if not isinstance(source, qt.Sparse):
        return source
    is_empty = torch.arange(source.ids.shape[-1]) % 3 == 1
    left_out = source.logprobs.masked_fill(~is_empty, -torch.inf).logsumexp(-1)
    ids = source.ids.masked_fill(is_empty, -1)
    return replace(source, ids=ids, log_tail=torch.logaddexp(source.log_tail, left_out))


def short_sources(group: Any) -> Iterator[tuple[str, float]]:
    """Sources with fewer tokens than the student, or padded further, whole and cut."""
    cut = Cut(vocabulary=group)
    bounds = cut.shard.bounds
    for name, (total, vocab) in product(("kd", "target-sft"), ((V - 5, None), (V, V - 5), (V + 4, V), (5, None))):
        case = Case(Row(name, {}))
        teacher = case.evidence["teacher"]
        weight = torch.cat([teacher.head.weight, teacher.head.weight])[:total]
        case.evidence["teacher"] = qt.Dense(teacher.hidden, qt.Head(weight), vocab)
        yield f"{name} whole {total} {vocab}", deviation(case, cut)
        if total > bounds[-2]:
            shard = qt.Shard((*bounds[:-1], total), group)
            part = {"teacher": qt.Dense(teacher.hidden, cut.head(qt.Head(weight), shard), vocab)}
            yield f"{name} cut {total} {vocab}", deviation(case, cut, {**case.evidence, **part})


def cut_source_of_a_whole_student(group: Any) -> Iterator[tuple[str, float]]:
    """A large teacher cut over ranks that each hold the student whole; the definition knows it, too."""
    case, shard = Case(Row("target-sft", {})), Cut(vocabulary=group).shard
    given = _with_heads(case.evidence, lambda head: Cut().head(head, shard))
    yield "fused", deviation(case, Cut(), given)
    values = [qt.q_target_loss(case.logits, case.labels, case.method, **e).loss for e in (given, case.evidence)]
    yield "definition", apart(*values)


def certain_labels(group: Any) -> Iterator[tuple[str, float]]:
    """Logits so far apart that p_y is exactly 1 at some tokens and exactly 0 at others, on any rank."""
    for name in ("sft", "dft", "target-sft", "deft", "focal"):
        case = Case(Row(name, {}))
        label = torch.nn.functional.one_hot(case.labels.clamp(min=0), V).double()
        assert "reference" not in case.evidence  # made of the hidden states
        case.__dict__["hidden"] = 2e3 * (torch.arange(T) % 2 * 2 - 1).double()[:, None] * label
        case.__dict__["head"] = qt.Head(torch.eye(V, dtype=torch.float64))
        yield name, deviation(case, Cut(vocabulary=group), diagnostics=DIAGNOSTICS[:-1])


def memory_short_on_one(group: Any) -> Iterator[tuple[str, float]]:
    """Chunks must be as many on every rank, or each waits for another's."""
    free = chunk_size.free_bytes
    chunk_size.free_bytes = lambda device: 2**40 if dist.get_rank(group) else 20 * V * 8
    yield "chunks", deviation(Case(Row("target-sft", {})), Cut(vocabulary=group), chunk_tokens=None)
    chunk_size.free_bytes = free


def single_precision(group: Any) -> Iterator[tuple[str, float]]:
    """Gradients in fp32 against fp64 of the same numbers, by norm; each pair of ranks every other row."""
    for row in [*ROWS, *COMPOSED][dist.get_rank() // 2 :: 2]:
        narrow = Case(row, dtype=torch.float32)
        wide = Case(row)
        widened = lambda d: d.double() if d.is_floating_point() else d  # noqa: E731
        wide.__dict__.update(
            hidden=widened(narrow.hidden),
            head=narrow.head._replace(weight=widened(narrow.head.weight)),
            labels=narrow.labels,
            evidence={name: _map(value, widened) for name, value in narrow.evidence.items()},
        )
        cut = Cut(vocabulary=group)
        _, (hidden, weight) = run(narrow, cut, narrow.evidence)
        _, (exact_hidden, exact_weight) = run(wide, Cut(), wide.evidence)
        yield f"{name_of(row)}, hidden", ((hidden.double() - exact_hidden).norm() / exact_hidden.norm()).item()
        off = (weight.double() - cut.columns(exact_weight)).norm()
        yield f"{name_of(row)}, weight", (off / exact_weight.norm()).item()


def _map(value: Any, change: Callable[[Tensor], Tensor]) -> Any:
    if isinstance(value, tuple):
        return tuple(_map(v, change) for v in value)
    if isinstance(value, qt.Dense):
        return qt.Dense(change(value.hidden), qt.Head(change(value.head.weight)))
    return change(value)


def of_a_dtensor(mesh: Any) -> Iterator[tuple[str, float]]:
    """A head read off a DTensor cut by rows over one dimension of a mesh; its gradient is such a DTensor again."""
    from torch.distributed.tensor import Replicate, Shard, distribute_tensor

    case = Case(Row("target-sft", {}))
    _, (to_hidden, to_weight) = run(case, Cut(), case.evidence)
    weight = distribute_tensor(case.head.weight, mesh, [Replicate(), Shard(0)]).requires_grad_()
    hidden = case.hidden.clone().requires_grad_()
    head = qt.Head(weight.to_local(), shard=qt.Shard.of(weight))
    assert head.shard.bounds == (0, -(-V // 2), V)
    qt.linear_q_target_loss(hidden, head, case.labels, case.method, **case.evidence).loss.backward()
    yield "hidden", apart(hidden.grad, to_hidden)
    yield "weight", apart(weight.grad.full_tensor(), to_weight)


def refused(mesh: Any) -> dict[str, str]:
    """What is said of output layers that are cut otherwise."""
    from torch.distributed.tensor import Shard, distribute_tensor

    group = mesh.get_group("vocabulary")
    weight = torch.randn(V, 6)
    tries = {
        "columns": lambda: qt.Shard.of(distribute_tensor(weight, mesh, [Shard(1), Shard(1)])),
        "two dimensions": lambda: qt.Shard.of(distribute_tensor(weight, mesh, [Shard(0), Shard(0)])),
        "no group": lambda: qt.Shard.of(weight),
        "no rows": lambda: qt.Shard.of(weight[: 0 if dist.get_rank(group) else V], group),
    }
    said = {}
    for name, attempt in tries.items():
        try:
            attempt()
        except ValueError as error:
            said[name] = str(error)
    return said


def main(rank: int, report: str) -> None:
    torch.set_num_threads(1)
    faulthandler.dump_traceback_later(PATIENCE, exit=True)  # ranks that wait for each other say where
    dist.init_process_group("gloo", init_method=f"file://{report}.store", rank=rank, world_size=RANKS)
    mesh = init_device_mesh("cpu", (2, 2), mesh_dim_names=("tokens", "vocabulary"))
    tokens, vocabulary, three = mesh.get_group("tokens"), mesh.get_group("vocabulary"), dist.new_group([0, 1, 2])
    found: dict[str, Any] = {}
    for number, row in enumerate([*ROWS, *COMPOSED]):
        case = Case(row, weighted=True)
        own = found.setdefault(name_of(row), dict(both(case, vocabulary, tokens)))
        if number % 2 == rank // 2:  # each pair of ranks every other row
            own |= dict(vocabulary_in_two(case, vocabulary))
        if number % 2 == rank % 2:
            own |= dict(tokens_in_two(case, tokens))
        if rank < 3:
            own |= {**dict(vocabulary_in_three(case, three)), **dict(tokens_in_three(case, three))}
    for check in (sparse_teachers, short_sources, certain_labels) if rank < 3 else ():
        found[check.__name__] = dict(check(three))
    for check in (cut_source_of_a_whole_student, memory_short_on_one, single_precision):
        found[check.__name__] = dict(check(vocabulary))
    found["of_a_dtensor"] = dict(of_a_dtensor(mesh))
    found["refused"] = refused(mesh)
    every: list[Any] = [None] * RANKS
    dist.all_gather_object(every, found)
    if rank == 0:
        Path(report).write_text(json.dumps(every))
    dist.barrier()
    faulthandler.cancel_dump_traceback_later()
    dist.destroy_process_group()

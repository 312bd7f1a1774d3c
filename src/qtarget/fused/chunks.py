"""The fused loss, chunk by chunk: measure the tokens of a chunk, value and diagnose them, and add their gradients.

The logits of a chunk are built in a reused buffer and turned into p − Q in place by the plan's engine, which multiplies
it into the gradients (`products.py`).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from qtarget.fused.engine import ChunkEngine
from qtarget.fused.loss_plan import LossPlan
from qtarget.fused.products import Products
from qtarget.fused.token_numbers import TokenNumbers, nll_and_diagnostics, target_shares, token_numbers, token_values
from qtarget.fused.workspace import Workspace
from qtarget.target.pool import Pool
from qtarget.target.ranks import gather_tokens
from qtarget.target.statistics import LOGP_Y


def run_chunks(
    plan: LossPlan,
    products: Products,
    hidden_TH: Tensor,
    upstream_T: Tensor | None = None,
    workspace: Workspace | None = None,
) -> tuple[Tensor, list[Tensor]]:
    """Every chunk in turn: measure, value, diagnose, and add its gradients, each token's times its upstream number.

    Returns:
        The loss of each token, [T], and [−log p_y, *diagnostics], [T] each. Gradients are left in `products`.
    """
    if workspace is None:
        chunk = min(plan.chunk_tokens, max(len(hidden_TH), 1))
        workspace = Workspace(chunk, len(plan.head.weight), plan.engine.logits_like(products))
    start = partial(_start, plan, products, hidden_TH, workspace)
    across = None if plan.method.scope == "token" else _numbers_across(plan, start)
    keep_logits = (products.wanted and plan.head.softcap is not None) or plan.needs_whole_target
    columns: list[list[Tensor]] = []
    for part in plan.chunks():
        chunk = start(part)
        wanted = plan.second if across else (*plan.first, *plan.second)
        chunk.measure(plan.method.pools, dict.fromkeys(wanted), keep_logits)
        numbers = token_numbers(plan.method, chunk.measured, chunk.tokens) if across is None else across.part(part)
        columns.append([token_values(plan, chunk, numbers), *nll_and_diagnostics(plan, chunk, numbers)])
        if products.wanted:
            q, factor_C = target_shares(plan, numbers)
            factor_C = factor_C if upstream_T is None else factor_C * upstream_T[part]
            chunk.add_gradients(products, part, hidden_TH[part], plan.head, q, factor_C)
    products.finish()
    if (to_hidden := products.gradients[0]) is not None:
        plan.head.axis.sum(to_hidden)
    joined = [torch.cat(column) for column in zip(*columns, strict=True)]
    joined = joined or [products.like.new_zeros(0) for _ in range(2 + len(plan.diagnostics))]
    return joined[0], joined[1:]


def _start(plan: LossPlan, products: Products, hidden_TH: Tensor, workspace: Workspace, part: slice) -> ChunkEngine:
    return plan.engine.start(products, hidden_TH[part], plan.head, plan.tokens.chunk(part), workspace)


def _numbers_across(plan: LossPlan, start: Callable[[slice], ChunkEngine]) -> TokenNumbers | None:
    """For rules that look beyond a token: measure every token first, then evaluate once."""
    chunks = []
    for part in list(plan.chunks()) or [slice(0, 0)]:
        chunk = start(part)
        chunk.measure([s.of for s in plan.first if isinstance(s.of, Pool)], plan.first, keep_logits=False)
        chunks.append(chunk.measured)
    here = {s: torch.cat([measured[s] for measured in chunks]) for s in (*plan.first, LOGP_Y)}
    every, mine = (here, slice(None)) if plan.tokens.group is None else gather_tokens(here, plan.tokens.group)
    if not len(every[LOGP_Y]):
        return None
    numbers = token_numbers(plan.method, every, plan.tokens)
    return numbers.part(mine)._replace(multiplier=numbers.multiplier)

"""The largest columns by groups are those of a plain sort."""

import pytest
import torch

from qtarget.target.pool import FLOOR
from qtarget.target.top_k import GROUP, largest


def draw() -> torch.Generator:
    return torch.Generator().manual_seed(0)


@pytest.mark.parametrize("columns", [20, 300, 321, 335, 1000, 80 * GROUP + 7])
def test_values_are_those_of_a_sort_with_ties_and_floors(columns: int):
    values = torch.randint(0, 500, (6, columns), generator=draw()).double()
    values[0], values[1, 5:], values[2, -3:] = 1.0, FLOOR, 1e4
    found = largest(values, 20)
    assert torch.equal(found.values_CK, values.sort(-1, descending=True).values[:, :20])
    assert torch.equal(values.gather(1, found.ids_CK), found.values_CK)
    assert all(len(set(row.tolist())) == 20 for row in found.ids_CK)


@pytest.mark.parametrize("k", [0, 1, 16, 64, 9973])
def test_ids_of_a_large_vocabulary_are_those_of_topk(k: int):
    logits = torch.randn(5, 9973, generator=draw())
    logits[1, 9960:] += 20  # in columns that fill no group
    logits[2] = logits[2].sort().values
    logits[3, :9000] = -torch.inf
    found, expected = largest(logits, k), logits.topk(k, -1)
    finite = expected.values.isfinite()
    assert torch.equal(found.values_CK, expected.values)
    assert torch.equal(found.ids_CK[finite], expected.indices[finite])


def test_a_part_of_a_wider_buffer_is_read_in_place():
    wide = torch.randn(4, 5000, generator=draw())
    part = wide[:, :4001]
    assert torch.equal(largest(part, 8).ids_CK, part.topk(8, -1).indices)

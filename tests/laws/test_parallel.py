"""Laws 4 and 8 where the vocabulary, the tokens or both are cut over processes, and what is refused there."""

import json

import pytest
import torch
import torch.multiprocessing as mp
from laws import ranks
from laws.cases import COMPOSED, name_of
from laws.papers import ROWS

import qtarget as qt


@pytest.mark.failure_case(4)
def test_law_04_fused_on_several_ranks_equals_one(tmp_path):
    """One launch for everything, and no process that imports all anew: that takes longer than what they do."""
    mp.start_processes(ranks.main, (str(tmp_path / "report.json"),), nprocs=ranks.RANKS, start_method="fork")
    reports = json.loads((tmp_path / "report.json").read_text())
    said = [report.pop("refused") for report in reports]
    rounding = [report.pop("single_precision") for report in reports]
    off = _worst(reports)
    assert all(len(off[name_of(row)]) == 13 for row in [*ROWS, *COMPOSED])
    assert {(name, what): by for name in off for what, by in off[name].items() if not by <= 1e-9} == {}
    assert len(rounding[0] | rounding[3]) == 2 * len([*ROWS, *COMPOSED])
    most = lambda what: 4e-6 if what.startswith("elr") else 1e-6  # noqa: E731  # 1 − ⟨p,r⟩ cancels where both are sure
    assert {what: by for report in rounding for what, by in report.items() if not by <= most(what)} == {}
    for report in said:
        assert "its rows must be cut over one mesh dimension" in report["columns"]
        assert "its rows must be cut over one mesh dimension" in report["two dimensions"]
        assert "hold [29, 0] rows" in report["no rows"]


def _worst(reports: list[dict[str, dict[str, float]]]) -> dict[str, dict[str, float]]:
    """The largest figure of any rank, by method and by what was cut."""
    worst: dict[str, dict[str, float]] = {}
    for report in reports:
        for name, figures in report.items():
            so_far = worst.setdefault(name, {})
            so_far.update({what: max(by, so_far.get(what, 0.0)) for what, by in figures.items()})
    return worst


def test_a_plain_tensor_needs_its_group():
    with pytest.raises(ValueError, match=r"write qt\.Shard\.of\(weight, group\)"):
        qt.Shard.of(torch.randn(5, 3))

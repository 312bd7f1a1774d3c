"""What a search shows at 80 columns, and in its picture: failures in full, and counts that agree with their nouns."""

import io
from pathlib import Path

import pytest
from matplotlib.figure import Figure
from rich.console import Console

from qtarget.console import amount
from qtarget.search import picture
from qtarget.search.race import Standing
from qtarget.search.search_outcome import ArmRecord, SearchOutcome
from qtarget.search.search_space import SearchArm
from qtarget.search.view import search_markdown, search_view

FAILURE = (
    "The gradient of optimizer step 2 is not finite, though its loss is: its norm is nan: rank 0 has it from row 1 "
    "('3 - 2 + 7 * 9 - 0 ?'); row 2 ('6 - 9 - 1 - 6 ?'); row 3 ('5 * 3 + 2 + 5 ?') of its micro-batch"
)
LEADS, BEHIND, GONE = (Standing(0.25 - by, -by, -by, 0.0, p) for by, p in ((0, 1.0), (0.1, 0.5), (0.2, 0.01)))
ARMS = tuple(
    SearchArm(number, {"method": method, "learning_rate": 3e-4})
    for number, method in enumerate(("target-sft", "sft", "kd", "dft"), 1)
)


def outcome(rungs: int) -> SearchOutcome:
    records = (
        ArmRecord(ARMS[0], (LEADS,) * rungs),
        ArmRecord(ARMS[1], (), FAILURE),
        ArmRecord(ARMS[2], (BEHIND,) * (rungs - 1), FAILURE.upper()),
        ArmRecord(ARMS[3], (GONE,)),
    )
    steps = tuple(2**rung for rung in range(rungs))
    return SearchOutcome("share of right answers", steps, records, ARMS[0], None, None, ARMS[0], "won", "Found.")


@pytest.mark.parametrize("rungs", [1, 2, 3, 4, 7])
def test_at_80_columns_every_failure_and_fate_is_read_in_full(rungs: int):
    said = io.StringIO()
    Console(file=said, width=80).print(search_view(outcome(rungs), 80))
    lines = said.getvalue().splitlines()
    assert max(map(len, lines)) <= 80
    words = " ".join(" ".join(lines).split())
    assert ("see table.md" in words) == (rungs > 2)
    assert f"sft learning_rate=0.0003 failed: {FAILURE}" in words
    assert f"kd learning_rate=0.0003 failed: {FAILURE.upper()}" in words
    for word in ("winner", "failed", "dropped", "after", "leads", "0.250", "+0.000]"):
        assert word in words.split(), said.getvalue()
    assert "failed: The gradient" in search_markdown(outcome(rungs))


def test_the_picture_marks_arms_that_were_dropped_and_arms_that_failed_each_in_its_legend(tmp_path, monkeypatch):
    kept: list[Figure] = []

    def keeping(*args, **kwargs) -> Figure:
        kept.append(Figure(*args, **kwargs))
        return kept[-1]

    monkeypatch.setattr(picture, "Figure", keeping)
    picture.draw_race(outcome(2), "target-sft", Path(tmp_path / "race.png"))
    (figure,) = kept
    marks = [line.get_marker() for line in figure.axes[0].lines]
    assert (marks.count("x"), marks.count("X")) == (1, 2)
    names = [text.get_text() for legend in figure.legends for text in legend.get_texts()]
    assert {"dropped", "failed"} <= set(names)
    assert "sft learning_rate=0.0003" in names


def test_one_is_no_plural():
    assert amount(1, "fresh seed") == "1 fresh seed"
    assert amount(1200, "step") == "1,200 steps"
    page = search_markdown(outcome(1))
    assert "| 1 step " in page
    assert "dropped after 1 step " in page
    assert "1 steps" not in page

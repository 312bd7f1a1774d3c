"""Counts of rows in words: one of a thing is said as one."""

from dataclasses import replace

import pytest

from qtarget.data import RowCounts

ONE = RowCounts("", 1, rows=1, sequences=1, tokens=1, learned=1)


@pytest.mark.parametrize(
    ("counts", "said"),
    [
        (ONE, "1 row; 1 token, 1 of them learned"),
        (
            replace(RowCounts.of_sets({"a": ONE}), rows=1, sequences=1, tokens=2, learned=1),
            "1 set with 1 row; 1 row in an epoch; 2 tokens, 1 of them learned",
        ),
        (RowCounts("", None, {"null": 1}, read=2), "a stream; of the 2 rows read so far 1 was left out (1 null)"),
        (RowCounts("", None, {"null": 1}, read=1), "a stream; of the 1 row read so far 1 was left out (1 null)"),
        (
            replace(RowCounts.of_sets({"a": RowCounts("", None)}), rows=1, tokens=3, learned=2),
            "a mixture of 1 stream; its first row has 3 tokens, 2 of them learned",
        ),
        (
            RowCounts.of_sets({"a": RowCounts("", None, {"null": 1}, read=2), "b": RowCounts("", 8, {"null": 2})}),
            "a mixture of 2 streams; of the 10 rows read so far 3 were left out (3 null)",
        ),
    ],
)
def test_one_of_a_thing_is_said_as_one(counts, said):
    assert counts.sentence() == said

"""Cutting and packing keep `token_weight` beside the token it weighs, and do to `input_ids` what TRL does."""

import pytest
from datasets import Dataset
from trl import pack_dataset

from qtarget.data import pack_rows, truncate_rows

COLUMNS = ("input_ids", "labels", "token_weight")


def rows():
    """Weights are the ids over ten, so any row shows whether they moved together."""
    lengths = [5, 3, 9, 2, 4]
    starts = [10, 20, 30, 40, 50]
    ids = [list(range(start, start + length)) for start, length in zip(starts, lengths, strict=True)]
    return Dataset.from_dict(
        {
            "input_ids": ids,
            "labels": [[-100, -100, *row[2:]] for row in ids],
            "token_weight": [[token / 10 for token in row] for row in ids],
        }
    )


def assert_in_step(dataset):
    for row in dataset:
        assert row["token_weight"] == [token / 10 for token in row["input_ids"]]
        assert len(row["labels"]) == len(row["input_ids"])


@pytest.mark.parametrize(("mode", "kept"), [("keep_start", [30, 31, 32, 33]), ("keep_end", [35, 36, 37, 38])])
def test_truncation(mode, kept):
    cut = truncate_rows(rows(), 4, mode, COLUMNS)
    assert cut["input_ids"][2] == kept
    assert_in_step(cut)


def test_rows_left_without_a_label_are_dropped():
    assert truncate_rows(rows(), 2, "keep_start", COLUMNS).num_rows == 0
    assert [row[0] for row in truncate_rows(rows(), 4, "keep_start", COLUMNS)["input_ids"]] == [10, 20, 30, 50]


def test_an_unknown_mode_is_refused():
    with pytest.raises(ValueError, match="keep_middle"):
        truncate_rows(rows(), 4, "keep_middle", COLUMNS)


@pytest.mark.parametrize("strategy", ["bfd", "bfd_split", "wrapped"])
def test_packing_lays_weights_as_it_lays_tokens(strategy):
    packed = pack_rows(rows(), 8, strategy, COLUMNS)
    assert_in_step(packed)
    assert packed["input_ids"][:] == pack_dataset(rows().select_columns(["input_ids"]), 8, strategy)["input_ids"][:]
    assert any(len(row["input_ids"]) == 8 for row in packed)


def test_shuffling_comes_first_and_is_seeded():
    one, two = (pack_rows(rows(), 8, "wrapped", COLUMNS, shuffle_seed=seed) for seed in (1, 2))
    assert one["input_ids"][:] != two["input_ids"][:]
    assert_in_step(one)


def test_packing_needs_a_length():
    with pytest.raises(ValueError, match="max_length"):
        pack_rows(rows(), None, "bfd", COLUMNS)

"""Per-token columns lie in batches exactly as their tokens do."""

import pytest
import torch
from trl.trainer.sft_trainer import DataCollatorForLanguageModeling

from qtarget.data import PerTokenCollator, sequence_ids

ROWS = [
    {"input_ids": [11, 12, 13], "labels": [-100, 12, 13], "token_weight": [1.1, 1.2, 1.3]},
    {"input_ids": [14, 15], "labels": [14, 15], "token_weight": [1.4, 1.5]},
]


def collate(rows, padding_free=False, **kwargs):
    inner = DataCollatorForLanguageModeling(pad_token_id=0, padding_free=padding_free, **kwargs)
    return PerTokenCollator(inner, padding_free)(rows)


@pytest.mark.parametrize("multiple", [None, 4])
@pytest.mark.parametrize("padding_free", [False, True])
def test_weights_follow_their_tokens(padding_free, multiple):
    batch = collate(ROWS, padding_free, pad_to_multiple_of=multiple)
    assert batch["token_weight"].shape == batch["input_ids"].shape
    expected = torch.where(batch["input_ids"] > 0, batch["input_ids"] / 10, 0.0)
    assert torch.allclose(batch["token_weight"], expected)


def test_padding_free_batches_say_which_row_a_token_came_from():
    batch = collate(ROWS, padding_free=True, pad_to_multiple_of=4)
    assert batch["row_ids"].tolist() == [[0, 0, 0, 1, 1, 1, 1, 1]]
    assert "row_ids" not in collate(ROWS)


def test_rows_without_weights_make_batches_without():
    rows = [{name: row[name] for name in ("input_ids", "labels")} for row in ROWS]
    assert "token_weight" not in collate(rows)


def test_each_row_is_a_sequence_without_position_ids():
    assert sequence_ids(torch.zeros(2, 3)).tolist() == [[0, 0, 0], [1, 1, 1]]


def test_documents_begin_where_position_ids_restart():
    positions = torch.tensor([[0, 1, 2, 0, 1], [0, 1, 0, 1, 2]])
    ids = sequence_ids(torch.zeros(2, 5), positions)
    assert len(ids.unique()) == 4
    assert [len(set(ids[0, :3].tolist())), len(set(ids[0, 3:].tolist())), len(set(ids[1, 2:].tolist()))] == [1, 1, 1]


def test_a_document_never_reaches_into_the_next_row():
    """A row that begins inside a document (positions above 0) is a sequence of its own."""
    ids = sequence_ids(torch.zeros(2, 2), torch.tensor([[0, 1], [2, 3]]))
    assert ids[0, 1] != ids[1, 0]

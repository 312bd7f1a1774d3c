"""Per-token columns lie in batches exactly as their tokens do."""

import pytest
import tiny_models
import torch
from transformers import DataCollatorForLanguageModeling as MaskingCollator
from transformers import DataCollatorForSeq2Seq, DataCollatorWithFlattening
from trl.trainer.sft_trainer import DataCollatorForLanguageModeling

from qtarget.data import PerTokenCollator, positions, sequence_ids

ROWS = [
    {"input_ids": [11, 12, 13], "labels": [-100, 12, 13], "token_weight": [1.1, 1.2, 1.3]},
    {"input_ids": [14, 15], "labels": [14, 15], "token_weight": [1.4, 1.5]},
]


def collate(rows, padding_free=False, **kwargs):
    inner = DataCollatorForLanguageModeling(pad_token_id=0, padding_free=padding_free, **kwargs)
    return PerTokenCollator(inner)(rows)


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


def weights_of(inner, rows=ROWS):
    return PerTokenCollator(inner)(rows)


def aligned(batch):
    """Whether every token has its own weight, a tenth of its id, and padding has 0."""
    return torch.allclose(batch["token_weight"], torch.where(batch["input_ids"] > 5, batch["input_ids"] / 10, 0.0))


def padded(rows, width, side, cut=None, extra=(), mask=True):
    """A user's collator: rows cut to `cut` tokens, `extra` tokens before each, padded with 0 on one side."""
    lines = [[*extra, *row["input_ids"][:cut]] for row in rows]
    blank = [[0] * (width - len(line)) for line in lines]

    def lay(values, padding):
        pairs = zip(values, padding, strict=True)
        return torch.tensor([[*p, *v] if side == "left" else [*v, *p] for v, p in pairs])

    ids = lay(lines, blank)
    batch = {"input_ids": ids, "labels": ids.masked_fill(ids == 0, -100)}
    return {**batch, "attention_mask": lay([[1] * len(line) for line in lines], blank)} if mask else batch


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("more", [{}, {"mask": False}, {"cut": 2}, {"extra": (1,)}, {"extra": (1, 2), "mask": False}])
def test_weights_follow_their_tokens_under_any_layout(side, more):
    assert aligned(weights_of(lambda rows: padded(rows, 6, side, **more)))


def test_a_batch_cut_at_its_beginning():
    def keep_end(rows):
        ids = torch.tensor([row["input_ids"][-2:] for row in rows])
        return {"input_ids": ids, "labels": ids}

    assert aligned(weights_of(keep_end))


@pytest.mark.parametrize("side", ["left", "right"])
def test_collators_that_pad_by_the_tokenizer(side):
    """They cannot make a tensor of a column that they do not know."""
    tokenizer = tiny_models.tiny_tokenizer()
    tokenizer.padding_side = side
    assert aligned(weights_of(DataCollatorForSeq2Seq(tokenizer)))
    rows = [{"input_ids": row["input_ids"], "token_weight": row["token_weight"]} for row in ROWS]
    assert aligned(weights_of(MaskingCollator(tokenizer, mlm=False), rows))


def test_a_collator_that_lays_rows_end_to_end():
    batch = weights_of(DataCollatorWithFlattening())
    assert aligned(batch)
    assert batch["row_ids"].tolist() == [[0, 0, 0, 1, 1]]


def test_a_column_that_the_collator_returns_is_kept():
    own = torch.tensor([[5, 6, 7], [8, 9, 0]])
    batch = weights_of(lambda rows: {**padded(rows, 3, "right"), "token_weight": own})
    assert batch["token_weight"].tolist() == own.tolist()
    for wrong, message in ((own[:, 1:], r"of shape \[2, 2\]"), ([[1.0], [2.0]], "a list")):
        with pytest.raises(ValueError, match=rf"`token_weight` {message}; expected a tensor \[2, 3\]"):
            weights_of(lambda rows, wrong=wrong: {**padded(rows, 3, "right"), "token_weight": wrong})


def test_a_row_without_the_column_weighs_one():
    """As where sets with and without weights are mixed."""
    rows = [ROWS[0], {**ROWS[1], "token_weight": None}]
    assert weights_of(lambda rows: padded(rows, 4, "left"), rows)["token_weight"][1].tolist() == [0, 0, 1, 1]


@pytest.mark.parametrize(
    ("inner", "message"),
    [
        (lambda rows: padded(rows[::-1], 3, "right"), "row 1, whose tokens are not found in it"),
        (lambda rows: padded([*rows, rows[0]], 3, "right"), "it has 3 rows of 2"),
        (lambda rows: padded([{"input_ids": [0, 0]}] * 2, 3, "right", mask=False), "could stand in several places"),
        (lambda rows: {"labels": torch.zeros(2, 3)}, r"made a batch of \['labels'\] out of 2 rows"),
        (lambda rows: [1, 2], "made a batch of list out of 2 rows"),
    ],
)
def test_a_layout_that_cannot_be_told_is_refused(inner, message):
    rows = [{**row, "input_ids": [0, 0], "token_weight": [1.0, 2.0]} for row in ROWS] if "several" in message else ROWS
    with pytest.raises(ValueError, match=message):
        weights_of(inner, rows)


def test_two_places_are_told_apart_by_the_mask():
    rows = [{"input_ids": [0, 0], "token_weight": [1.0, 2.0]}] * 2
    batch = weights_of(lambda rows: padded(rows, 3, "left"), rows)
    assert batch["token_weight"].tolist() == [[0, 1, 2]] * 2


def test_positions_count_the_learned_tokens_of_each_document():
    """From 0 to 1; a document's first token is behind no other; one learned token alone stands at 0."""
    labels = torch.tensor([[7, -100, 5, 5, -100, 5], [5, 5, -100, -100, 5, -100]])
    padded = positions(labels, sequence_ids(labels))
    torch.testing.assert_close(padded, torch.tensor([[0, 0, 0, 0.5, 0, 1], [0, 0, 0, 0, 1, 0]]))
    flat = torch.cat([torch.arange(6), torch.arange(5)])[None]
    packed = torch.cat([labels[0], labels[1, :5]])[None]
    torch.testing.assert_close(
        positions(packed, sequence_ids(packed, flat)), torch.cat([padded[0], padded[1, :5]])[None]
    )
    alone = torch.tensor([[-100, 5, -100], [-100, -100, -100]])
    assert positions(alone, sequence_ids(alone)).tolist() == [[0, 0, 0], [0, 0, 0]]

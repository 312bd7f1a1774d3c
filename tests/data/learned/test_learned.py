"""Conversations become tokens with labels on what is learned, and weights stay with their tokens."""

import warnings
from collections import Counter

import pytest
import tiny_models
from data.chat import chats
from datasets import Dataset
from transformers import ByT5Tokenizer

from qtarget.data import RowPolicy, RowRendering
from qtarget.data import found_rows as find
from qtarget.data import learned_rows as learn_them
from qtarget.outcomes import UnusableRow

TURNS = [
    {"role": "user", "content": "What is 2+2?"},
    {"role": "assistant", "content": "It is 4."},
    {"role": "user", "content": "And 3+3?"},
    {"role": "assistant", "content": "That is 6."},
]
ROWS = [
    {"messages": TURNS},
    {"messages": TURNS[:2]},
    {"messages": [*TURNS[:3], {"role": "assistant", "content": "Six ✓."}]},
]
POLICY = RowPolicy("train")


def learned_rows(*given):
    counts = Counter()
    return learn_them(*given, counts), counts


def found_rows(*given):
    counts = Counter()
    return find(*given, counts), counts


def rendering(source=chats.CHATML, **more):
    return RowRendering(chats.byte_tokenizer(chats.plain(source), **more))


def learned(rows, learn="assistant", how=None, policy=POLICY):
    how = rendering() if how is None else how
    made, _ = learned_rows(Dataset.from_list(rows) if isinstance(rows, list) else rows, learn, how, policy)
    return [
        how.tokenizer.decode([label for label in row["labels"] if label != -100]).split("<|im_end|>")[:-1]
        for row in made
    ]


def test_labels_are_on_the_answers():
    assert learned(ROWS) == [["It is 4.", "That is 6."], ["It is 4."], ["It is 4.", "Six ✓."]]
    assert learned(ROWS, "last") == [["That is 6."], ["It is 4."], ["Six ✓."]]


@pytest.mark.parametrize("learn", ["assistant", "last", "all"])
def test_ids_are_those_of_the_chat_template(learn):
    how = rendering()
    made, _ = learned_rows(Dataset.from_list(ROWS), learn, how, POLICY)
    for row, given in zip(made, ROWS, strict=True):
        assert row["input_ids"] == how.tokenizer.apply_chat_template(
            given["messages"], tokenize=True, return_dict=False
        )
        assert all(label in (-100, token) for label, token in zip(row["labels"], row["input_ids"], strict=True))
    if learn == "all":
        assert made["labels"][:] == made["input_ids"][:]


def test_other_columns_stay_and_those_of_the_conversation_go():
    rows = Dataset.from_list([{**row, "source": "a", "tools": None} for row in ROWS])
    made, _ = learned_rows(rows, "assistant", rendering(), POLICY)
    assert set(made.column_names) == {"source", "input_ids", "labels"}


def test_a_prompt_of_messages_and_its_completion():
    rows = [{"prompt": TURNS[:3], "completion": TURNS[3:]}, {"prompt": TURNS[:1], "completion": TURNS[1:]}]
    assert learned(rows) == [["That is 6."], ["It is 4.", "That is 6."]]


def test_a_stream_gives_the_same():
    rows = Dataset.from_list(ROWS)
    made, _ = learned_rows(rows, "assistant", rendering(), POLICY)
    stream, _ = learned_rows(rows.to_iterable_dataset(), "assistant", rendering(), POLICY)
    assert list(stream) == list(made)


def test_several_processes_give_the_same():
    rows = Dataset.from_list(ROWS)
    made, _ = learned_rows(rows, "assistant", rendering(), POLICY)
    two, _ = learned_rows(rows, "assistant", rendering(), RowPolicy("train", num_proc=2))
    assert list(two) == list(made)


LOST = {"messages": [TURNS[0], {"role": "bot", "content": "4"}]}
REWRITTEN = {"messages": [*TURNS, {"role": "assistant", "content": "\x1b[31m"}]}


@pytest.mark.parametrize("look", [learned_rows, found_rows])
@pytest.mark.parametrize("stream", [False, True])
def test_a_bad_row_is_named(look, stream):
    rows = Dataset.from_list([*ROWS, LOST, LOST])
    with pytest.raises(
        UnusableRow, match=r"Row 4 of the train data set .*`messages\[1\].content`.*'bot'.*bad_rows='skip'"
    ):
        list(look(rows.to_iterable_dataset() if stream else rows, "assistant", rendering(), POLICY)[0])


@pytest.mark.parametrize("look", [learned_rows, found_rows])
@pytest.mark.parametrize("stream", [False, True])
def test_bad_rows_are_left_out_and_counted(look, stream):
    rows = Dataset.from_list([LOST, *ROWS, LOST])
    kept, counts = look(
        rows.to_iterable_dataset() if stream else rows, "assistant", rendering(), RowPolicy("train", "skip")
    )
    assert len(list(kept)) == 3
    assert sum(counts.values()) == 2
    assert "'bot'" in next(iter(counts))


def test_all_rows_bad():
    with pytest.raises(UnusableRow, match="no row left"):
        learned_rows(Dataset.from_list([LOST]), "assistant", rendering(), RowPolicy("train", "skip"))


def test_found_rows_are_as_they_were():
    rows = Dataset.from_list(ROWS)
    assert list(found_rows(rows, "all", rendering(), POLICY)[0]) == ROWS


def test_weights_stay_with_their_tokens():
    spans = [[], [[0, 2, 3.0]], [], [[8, 9, 0.5]]]
    how = RowRendering(rendering().tokenizer, unspanned=2.0)
    made, _ = learned_rows(Dataset.from_list([{"messages": TURNS, "weight_spans": spans}]), "assistant", how, POLICY)
    row = made[0]
    heavy = {
        w: how.tokenizer.decode([i for i, x in zip(row["input_ids"], row["token_weight"], strict=True) if x == w])
        for w in (3, 0.5)
    }
    assert heavy == {3: "It", 0.5: "6"}
    assert len(row["token_weight"]) == len(row["labels"])


def test_weights_that_do_not_fit_name_their_row():
    rows = [{"messages": TURNS, "weight_spans": [[], [[0, 99, 3.0]], [], []]}]
    with pytest.raises(UnusableRow, match=r"Row 1 .*`weight_spans`.*\[0.0, 99.0, 3.0\].*<= 8"):
        learned_rows(Dataset.from_list(rows), "assistant", rendering(), POLICY)


def test_a_prompt_that_the_template_refuses_by_itself_is_found():
    """TRL renders it by itself, to tell where the completion begins."""
    refuses = (
        "{% if add_generation_prompt and messages | length == 1 %}{{ raise_exception('no lone prompt') }}{% endif %}"
    )
    rows = Dataset.from_list(
        [{"prompt": TURNS[:3], "completion": TURNS[3:]}, {"prompt": TURNS[:1], "completion": TURNS[1:2]}]
    )
    how = rendering(refuses + chats.CHATML)
    with pytest.raises(UnusableRow, match=r"Row 2 .*`prompt` cannot be written .*line 1 .*: no lone prompt"):
        found_rows(rows, "all", how, POLICY)
    kept, counts = found_rows(rows.to_iterable_dataset(), "all", how, RowPolicy("train", "skip"))
    assert [row["prompt"] for row in kept] == [TURNS[:3]]
    assert counts == {"conversation that the chat template refuses": 1}


TIGHT = (
    "{% for m in messages %}{{ m.role }}: {{ m.content }}<|im_end|>{% endfor %}"
    "{% if add_generation_prompt %}assistant: {% endif %}"
)
"""The header ends with a blank, which tokenizers join to the word behind it."""


def test_a_token_across_the_start_of_an_answer_is_learned_whole_and_said():
    how = rendering(TIGHT, merges=(("Ġ", "y"), ("e", "s"), ("Ġy", "es")))
    rows = [{"messages": [{"role": "user", "content": "Now?"}, {"role": "assistant", "content": "yes"}]}]
    with pytest.warns(UserWarning, match=r"' yes' begins before an answer does"):
        assert learned(rows, how=how) == [[" yes"]]


def test_a_token_across_the_end_of_an_answer_is_learned_whole():
    source = "{% for m in messages %}{{ m.role }}:{{ m.content }}\n{% endfor %}"
    source += "{% if add_generation_prompt %}assistant:{% endif %}"
    how = rendering(source, merges=((".", "Ċ"),), words=False)
    rows = [{"messages": [{"role": "user", "content": "Now."}, {"role": "assistant", "content": "Yes."}]}]
    made, _ = learned_rows(Dataset.from_list(rows), "assistant", how, POLICY)
    assert how.tokenizer.decode([label for label in made[0]["labels"] if label != -100]) == "Yes.\n"


def test_blanks_that_offsets_leave_out():
    """Llama 3's tokenizer trims blanks off its offsets: a header's line breaks seem to take no room."""
    how = rendering(chats.LLAMA, end="<|eot_id|>", merges=(("Ċ", "Ċ"),))
    from tokenizers.processors import ByteLevel

    how.tokenizer.backend_tokenizer.post_processor = ByteLevel(trim_offsets=True)
    rows = [{"messages": [TURNS[0], {"role": "assistant", "content": "It is\n\n 4."}]}]
    made, _ = learned_rows(Dataset.from_list(rows), "assistant", how, POLICY)
    assert how.tokenizer.decode([label for label in made[0]["labels"] if label != -100]) == "It is\n\n 4.<|eot_id|>"


def test_a_tokenizer_that_knows_no_offsets():
    slow = ByT5Tokenizer(eos_token="</s>")
    slow.chat_template = chats.plain(chats.CHATML).replace("<|im_end|>", "</s>")
    made, _ = learned_rows(Dataset.from_list(ROWS), "assistant", RowRendering(slow), POLICY)
    texts = [slow.decode([label for label in row["labels"] if label != -100]) for row in made]
    assert texts == ["It is 4.</s>That is 6.</s>", "It is 4.</s>", "It is 4.</s>Six ✓.</s>"]


@pytest.mark.parametrize("learn", ["assistant", "last", "all"])
def test_no_warning_where_nothing_is_odd(learn):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        learned_rows(tiny_models.messages(4), learn, RowRendering(tiny_models.tiny_tokenizer()), POLICY)

"""Rows that do not teach a model to stop are told from those that do."""

import pytest
import tiny_models
from datasets import Dataset
from train import parity

from qtarget.data import Asker
from qtarget.train import RowMixture, RowSet, TargetSFTConfig, TargetSFTTrainer
from qtarget.train.end_of_turn import EndCheck, check_ends, end_tokens

TOKENIZER = tiny_models.tiny_tokenizer()
EOS, USER, ASSISTANT, WORD = map(TOKENIZER.convert_tokens_to_ids, ("<eos>", "<user>", "<assistant>", "w7"))


def check(*labels, ends=(EOS,), max_length=None, asker=Asker.COMMAND_LINE, is_refused=True, stream=False, **columns):
    rows = Dataset.from_dict({"labels": list(labels), "input_ids": list(labels), **columns})
    rows = rows.to_iterable_dataset() if stream else rows
    check_ends([(rows, EndCheck("train", TOKENIZER, max_length, asker, is_refused))], ends)


@pytest.mark.parametrize("stream", [False, True])
def test_one_row_that_ends_is_enough(stream):
    check([WORD, WORD, USER], [WORD, WORD, EOS, -100], stream=stream)


@pytest.mark.parametrize("stream", [False, True])
def test_a_sign_that_generation_does_not_stop_at(stream):
    with pytest.raises(ValueError, match=r"'<user>' in 2 of 2 rows.*stops at '<eos>'.*`eos_token: <user>`") as refusal:
        check([WORD, WORD, USER], [WORD, USER, -100], stream=stream)
    assert "--eos-token '<user>'" in str(refusal.value)


def test_a_python_user_reads_python():
    with pytest.raises(ValueError, match=r"TargetSFTConfig\(eos_token='<user>'\)"):
        check([WORD, USER], asker=Asker.PYTHON)


def test_a_word_at_the_end():
    with pytest.raises(ValueError, match=r"'w7' in 1 of 1 rows.*chat template.*template.jinja"):
        check([WORD, WORD])


def test_a_warning_where_it_is_not_refused():
    with pytest.warns(UserWarning, match="No row of the train data set teaches the model to stop"):
        check([WORD, WORD], is_refused=False)


def test_the_first_token_is_no_end_for_it_is_not_learned():
    with pytest.raises(ValueError, match="to stop"):
        check([EOS, WORD])


def test_rows_that_may_be_cut_say_nothing():
    check([WORD, WORD, WORD], max_length=3)
    with pytest.raises(ValueError, match="1 of 1 rows"):
        check([WORD, WORD, WORD], [WORD, WORD], max_length=3)


def test_packed_rows_are_looked_at_document_by_document():
    check([WORD, EOS, WORD, WORD], seq_lengths=[[2, 2]])
    with pytest.raises(ValueError, match="2 of 2 rows"):
        check([WORD, WORD, EOS, WORD], seq_lengths=[[2, 2]])  # EOS begins a document


def mixture(*sets, is_refused=True, ends=(EOS,)):
    """Sets of one row each, that end with a token, and of which the trainer adds the end token to some."""
    made = [
        (
            Dataset.from_dict({"labels": [[WORD, end]]}),
            EndCheck(name, TOKENIZER, None, Asker.COMMAND_LINE, is_refused, takes),
        )
        for name, (end, takes) in zip("abc", sets, strict=False)
    ]
    check_ends(made, ends)


def test_sets_that_end_differently_keep_the_end_token():
    said = (
        r"end differently: a with '<eos>', b with '<user>'; generation stops at '<eos>', so b does not teach the model "
        r"to stop. End the rows there with '<eos>' \(token 2\).* Leave `eos_token` as it is"
    )
    with pytest.raises(ValueError, match=said) as refusal:
        mixture((EOS, False), (USER, False))
    assert "eos_token: <user>" not in str(refusal.value)
    with pytest.warns(UserWarning, match=said) as warned:
        mixture((EOS, False), (USER, False), is_refused=False)
    assert len(warned) == 1
    with pytest.raises(ValueError, match=r"so a and b do not teach the model to stop. End the rows there with '<eos>'"):
        mixture((ASSISTANT, False), (USER, False))


def test_texts_end_with_whatever_the_end_token_is():
    with pytest.raises(ValueError, match=r"No row of the b data set teaches.*`eos_token: <user>`"):
        mixture((EOS, True), (USER, False))
    with pytest.raises(ValueError, match=r"No row of the a data set teaches.*`eos_token: <user>`"):
        mixture((USER, False), (USER, False))
    with pytest.raises(ValueError, match=r"No row of the b data set teaches.*'w7' in 1 of 1 rows"):
        mixture((EOS, False), (WORD, False))


def test_chats_and_token_ids_of_a_mixture_that_end_differently_are_said_once():
    turns = [{"role": "user", "content": "w1"}, {"role": "assistant", "content": "w2"}]
    chats = Dataset.from_list([{"messages": turns}] * 4)
    tokens = Dataset.from_list([{"input_ids": [WORD, WORD, USER], "labels": [WORD, WORD, USER]}] * 4)
    texts = tiny_models.plain_text(4)
    args = TargetSFTConfig(method="sft", **parity.common_args())

    def ends_of(*sets):
        rows = RowMixture([RowSet(each) for each in sets])
        with pytest.warns(UserWarning, match=r"set 2 of train") as warned:
            TargetSFTTrainer(tiny_models.tiny_model(), args, train_dataset=rows, processing_class=TOKENIZER)
        return [str(each.message) for each in warned if "to stop" in str(each.message)]

    (said,) = ends_of(chats, tokens)
    assert "rows (set 1 of train) with '<eos>', rows (set 2 of train) with '<user>'" in said
    (said,) = ends_of(texts, tokens)
    assert "TargetSFTConfig(eos_token='<user>')" in said


def test_where_generation_stops():
    model = tiny_models.tiny_model()
    for given, expected in ((None, {EOS}), (WORD, {EOS, WORD}), ([USER, WORD], {EOS, USER, WORD})):
        model.generation_config.eos_token_id = given
        assert end_tokens(model, TOKENIZER) == expected

"""Rows at the trainer: every set goes through the door, and what became of it is counted."""

import json
import re
import warnings

import pytest
import tiny_models
from datasets import Dataset, DatasetDict, IterableDataset
from train import parity
from transformers import GPT2Config, GPT2LMHeadModel

from qtarget.outcomes import UnusableRow
from qtarget.train import RowMixture, RowSet, TargetSFTConfig, TargetSFTTrainer


def build(rows, *, model=None, tokenizer=None, eval_dataset=None, **config):
    return TargetSFTTrainer(
        tiny_models.tiny_model() if model is None else model,
        TargetSFTConfig(method="sft", **parity.common_args(**config)),
        train_dataset=rows,
        eval_dataset=eval_dataset,
        processing_class=tokenizer or tiny_models.tiny_tokenizer(),
    )


def pairs(prompt_words, rows=4):
    return [{"prompt": "w1 " * prompt_words, "completion": "w2 w3"}] * rows


@pytest.mark.failure_case(9)
def test_rows_that_max_length_masks_are_no_training_rows():
    trainer = build(Dataset.from_list(pairs(2, 40) + pairs(9, 40)), max_length=8)
    counts = trainer.row_counts["train"]
    assert (counts.given, counts.rows, counts.masked, counts.cut) == (80, 40, 40, 0)
    assert len(trainer.train_dataset) == 40
    assert counts.sentence() == (
        "80 rows, 40 of them trained on; 200 tokens, 120 of them learned; "
        "40 left out, for max_length cuts off every label"
    )


def test_rows_that_are_cut_are_counted_and_rows_that_just_fit_are_not():
    counts = build(Dataset.from_list(pairs(2) + pairs(4)), max_length=5).row_counts["train"]
    assert (counts.rows, counts.cut, counts.masked) == (8, 4, 0)
    assert (counts.tokens, counts.learned) == (40, 4 * 3 + 4 * 1)


def test_the_end_of_a_row_may_be_kept():
    counts = build(Dataset.from_list(pairs(4)), max_length=4, truncation_mode="keep_end").row_counts["train"]
    assert (counts.cut, counts.tokens, counts.learned) == (4, 16, 12)


@pytest.mark.parametrize(
    ("strategy", "cut", "learned"), [("bfd", 4, 4 * 3 + 4 * 1), ("bfd_split", 0, None), ("wrapped", 0, None)]
)
def test_packed_rows_are_not_called_cut_for_filling_a_block(strategy, cut, learned):
    rows = Dataset.from_list(pairs(2) + pairs(4))
    counts = build(rows, max_length=5, packing=True, packing_strategy=strategy).row_counts["train"]
    assert (counts.rows, counts.cut, counts.masked) == (8, cut, 0)
    assert counts.sequences is not None
    assert learned in (None, counts.learned)


def test_each_form_trains_what_it_should():
    rows = [{"conversations": [{"from": "human", "value": "w1"}, {"from": "gpt", "value": "w2"}]}] * 4
    trainer = build(Dataset.from_list(rows), assistant_only_loss=True)
    tokenizer, row = trainer.text_tokenizer, trainer.train_dataset[0]
    assert tokenizer.decode(row["input_ids"]) == "<user> w1 <assistant> w2 <eos>"
    assert tokenizer.decode([label for label in row["labels"] if label != -100]) == "w2 <eos>"
    alpaca = build(Dataset.from_list([{"instruction": "w1", "input": "w2", "output": "w3", "text": "w4"}] * 4))
    assert tokenizer.decode(alpaca.train_dataset[0]["input_ids"]) == "<user> w1 w2 <assistant> w3 <eos>"


def test_a_text_column_beside_a_completion_does_not_take_its_end():
    trainer = build(Dataset.from_list([{"prompt": "w1 ", "completion": "w2", "text": "w3"}] * 4))
    assert trainer.text_tokenizer.decode(trainer.train_dataset[0]["input_ids"]) == "w1 w2 <eos>"


STRICT = (
    "{% for m in messages %}{% if m.role == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
    "<user>{{ m.content }}{% endfor %}"
)


def turns(*roles):
    return [{"role": role, "content": "w1"} for role in roles]


def strict_tokenizer():
    tokenizer = tiny_models.tiny_tokenizer()
    tokenizer.chat_template = STRICT
    return tokenizer


def test_a_turn_that_the_template_refuses_is_named_by_its_row():
    good, bad = turns("user", "assistant"), turns("system", "user", "assistant")
    rows = Dataset.from_list([{"messages": good}, {"messages": bad}, {"messages": good}])
    with pytest.raises(UnusableRow, match=r"Row 2 .*roles: system, user, assistant.*System role not supported"):
        build(rows, tokenizer=strict_tokenizer())
    trainer = build(rows, tokenizer=strict_tokenizer(), bad_rows="skip")
    assert trainer.row_counts["train"].dropped == {"conversation that the chat template refuses": 1}
    assert len(trainer.train_dataset) == 2
    stream = build(rows.to_iterable_dataset(), tokenizer=strict_tokenizer(), bad_rows="skip", max_steps=1)
    assert len(list(stream.train_dataset)) == 2
    assert dict(stream.row_counts["train"].dropped) == {"conversation that the chat template refuses": 1}


def test_a_model_with_a_table_of_positions_refuses_rows_beyond_it():
    sizes = {"vocab_size": tiny_models.VOCAB, "n_positions": 8, "n_embd": 16, "n_layer": 1, "n_head": 2}
    model = GPT2LMHeadModel(GPT2Config(**sizes, bos_token_id=2, eos_token_id=2))
    rows = Dataset.from_list(pairs(20))
    with pytest.raises(UnusableRow, match=r"has 23 tokens.*GPT2LMHeadModel has 8 positions.*max_length=8"):
        build(rows, model=model)
    assert build(Dataset.from_list(pairs(5)), model=model)
    stream = build(rows.to_iterable_dataset(), model=model, max_steps=1)
    with pytest.raises(UnusableRow, match="Row 1 of the train data set has 23 tokens"):
        next(iter(stream.train_dataset))


def test_beyond_rotary_positions_there_is_a_warning():
    model = tiny_models.tiny_model(max_position_embeddings=8)
    with pytest.warns(UserWarning, match="Qwen2ForCausalLM has 8 positions"):
        build(Dataset.from_list(pairs(20)), model=model)


def test_a_stream_is_checked_for_token_ids_as_it_comes():
    made = [{"input_ids": ids, "labels": ids} for ids in ([1, 5], [1, 999])]
    rows = IterableDataset.from_generator(lambda: iter(made))
    prepared = iter(build(rows, max_steps=1).train_dataset)
    next(prepared)
    with pytest.raises(UnusableRow, match=r"prepared row 2: input_ids holds 999"):
        next(prepared)


def test_completion_only_loss_needs_completions():
    with pytest.raises(ValueError, match=r"no completion: they are text rows \(text\)"):
        build(tiny_models.plain_text(4), completion_only_loss=True)
    build(tiny_models.prompt_completion(4), completion_only_loss=True)


def test_a_set_given_to_evaluate_goes_through_the_door_too():
    trainer = build(tiny_models.prompt_completion(4))
    with pytest.raises(UnusableRow, match="Row 1 of the eval data set"):
        trainer.evaluate(Dataset.from_list([{"prompt": "w1", "completion": ""}]))
    rows = [{"question": "w1", "answer": "w2"}] * 2
    assert trainer.evaluate(Dataset.from_list(rows))["eval_nll"] > 0
    assert trainer.evaluate(trainer.train_dataset)["eval_nll"] > 0


def test_token_ids_given_to_evaluate_are_checked_too():
    trainer = build(tiny_models.prompt_completion(4))
    bad = Dataset.from_list([{"input_ids": [5, 999], "labels": [-100, 6]}])
    for given in (bad, {"mine": bad}):
        with pytest.raises(UnusableRow, match=r"prepared row 1: input_ids holds 999"):
            trainer.evaluate(given)
    for given, key in ((list(bad), "eval_dataset"), ({"mine": list(bad)}, "eval_dataset['mine']")):
        with pytest.raises(ValueError, match=re.escape(f"`{key}` is a list, and no data set")):
            trainer.evaluate(given)


def test_columns_may_come_as_text_from_a_command_line():
    config = TargetSFTConfig(
        method="sft", **parity.common_args(), columns=json.dumps({"prompt": "q", "completion": "a"})
    )
    assert config.columns == {"prompt": "q", "completion": "a"}


def test_sets_of_several_forms_are_one_from_python():
    chats = Dataset.from_list([{"messages": turns("user", "assistant")}] * 6)
    texts = Dataset.from_list([{"q": "w3", "a": "w4"}] * 6)
    mixture = RowMixture((RowSet(chats, "chats", 1), RowSet(texts, "", 1, {"question": "q", "answer": "a"})))
    trainer = build(mixture, eval_dataset={"both": mixture, "one": chats}, learn="assistant")
    learned = {
        trainer.text_tokenizer.decode([at for at in row["labels"] if at != -100]) for row in trainer.train_dataset
    }
    assert learned == {"w1 <eos>", "w4 <eos>"}
    assert list(trainer.row_counts["train"].sets) == ["chats (set 1 of train)", "rows (set 2 of train)"]
    assert len(trainer.eval_dataset["both"]) == len(trainer.train_dataset)
    assert trainer.evaluate(mixture)["eval_nll"] == pytest.approx(
        trainer.evaluate(trainer.eval_dataset["both"])["eval_nll"]
    )
    assert trainer.train().training_loss > 0
    streams = RowMixture(
        (
            RowSet(chats, "chats", 1),
            RowSet(texts.rename_columns({"q": "question", "a": "answer"}).to_iterable_dataset(), "", 1),
        )
    )
    with pytest.raises(ValueError, match=r"assistant_only_loss=True\)` cannot mask the streams of a mixture; write"):
        build(streams, assistant_only_loss=True, max_steps=1)
    assert build(streams, learn="assistant", max_steps=1).train().training_loss > 0


@pytest.mark.parametrize(
    ("sets", "said"),
    [
        ((), "RowMixture has no set"),
        ((RowSet([1]),), r"Set 1 of the RowMixture is a list; write RowSet\(rows\)"),
        ([{"rows": tiny_models.plain_text(2)}], r"Set 1 of the RowMixture is a dict; write RowSet\(rows\)"),
        (RowSet(tiny_models.plain_text(2)), r"is given a RowSet, .* write RowMixture\(\[RowSet\("),
        (tiny_models.plain_text(2), "is given a Dataset, and expects a list of sets"),
        ([RowSet(tiny_models.plain_text(2), columns="body")], "columns='body'; expected parts of a row"),
        ((RowSet(tiny_models.plain_text(2), share=0),), "share=0; expected a number above 0"),
        ((RowSet(tiny_models.plain_text(2), share=1), RowSet(tiny_models.plain_text(2))), "Set 2 .* has no `share`"),
    ],
)
def test_what_is_no_mixture_is_refused(sets, said):
    with pytest.raises(ValueError, match=said):
        RowMixture(sets)


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"seed": "x"}, r"seed='x'; expected a whole number of 0 or more, as RowMixture\(…, seed=42\)"),
        ({"seed": -1}, "seed=-1; expected a whole number"),
        ({"seed": None}, "seed=None; expected a whole number"),
        ({"select": 5}, "select=5; expected a function of the rows"),
    ],
)
def test_what_a_mixture_is_given_beside_its_sets_is_looked_at(more, said):
    with pytest.raises(ValueError, match=said):
        RowMixture([RowSet(tiny_models.plain_text(2))], **more)


ROWS = tiny_models.plain_text(2)


@pytest.mark.parametrize(
    ("key", "given", "said"),
    [
        (
            "train_dataset",
            [ROWS, ROWS],
            r"is a list, .* train_dataset=RowMixture\(\[RowSet\(rows_1\), RowSet\(rows_2\)\]\)",
        ),
        ("train_dataset", [{"text": "w1 w2"}], r"write train_dataset=datasets.Dataset.from_list\(rows\)"),
        ("train_dataset", RowSet(ROWS), r"is a RowSet, .* train_dataset=RowMixture\(\[row_set\]\)"),
        ("train_dataset", DatasetDict(train=ROWS), r"write train_dataset=sets\['train'\]"),
        ("train_dataset", {"text": ["w1"]}, r"write train_dataset=datasets.Dataset.from_dict\(rows\)"),
        ("train_dataset", "rows", "write train_dataset=datasets.load_dataset"),
        ("eval_dataset", [ROWS], r"write eval_dataset=RowMixture\(\[RowSet\(rows_1\)\]\)"),
        ("eval_dataset", {"a": [ROWS]}, r"`eval_dataset\['a'\]` is a list"),
    ],
)
def test_what_holds_data_sets_and_is_none_is_refused_with_the_line(key, given, said):
    with pytest.raises(ValueError, match=said):
        TargetSFTTrainer("nowhere", None, **{"train_dataset": ROWS, key: given})


def mixed(share, stopping="all_exhausted", stream=False):
    texts, pairs = tiny_models.plain_text(8), tiny_models.prompt_completion(8)
    texts = texts.to_iterable_dataset() if stream else texts
    return build(RowMixture((RowSet(texts, "a", share), RowSet(pairs, "b", 1)), stopping), max_steps=1)


@pytest.mark.parametrize("share", [1e-12, 1e-320])
@pytest.mark.parametrize("stopping", ["all_exhausted", "all_exhausted_without_replacement"])
@pytest.mark.parametrize("stream", [False, True])
def test_a_share_that_makes_an_epoch_endless_is_refused_before_drawing(share, stopping, stream):
    with pytest.raises(
        ValueError, match=r"every row of a \(set 1 of train\) has come.* Write `RowSet\(…, share=0\."
    ) as refusal:
        mixed(share, stopping, stream)
    assert "`RowMixture(…, stopping='first_exhausted')`" in str(refusal.value)


def test_the_share_that_is_said_is_enough():
    with pytest.raises(ValueError, match=r"share=0\.058") as refusal:
        mixed(1e-12)
    assert "takes about 8,000,000,000,008 draws, and its sets hold 16 rows" in str(refusal.value)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        assert len(mixed(0.058).train_dataset) < 16 * 20
    assert len(mixed(1e-12, "first_exhausted").train_dataset) == 8


def test_a_long_epoch_is_said():
    with pytest.warns(UserWarning, match=r"takes about 8,008 draws, and its sets hold 16 rows"):
        assert len(mixed(1e-3).train_dataset) > 1000


def test_shares_near_the_ends_of_floats():
    mixture = RowMixture([RowSet(ROWS, share=1e308), RowSet(ROWS, share=1e308)])
    assert mixture.probabilities == [0.5, 0.5]
    with pytest.raises(ValueError, match="expected a number above 0"):
        RowMixture([RowSet(ROWS, share=10**400)])


def test_evaluation_rows_of_another_form_are_learned_as_alone():
    """TRL looks at the first training row to decide whether completions alone are learned, of every set."""
    pairs_alone = build(tiny_models.prompt_completion(4), learn="assistant").train_dataset["labels"]
    trainer = build(tiny_models.plain_text(4), eval_dataset=tiny_models.prompt_completion(4), learn="assistant")
    assert trainer.eval_dataset["labels"] == pairs_alone
    assert all(-100 not in labels for labels in trainer.train_dataset["labels"])


def test_the_bad_rows_of_a_stream_are_counted_once():
    """Whatever is looked at ahead, and however often the stream begins anew."""
    made = [{"prompt": "w1 ", "completion": "" if i % 3 == 1 else "w2"} for i in range(12)]
    rows = IterableDataset.from_generator(lambda: iter(made))
    trainer = build(rows, bad_rows="skip", max_steps=20, per_device_train_batch_size=2)
    trainer.train()
    assert trainer.state.epoch > 1
    counts = trainer.row_counts["train"].by_now()
    assert (counts.read, counts.dropped) == (12, {"empty text": 4})
    assert counts.sentence() == "a stream; of the 12 rows read so far 4 were left out (4 empty text)"
    elsewhere = build(rows, bad_rows="skip", max_steps=1, dataloader_num_workers=1).row_counts["train"]
    assert elsewhere.sentence().startswith("a stream; rows that are left out are not counted, for other processes read")


def test_the_bad_rows_of_streams_in_a_mixture_are_counted_once():
    made = [{"prompt": "w1 ", "completion": "" if i % 3 == 1 else "w2"} for i in range(12)]
    sets = [RowSet(IterableDataset.from_generator(lambda: iter(made)), "s", 1) for _ in range(2)]
    trainer = build(
        RowMixture(tuple(sets), "all_exhausted"), bad_rows="skip", max_steps=20, per_device_train_batch_size=2
    )
    trainer.train()
    counts = trainer.row_counts["train"].by_now()
    assert [(each.read, each.dropped) for each in counts.sets.values()] == [(12, {"empty text": 4})] * 2
    assert "of the 24 rows read so far 8 were left out (8 empty text)" in counts.sentence()


def test_a_stream_without_a_good_row_is_refused_in_words():
    rows = IterableDataset.from_generator(lambda: iter([{"prompt": "w1", "completion": ""}] * 3))
    with pytest.raises(UnusableRow, match="The train data set has no row left; look at the columns"):
        build(rows, bad_rows="skip", max_steps=1)


def test_rows_whose_only_label_has_nothing_before_it_are_refused_in_words():
    rows = Dataset.from_list([{"input_ids": [5], "labels": [5]}] * 4)
    with pytest.raises(UnusableRow, match="no label but on the first token"):
        parity.run("sft", data=rows)

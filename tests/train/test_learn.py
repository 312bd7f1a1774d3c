"""`learn` through the trainer: with packing, cutting, weights and streams, beside TRL's own keys."""

import json

import pytest
import tiny_models
from datasets import Dataset
from train import parity
from transformers import GenerationConfig
from trl import SFTConfig, SFTTrainer

from qtarget.data import Asker
from qtarget.train import TargetSFTConfig, TargetSFTTrainer
from qtarget.train.lookup import rendering

EOS, IGNORED = 2, -100
QUESTION = {"role": "user", "content": "w1 w2"}
TALK = [
    {"role": "user", "content": "w1 w2"},
    {"role": "assistant", "content": "w3"},
    {"role": "user", "content": "w4"},
    {"role": "assistant", "content": "w5 w6"},
]


class CommandLineTrainer(TargetSFTTrainer):
    asker = Asker.COMMAND_LINE


def trainer_of(rows, kind=TargetSFTTrainer, template=None, tokenizer=None, model=None, eval_dataset=None, **changes):
    rows = Dataset.from_list(rows) if isinstance(rows, list) else rows
    tokenizer = tiny_models.tiny_tokenizer() if tokenizer is None else tokenizer
    if template is not None:
        tokenizer.chat_template = template
    return kind(
        tiny_models.tiny_model() if model is None else model,
        TargetSFTConfig(method="sft", **parity.common_args(max_steps=1, per_device_train_batch_size=8, **changes)),
        train_dataset=rows,
        eval_dataset=eval_dataset,
        processing_class=tokenizer,
    )


def words(trainer, row=0):
    labels = trainer.train_dataset[row]["labels"]
    return trainer.text_tokenizer.decode([label for label in labels if label != IGNORED]).split()


@pytest.mark.parametrize(
    ("learn", "expected"),
    [
        ("assistant", "w3 <eos> w5 w6 <eos>"),
        ("last", "w5 w6 <eos>"),
        ("all", "<user> w1 w2 <assistant> w3 <eos> <user> w4 <assistant> w5 w6 <eos>"),
        (None, "<user> w1 w2 <assistant> w3 <eos> <user> w4 <assistant> w5 w6 <eos>"),
    ],
)
def test_what_is_learned_of_messages(learn, expected):
    trainer = trainer_of([{"messages": TALK}], learn=learn)
    assert " ".join(words(trainer)) == expected
    trainer.train()


@pytest.mark.parametrize("form", ["messages", "chat", "text"])
@pytest.mark.parametrize("assistant_only", [False, True])
def test_without_learn_labels_are_trl_s(form, assistant_only):
    rows = {
        "messages": tiny_models.messages(6),
        "chat": tiny_models.messages(6).map(
            lambda row: {"prompt": row["messages"][:-1], "completion": row["messages"][-1:]}, remove_columns="messages"
        ),
        "text": tiny_models.prompt_completion(6),
    }[form]
    if form == "text" and assistant_only:
        pytest.skip("TRL refuses it")
    ours = trainer_of(rows, assistant_only_loss=assistant_only)
    args = SFTConfig(**parity.common_args(assistant_only_loss=assistant_only))
    theirs = SFTTrainer(
        tiny_models.tiny_model(), args, train_dataset=rows, processing_class=tiny_models.tiny_tokenizer()
    )
    for name in ("input_ids", "labels"):
        assert ours.train_dataset[name][:] == theirs.train_dataset[name][:]


@pytest.mark.parametrize("learn", ["assistant", "last", "all"])
def test_a_prompt_and_a_completion_that_are_texts(learn):
    trainer = trainer_of([{"prompt": "w1 w2 ", "completion": "w3"}], learn=learn)
    assert words(trainer) == (["w1", "w2"] if learn == "all" else []) + ["w3", "<eos>"]


@pytest.mark.parametrize("learn", ["assistant", "all"])
def test_of_plain_text_everything_is_learned(learn):
    assert words(trainer_of([{"text": "w1 w2"}], learn=learn)) == ["w1", "w2", "<eos>"]


@pytest.mark.parametrize("row", [{"text": "w1 w2"}, {"input_ids": [5, 6, EOS]}])
def test_the_last_turn_of_rows_without_turns(row):
    with pytest.raises(ValueError, match=r"learn='last'.*Write .*learn='assistant'.* in its place, which"):
        trainer_of([row], learn="last")


def test_the_last_turn_of_rows_that_a_function_makes_texts():
    with pytest.raises(ValueError, match=r"learn='last'"):
        TargetSFTTrainer(
            tiny_models.tiny_model(),
            TargetSFTConfig(method="sft", **parity.common_args(learn="last")),
            train_dataset=Dataset.from_list([{"body": "w1 w2"}]),
            processing_class=tiny_models.tiny_tokenizer(),
            formatting_func=lambda row: row["body"],
        )


@pytest.mark.parametrize(
    ("learn", "key", "value"),
    [
        ("all", "assistant_only_loss", True),
        ("last", "assistant_only_loss", True),
        ("all", "completion_only_loss", True),
        ("assistant", "completion_only_loss", False),
        ("last", "completion_only_loss", False),
    ],
)
def test_keys_of_trl_that_say_otherwise(learn, key, value):
    with pytest.raises(ValueError, match=rf"learn='{learn}'.*{key}.*contradict"):
        trainer_of([{"messages": TALK}], learn=learn, **{key: value})
    with pytest.raises(ValueError, match=rf"`learn: {learn}`.*`{key}: {json.dumps(value)}`"):
        trainer_of([{"messages": TALK}], CommandLineTrainer, learn=learn, **{key: value})


def test_keys_of_trl_that_say_the_same():
    assert words(trainer_of([{"messages": TALK}], learn="assistant", assistant_only_loss=True)) == [
        "w3",
        "<eos>",
        "w5",
        "w6",
        "<eos>",
    ]
    with pytest.raises(ValueError, match="assistant_only_loss"):
        trainer_of([{"text": "w1"}], learn="assistant", assistant_only_loss=True)


def test_assistant_only_on_a_template_that_trl_refuses():
    bare = tiny_models.CHAT_TEMPLATE.replace("{% generation %}", "").replace("{% endgeneration %}", "")
    trainer = trainer_of([{"messages": TALK}], template=bare, learn="assistant")
    assert words(trainer) == ["w3", "<eos>", "w5", "w6", "<eos>"]


@pytest.mark.parametrize("row", [{"messages": TALK}, {"text": "w1"}, {"input_ids": [5, 6, EOS]}])
@pytest.mark.parametrize("learn", [None, "assistant"])
def test_completion_only_without_a_completion(row, learn):
    with pytest.raises(ValueError, match="completion_only_loss"):
        trainer_of([row], completion_only_loss=True, learn=learn)


def test_an_unknown_word():
    with pytest.raises(ValueError, match="learn is 'answers'; expected one of assistant, last, all"):
        TargetSFTConfig(learn="answers")


SPANS = [[], [[0, 2, 4.0]], [], [[3, 5, 0.5]]]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    "changes",
    [{}, {"max_length": 9}, {"max_length": 6, "truncation_mode": "keep_end"}, {"packing": True, "max_length": 32}],
)
def test_weights_stay_with_their_tokens(changes, stream):
    rows = Dataset.from_list([{"messages": TALK, "weight_spans": SPANS}] * 3)
    if stream and changes.get("packing"):
        pytest.skip("streams are packed as they come")
    trainer = trainer_of(rows.to_iterable_dataset() if stream else rows, learn="assistant", **changes)
    for row in trainer.train_dataset:
        tokens = trainer.text_tokenizer.convert_ids_to_tokens(row["input_ids"])
        assert row["token_weight"] == [{"w3": 4.0, "w6": 0.5}.get(token, 1.0) for token in tokens]
        assert [t for t, label in zip(tokens, row["labels"], strict=True) if label != IGNORED] == [
            t for t in tokens if t in ("w3", "w5", "w6", "<eos>")
        ]
    trainer.train()


def test_evaluation_rows_are_learned_alike():
    rows = Dataset.from_list([{"messages": TALK}])
    trainer = trainer_of(rows, eval_dataset=rows, learn="last")
    assert trainer.eval_dataset["labels"][:] == trainer.train_dataset["labels"][:]


LOSSY = tiny_models.CHAT_TEMPLATE.replace("{% else %}", "{% elif message.role == 'user' %}")


@pytest.mark.parametrize("learn", [None, "assistant", "all"])
@pytest.mark.parametrize("chat", [False, True])
def test_a_message_that_is_lost(learn, chat):
    turns = [QUESTION, {"role": "critic", "content": "w3"}, TALK[1]]
    row = {"prompt": turns[:2], "completion": turns[2:]} if chat else {"messages": turns}
    with pytest.raises(ValueError, match=r"Row 2 of the train data set.*(messages|prompt)\[1\].*critic"):
        trainer_of(
            [{"prompt": [QUESTION], "completion": TALK[1:2]} if chat else {"messages": TALK}, row],
            template=LOSSY,
            learn=learn,
        )
    skipping = trainer_of(
        [row, {k: v for k, v in row.items()} | ({"prompt": [QUESTION]} if chat else {"messages": TALK})],
        template=LOSSY,
        learn=learn,
        bad_rows="skip",
    )
    assert len(skipping.train_dataset) == 1
    assert sum(skipping.row_counts["train"].dropped.values()) == 1


def test_a_cache_s_key_knows_what_is_learned():
    tokenizer = tiny_models.tiny_tokenizer()
    args = [TargetSFTConfig(**parity.common_args(learn=learn)) for learn in (None, "last")]
    parts = [json.loads(rendering(each, tokenizer, None)["truncation"]) for each in args]
    assert "learn" not in parts[0]  # caches that were written before there was a choice keep their key
    assert parts[1]["learn"] == "last"


CHATML = (
    "{% for message in messages %}{% if message.role == 'assistant' %}<assistant>{{ message.content }}<user>"
    "{% else %}<unk>{{ message.content }}<user>{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)
"""Turns end with <user>, which is not the tokenizer's end token."""


@pytest.mark.failure_case(9)
def test_a_model_that_would_never_stop_is_refused_on_the_command_line(tmp_path):
    rows = [{"messages": TALK}]
    with pytest.raises(ValueError, match=r"teaches the model to stop.*`eos_token: <user>` \(or --eos-token '<user>'\)"):
        trainer_of(rows, CommandLineTrainer, CHATML, learn="assistant")
    trainer = trainer_of(
        rows, CommandLineTrainer, CHATML, learn="assistant", eos_token="<user>", output_dir=str(tmp_path)
    )
    trainer.train()
    trainer.save_model()
    end = trainer.text_tokenizer.convert_tokens_to_ids("<user>")
    assert end in GenerationConfig.from_pretrained(tmp_path).eos_token_id


def test_a_python_user_is_warned():
    with pytest.warns(UserWarning, match=r"TargetSFTConfig\(eos_token='<user>'\)"):
        trainer_of([{"messages": TALK}], template=CHATML)


def test_rows_of_token_ids_are_not_refused():
    with pytest.warns(UserWarning, match="teaches the model to stop"):
        trainer_of([{"input_ids": [5, 6, 7]}], CommandLineTrainer)

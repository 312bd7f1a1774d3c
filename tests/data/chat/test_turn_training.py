"""Messages that say of themselves whether they are trained: honoured, or refused in words."""

import pytest
import tiny_models
from datasets import Dataset
from train import parity

from qtarget.data import ChatStyle, RowPolicy, open_rows
from qtarget.outcomes import UnusableRow
from qtarget.train import TargetSFTConfig, TargetSFTTrainer


def rows(*turns, key="messages"):
    return Dataset.from_list([{key: list(turns)}] * 2)


def user(**more):
    return {"role": "user", "content": "w1", **more}


def answer(content, **more):
    return {"role": "assistant", "content": content, **more}


def learned(data, **config):
    trainer = TargetSFTTrainer(
        tiny_models.tiny_model(),
        TargetSFTConfig(method="sft", **parity.common_args(**config)),
        train_dataset=data,
        processing_class=tiny_models.tiny_tokenizer(),
    )
    row = next(iter(trainer.train_dataset))
    return trainer.text_tokenizer.decode([label for label in row["labels"] if label != -100])


SPELLINGS = [
    {"train": False},
    {"training": False},
    {"weight": 0},
    {"weight": 0.0},
    {"loss": False},
    {"loss_weight": 0.0},
]
SPELLINGS += [{"mask": True}, {"masked": True}]


@pytest.mark.parametrize("said", SPELLINGS)
def test_a_turn_that_is_not_trained_is_not_learned(said):
    read = open_rows(rows(user(), answer("w2", **said)), RowPolicy("train"), ChatStyle("{{ messages }}")).rows[0]
    assert read["messages"][1] == {"role": "assistant", "content": "w2", "weight": 0}


@pytest.mark.parametrize("stream", [False, True])
def test_what_is_learned_beside_it(stream):
    data = rows(user(train=False), answer("w2", train=False), user(), answer("w3", train=True))
    data, config = (data.to_iterable_dataset(), {"max_steps": 1}) if stream else (data, {})
    assert learned(data, learn="assistant", **config) == "w3 <eos>"
    if stream:
        return
    share = [{"from": "human", "value": "w1"}, {"from": "gpt", "value": "w2", "weight": 0}]
    share += [{"from": "human", "value": "w4"}, {"from": "gpt", "value": "w5", "weight": 1}]
    assert learned(rows(*share, key="conversations"), learn="assistant") == "w5 <eos>"
    assert learned(rows(*share, key="conversations")) == "<user> w1 <assistant> <user> w4 <assistant> w5 <eos>"


REFUSED = [
    ([user(), answer("w2", weight=0.5)], {}, r"`messages\[1\].weight` is 0.5, and a message is learned .*weight_spans"),
    ([user(), answer("w2", weight=-1)], {}, r"`messages\[1\].weight` is -1"),
    ([user(), answer("w2", train="no")], {}, r"`messages\[1\].train` is 'no'"),
    ([user(), answer("w2", train=True, weight=0)], {}, "contradict each other"),
    ([user(), answer("w2", train_detail=[{"begin_offset": 0}])], {}, r"train_detail` says which characters.*weight_sp"),
    (
        [user(content=[{"type": "text", "text": "w1"}]), answer([{"type": "text", "text": "w2", "weight": 0}])],
        {},
        r"content\[0\]` is not to be trained",
    ),
    ([user(train=True), answer("w2")], {"learn": "assistant"}, r"`messages\[0\]` says that it is learned.*learn='all'"),
    ([user(train=False), answer("w2")], {"learn": "all"}, r"`messages\[0\]` says that it is not.*learn='assistant'"),
    (
        [user(), answer("w2", weight=0)],
        {"assistant_only_loss": True},
        "TRL's own masks do not read .*learn='assistant'",
    ),
    ([user(), answer("w2", weight=0)], {"learn": "assistant"}, "no label"),
]


@pytest.mark.parametrize(("turns", "config", "said"), REFUSED)
def test_what_cannot_be_honoured_is_refused_in_words(turns, config, said):
    with pytest.raises(UnusableRow, match=said):
        learned(rows(*turns), **config)

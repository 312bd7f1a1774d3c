"""A teacher with a prompt of its own: it scores the same completion behind other tokens."""

import random

import pytest
import tiny_models
import torch
from datasets import Dataset
from train import parity

import qtarget as qt
from qtarget.data import TEACHER_BATCH, TEACHER_IDS
from qtarget.outcomes import UnusableRow
from qtarget.target.source_logits import head_logits
from qtarget.train import TargetSFTConfig, TargetSFTTrainer
from qtarget.train.run_sources import batch_evidence

LAYOUTS = [
    {},
    {"padding_free": True, "max_length": None},
    {"packing": True, "max_length": 256},
    {"packing": True, "max_length": 24, "packing_strategy": "bfd_split"},
    {"packing": True, "max_length": 24, "packing_strategy": "wrapped"},
    {"max_length": 9, "truncation_mode": "keep_start"},
    {"max_length": 9, "truncation_mode": "keep_end"},
    {"gradient_accumulation_steps": 2, "per_device_train_batch_size": 4},
]
"""Batches in every layout, and rows cut on either side."""


def rows(teacher_prompt, number=16):
    """Rows of prompts and completions; `teacher_prompt(prompt, completion)` says what the teacher is asked."""
    made = tiny_models.prompt_completion(number)
    return made.map(lambda row: {"teacher_prompt": teacher_prompt(row["prompt"], row["completion"])})


def hinted(prompt, completion):
    """A longer prompt, a shorter one and the same, by turns."""
    words = prompt.split()
    return (f"w1 w2 w3 w4 w5 w6 {prompt}", f"{words[0]} ", prompt)[len(completion) % 3]


def build(data, *, teacher=None, method="target-sft", **changes):
    return TargetSFTTrainer(
        tiny_models.tiny_model(),
        TargetSFTConfig(method=method, **parity.common_args(**{"max_steps": 4, **changes})),
        train_dataset=data,
        processing_class=tiny_models.tiny_tokenizer(),
        teacher=tiny_models.tiny_model(seed=1) if teacher is None else teacher,
    )


def history(*args, **changes):
    trainer = build(*args, **changes)
    trainer.train()
    return parity.history(trainer)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_same_prompt_is_the_ordinary_teacher_exactly(layout):
    same = history(rows(lambda prompt, completion: prompt), **layout)
    assert same == history(tiny_models.prompt_completion(16), **layout)


def scored_by_hand(model, tokenizer, row):
    """The teacher's log-probabilities of a completion behind its own prompt, one document alone."""
    prompt = tokenizer(row["teacher_prompt"])["input_ids"]
    completion = tokenizer(row["completion"])["input_ids"] + [tokenizer.eos_token_id]
    logits = model(torch.tensor([prompt + completion])).logits[0, len(prompt) - 1 : -1]
    return completion, logits.log_softmax(-1)


@pytest.mark.parametrize("layout", LAYOUTS[:3])
def test_the_teacher_scores_the_completion_behind_its_own_prompt(layout):
    """Against a forward pass by hand, over all tokens of a batch."""
    trainer = build(rows(hinted), **layout)
    batch = next(iter(trainer.get_train_dataloader()))
    assert TEACHER_BATCH in batch
    texts = {name: batch[name] for name in ("input_ids", "attention_mask", "position_ids") if name in batch}
    call = trainer.target_calls.of(texts, batch, None)
    logits = head_logits(call.teachers[0].hidden, call.teachers[0].head).log_softmax(-1)
    learned = batch["labels"][:, 1:] != -100
    by_completion = {}
    tokenizer, teacher = tiny_models.tiny_tokenizer(), trainer.teachers[0].model
    for row in rows(hinted):
        completion, expected = scored_by_hand(teacher, tokenizer, row)
        by_completion[tuple(completion)] = expected
    labels, values = batch["labels"][:, 1:][learned].tolist(), logits[:, :-1][learned]
    start = 0
    while start < len(labels):
        stop = labels.index(tokenizer.eos_token_id, start) + 1
        torch.testing.assert_close(values[start:stop], by_completion[tuple(labels[start:stop])], rtol=1e-4, atol=1e-5)
        start = stop


@pytest.mark.parametrize("layout", LAYOUTS[1:3])
def test_packed_and_padding_free_rows_get_the_evidence_of_padded_rows(layout):
    data = rows(hinted, 8)
    changes = {"max_steps": 3, "learning_rate": 0.5}
    padded = history(data, **changes)
    assert max(parity.deviation(history(data, **changes, **layout), padded)) < 1e-5
    assert max(parity.deviation(history(tiny_models.prompt_completion(8), **changes), padded)) > 1e-3


def messages(number=16):
    """Conversations with a text for the teacher, and every third with a whole conversation or nothing."""
    rng, made = random.Random(5), []
    for index in range(number):
        asked, answer = (tiny_models.sentence(rng) for _ in range(2))
        other = [{"role": "user", "content": "w1 w2"}, {"role": "user", "content": asked}]
        given = (other, [{"role": "user", "content": f"w3 {asked}"}], None)[index % 3]
        prompt, said = [{"role": "user", "content": asked}], [{"role": "assistant", "content": answer}]
        made.append({"prompt": prompt, "completion": said, "teacher_prompt": given})
    return Dataset.from_list(made)


def read_by_teacher(row):
    return [token for tokens in row[TEACHER_IDS] for token in tokens]


@pytest.mark.parametrize("learn", ["assistant", None])
@pytest.mark.parametrize("stream", [False, True])
def test_conversations_are_rendered_for_the_teacher_by_the_same_template(learn, stream):
    data = messages()
    trainer = build(data.to_iterable_dataset() if stream else data, learn=learn)
    tokenizer = tiny_models.tiny_tokenizer()
    for row, prepared in zip(data, trainer.train_dataset, strict=True):
        asked = row["teacher_prompt"] or row["prompt"]
        whole = tokenizer.apply_chat_template(asked + row["completion"], tokenize=True, return_dict=True)
        assert read_by_teacher(prepared) == whole["input_ids"]
    trainer.train()


@pytest.mark.parametrize("layout", LAYOUTS[:3])
def test_a_prompt_that_the_teacher_has_no_positions_for_is_refused_before_the_first_step(layout):
    """GPT-2's positions are a table; Qwen's go on."""
    from transformers import GPT2Config, GPT2LMHeadModel

    sizes = {"n_embd": 16, "n_layer": 1, "n_head": 2, "vocab_size": tiny_models.VOCAB}
    data = rows(lambda prompt, completion: "w1 " * 40)
    words = r"The teacher reads up to \d\d tokens of a row of the train data set.* has 32 positions"
    with pytest.raises(UnusableRow, match=words):
        build(data, teacher=GPT2LMHeadModel(GPT2Config(n_positions=32, **sizes)), **layout)
    build(data, teacher=GPT2LMHeadModel(GPT2Config(n_positions=64, **sizes)), **layout)
    with pytest.warns(UserWarning, match=words):
        build(data, teacher=tiny_models.tiny_model(seed=1, max_position_embeddings=32), **layout)


def test_a_text_for_the_teacher_stands_in_the_place_of_the_users_last_message():
    turns = [
        {"role": "user", "content": "w1"},
        {"role": "assistant", "content": "w2"},
        {"role": "user", "content": "w3"},
    ]
    row = {"prompt": turns, "completion": [{"role": "assistant", "content": "w4"}]}
    read = {}
    for column in ("teacher_prompt", "privileged_context"):
        data = Dataset.from_list([{**row, column: "w5 w6"}] * 8)
        read[column] = tiny_models.tiny_tokenizer().decode(read_by_teacher(build(data).train_dataset[0])).split()
    head = ["<user>", "w1", "<assistant>", "w2", "<eos>", "<user>"]
    assert read["teacher_prompt"] == [*head, *["w5", "w6", "<assistant>", "w4", "<eos>"]]
    assert read["privileged_context"] == [*head, *["w3", "w5", "w6", "<assistant>", "w4", "<eos>"]]


@pytest.mark.parametrize("cut", [5, 7, 9, 11])
@pytest.mark.parametrize("mode", ["keep_start", "keep_end"])
def test_what_a_row_loses_the_teacher_loses_too(mode, cut):
    """As many tokens on the same side, one before the completion at least; a longer prompt keeps what is beyond."""
    whole = build(rows(hinted), max_length=None).train_dataset
    made = build(rows(hinted), max_length=cut, truncation_mode=mode).train_dataset
    by_labels = {tuple(row["input_ids"]): row for row in made}
    checked = 0
    for row in whole:
        ids, read = row["input_ids"], read_by_teacher(row)
        kept = ids[:cut] if mode == "keep_start" else ids[-cut:]
        if tuple(kept) not in by_labels:
            assert mode == "keep_start"
            assert all(label == -100 for label in row["labels"][:cut])
            continue
        lost, found = len(ids) - len(kept), read_by_teacher(by_labels[tuple(kept)])
        first = next(at for at, label in enumerate(row["labels"]) if label != -100)
        if mode == "keep_start":
            assert found == read[: len(read) - lost]
        else:
            prompt = len(read) - (len(ids) - first)
            spare = max(first - prompt, 0)
            assert found == read[max(lost - spare, 0) :] if lost < first else found[-len(kept) :] == kept
        checked += lost > 0
    assert checked > 3


def test_a_teacher_that_copies_the_solution_makes_target_sft_sft_at_eta_1():
    """Where the teacher is certain of the label, π̃ is the label's onehot, and so is Q, whatever the trust."""

    class Copies:
        def evidence(self, inputs, labels):
            next_ids = torch.roll(inputs["input_ids"], -1, dims=1)
            width = tiny_models.VOCAB
            return qt.Dense(torch.nn.functional.one_hot(next_ids, width) * 200.0, qt.Head(torch.eye(width)))

    def copied(prompt, completion):
        return f"{completion} {prompt}"

    def losses(method, **changes):
        trainer = build(rows(copied), teacher=changes.pop("teacher", None), method=method, **changes)
        trainer.train()
        return parity.history(trainer)

    ours = losses("target-sft", teacher=Copies(), method_kwargs={"eta": 1.0})
    plain = TargetSFTTrainer(
        tiny_models.tiny_model(),
        TargetSFTConfig(method="sft", **parity.common_args(max_steps=4)),
        train_dataset=tiny_models.prompt_completion(16),
        processing_class=tiny_models.tiny_tokenizer(),
    )
    plain.train()
    assert max(abs(a - b) for a, b in zip(ours["grad_norm"], parity.history(plain)["grad_norm"], strict=True)) < 1e-5


def tokens_with_a_prompt():
    return tiny_models.token_rows(8).map(lambda row: {"teacher_prompt": "w1"})


@pytest.mark.parametrize(
    ("data", "changes", "message"),
    [
        (
            tiny_models.messages(8).map(lambda row: {"teacher_prompt": "w1"}),
            {},
            "the rows have none: they are messages",
        ),
        (tiny_models.plain_text(8).map(lambda row: {"teacher_prompt": "w1"}), {}, "the rows have none: they are text"),
        (tokens_with_a_prompt(), {}, "the rows have none: they are tokens"),
        (
            rows(hinted).map(lambda row: {"privileged_context": "w1"}),
            {},
            "keep one: write .*'privileged_context': None",
        ),
        (rows(lambda *_: "w1 "), {"learn": "all"}, "learns the prompt of each row too"),
        (rows(lambda *_: "w1 "), {"completion_only_loss": False}, "learns the prompt of each row too"),
        (rows(lambda *_: "  "), {}, "Row 1 .* `teacher_prompt` is empty"),
        (rows(lambda *_: "w1 "), {"method": "sft", "teacher": ()}, "reads no teacher. Write .*teacher_prompt"),
    ],
)
def test_what_cannot_be_is_refused_in_words(data, changes, message):
    with pytest.raises((ValueError, UnusableRow), match=message):
        build(data, **changes)


def test_a_column_that_is_not_read_is_no_teachers_prompt():
    columns = {"teacher_prompt": None}
    left = build(rows(hinted), columns={"prompt": "prompt", "completion": "completion", **columns})
    assert TEACHER_IDS not in left.train_dataset.column_names
    assert "teacher_prompt" not in left.train_dataset.column_names


def test_a_completion_that_is_other_tokens_behind_the_teachers_prompt_is_refused_or_left_out():
    """The last word of a prompt without a space behind it, and the first of the completion, are one word."""
    data = rows(lambda prompt, completion: f"{prompt}w1" if len(completion) % 2 else prompt)
    data = data.map(lambda row: {"completion": row["completion"].removeprefix(" ")})
    with pytest.raises(UnusableRow, match=r"makes other tokens of the completion .* Let .* end as the prompt does"):
        build(data)
    kept = build(data, bad_rows="skip")
    odd = sum(len(row["completion"]) % 2 for row in data)
    assert 0 < len(kept.train_dataset) == len(data) - odd
    (reason,) = kept.row_counts["train"].dropped
    assert reason == "completion that is other tokens behind the teacher's prompt"


def test_a_mixture_gives_the_teacher_its_prompt_in_the_sets_that_have_one():
    from qtarget.train import RowMixture, RowSet

    mixture = RowMixture([RowSet(rows(hinted, 8), "a"), RowSet(tiny_models.prompt_completion(8, seed=2), "b")])
    for layout in ({}, {"packing": True, "max_length": 64}):
        trainer = build(mixture, **layout)
        assert TEACHER_IDS in trainer.train_dataset.column_names
        trainer.train()


def test_the_reference_reads_what_the_student_does():
    trainer = build(rows(hinted))
    batch = next(iter(trainer.get_train_dataloader()))
    texts = {name: batch[name] for name in ("input_ids", "attention_mask")}
    source = trainer.teachers[0]
    found = batch_evidence({"teacher 0": source, "reference": source}, texts, batch)
    plain = source.evidence(texts, batch["labels"]).hidden
    assert torch.equal(found["reference"].hidden, plain)
    assert not torch.allclose(found["teacher 0"].hidden, plain)


def renamed(column, changed=lambda row: row["teacher_prompt"]):
    """Rows whose prompt for the teacher stands in a column of its own name, and what `columns` says of them."""
    part, name = ("privileged_context", "privileged_context") if column is None else column
    data = rows(hinted).map(lambda row: {name: changed(row)})
    data = data.remove_columns("teacher_prompt")
    return data, {"prompt": "prompt", "completion": "completion", part: name}


OWN_NAMES = [None, ("privileged_context", "hint"), ("teacher_prompt", "asked")]


def said_of(data, columns, **changes):
    with pytest.raises((ValueError, UnusableRow)) as error:
        build(data, columns=columns, **changes)
    return str(error.value)


@pytest.mark.parametrize("column", OWN_NAMES)
def test_an_error_about_the_teachers_prompt_names_the_column_that_the_rows_have(column):
    data, columns = renamed(column, lambda row: "w1 w2")
    own = column[1] if column else "privileged_context"
    glued = data.map(lambda row: {"completion": row["completion"].removeprefix(" ")})
    messages = glued.map(
        lambda row: {
            "prompt": [{"role": "system", "content": "w1"}],
            "completion": [{"role": "assistant", "content": row["completion"]}],
        }
    )
    for said in (
        said_of(glued, columns),
        said_of(data, columns, learn="all"),
        said_of(data, columns, method="sft", teacher=()),
        said_of(messages, columns),
    ):
        assert f"`{own}`" in said, said
        assert own == "teacher_prompt" or "`teacher_prompt`" not in said, said


@pytest.mark.parametrize("column", OWN_NAMES)
def test_a_prompt_that_is_too_long_for_the_teacher_is_left_unread_by_the_part_that_it_is(column):
    data, columns = renamed(column, lambda row: " ".join(["w1"] * 80) + " ")
    short = tiny_models.tiny_model(seed=1)
    short.config.max_position_embeddings = 40
    with pytest.warns(UserWarning, match="reads up to .* tokens") as caught:
        build(data, columns=columns, teacher=short)
    (said,) = [str(each.message) for each in caught if "reads up to" in str(each.message)]
    part = column[0] if column else "privileged_context"
    assert f"'{part}': None" in said
    assert said.count(": None") == 1

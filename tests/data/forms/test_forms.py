"""Which form rows have, and what they become: recognised from columns, or said by the key `columns`."""

import json
import re

import pytest
from datasets import Dataset, IterableDataset
from tiny_models import tiny_tokenizer

from qtarget.data import Asker, ChatStyle, RowPolicy, chat_style, open_rows

GENERAL = ChatStyle("{{ messages }}")
BASE = ChatStyle(None)
POLICY = RowPolicy("train", asker=Asker.COMMAND_LINE)


def opened(*rows, style=GENERAL, **options):
    return open_rows(Dataset.from_list(list(rows)), options.pop("policy", POLICY), style, **options)


def only(*rows, **options):
    return opened(*rows, **options).rows[0]


def said(role, content):
    return {"role": role, "content": content}


SHARE_GPT = {"conversations": [{"from": "human", "value": "hello"}, {"from": "gpt", "value": "world"}]}


def test_share_gpt_rows_become_messages():
    rows = opened(SHARE_GPT)
    assert rows.rows[0] == {"messages": [said("user", "hello"), said("assistant", "world")]}
    assert rows.form.sentence() == "ShareGPT rows (conversations), read as messages"


@pytest.mark.parametrize(
    ("sender", "role"),
    [("human", "user"), ("user", "user"), ("system", "system"), ("tool", "tool"), ("observation", "tool")]
    + [(name, "assistant") for name in ("gpt", "chatgpt", "bing", "bard", "assistant", "GPT")],
)
def test_share_gpt_senders(sender, role):
    turns = [*SHARE_GPT["conversations"], {"from": sender, "value": "w1"}]
    assert only({"conversations": turns})["messages"][2] == said(role, "w1")


def test_a_function_call_of_share_gpt_is_a_tool_call():
    call = {"from": "function_call", "value": json.dumps({"name": "add", "arguments": {"a": 1}})}
    turns = [
        SHARE_GPT["conversations"][0],
        call,
        {"from": "observation", "value": "2"},
        {"from": "gpt", "value": "two"},
    ]
    made = only({"conversations": turns, "tools": '[{"name": "add"}]'})
    assert made["messages"][1] == {
        "role": "assistant",
        "content": None,
        "tool_calls": [{"type": "function", "function": {"name": "add", "arguments": {"a": 1}}}],
    }
    assert made["messages"][2] == said("tool", "2")
    assert made["tools"] == '[{"name": "add"}]'


def test_an_empty_list_of_tool_calls_is_left_out():
    """A template that asks whether there is a list would write it, in training alone."""
    turns = [said("user", "a"), {**said("assistant", "b"), "tool_calls": []}]
    assert only({"messages": turns}) == {"messages": [said("user", "a"), said("assistant", "b")]}


def test_conversations_may_have_role_and_content():
    assert only({"conversations": [said("user", "a"), said("gpt", "b")]}) == {
        "messages": [said("user", "a"), said("assistant", "b")]
    }


def test_a_system_column_is_the_first_turn():
    assert only({**SHARE_GPT, "system": "be brief"})["messages"][0] == said("system", "be brief")
    assert only({"system_prompt": "be brief", "question": "a", "response": "b"})["prompt"] == [
        said("system", "be brief"),
        said("user", "a"),
    ]


ALPACA = {"instruction": "Add the two.", "input": "3 and 21", "output": "24"}


def test_alpaca_under_a_chat_template_is_a_chat_with_its_input():
    row = only({**ALPACA, "system": "You add.", "history": [["One?", "1"]], "text": "all of it, rendered"})
    assert row == {
        "prompt": [
            said("system", "You add."),
            said("user", "One?"),
            said("assistant", "1"),
            said("user", "Add the two.\n\n3 and 21"),
        ],
        "completion": [said("assistant", "24")],
    }


def test_alpaca_without_a_chat_template_is_its_well_known_text():
    row = only(ALPACA, style=BASE)
    assert row["prompt"] == (
        "Below is an instruction that describes a task, paired with an input that provides further context. Write a "
        "response that appropriately completes the request.\n\n### Instruction:\nAdd the two.\n\n### Input:\n3 and 21"
        "\n\n### Response:\n"
    )
    assert row["completion"] == "24"
    assert "### Input" not in only({**ALPACA, "input": ""}, style=BASE)["prompt"]


@pytest.mark.parametrize(("context", "output"), [("context", "response"), ("Input", "Output"), ("input", "answer")])
def test_the_input_never_vanishes(context, output):
    row = only({"instruction": "Add.", context: "3 and 21", output: "24"})
    assert "3 and 21" in row["prompt"][0]["content"]


@pytest.mark.parametrize(
    "mapping", [{"prompt": "instruction", "completion": "output"}, {"question": "instruction", "answer": "output"}]
)
def test_a_mapping_that_forgets_the_input_is_refused(mapping):
    with pytest.raises(ValueError, match=r"{instruction: instruction, input: input, output: output}"):
        opened(ALPACA, columns=mapping)
    assert only({**ALPACA, "input": ""}, columns=mapping)
    assert "3 and 21" not in str(only(ALPACA, columns={**mapping, "input": None})["prompt"])


@pytest.mark.parametrize(
    "row",
    [
        {"question": "a", "answer": "b"},
        {"query": "a", "response": "b"},
        {"Question": "a", "Response": "b"},
        {"prompt": "a", "response": "b"},
        {"prompt": "a", "answer": "b"},
    ],
)
def test_questions_with_answers(row):
    made = opened(row)
    assert made.rows[0] == {"prompt": [said("user", "a")], "completion": [said("assistant", "b")]}
    assert made.form.sentence().startswith("question-answer rows")
    assert only(row, style=BASE) == {"prompt": "a\n", "completion": "b"}


def test_a_mapping_overrides_the_form_and_says_what_it_leaves():
    made = opened({"question": "a", "answer": "b", "why": "c"}, columns={"prompt": "question", "completion": "answer"})
    assert {name: made.rows[0][name] for name in ("prompt", "completion")} == {"prompt": "a", "completion": "b"}
    assert made.form.sentence().endswith("not read: why")
    dialog = opened({"dialog": [said("user", "a"), said("assistant", "b")]}, columns={"messages": "dialog"})
    assert dialog.rows.column_names == ["messages"]


def test_a_mapping_may_turn_names_around():
    assert only({"prompt": "b", "completion": "a"}, columns={"prompt": "completion", "completion": "prompt"}) == {
        "prompt": "a",
        "completion": "b",
    }


@pytest.mark.parametrize(
    ("row", "columns", "message"),
    [
        ({"a": "x", "b": "y"}, None, "write `columns: {prompt: a, completion: b}`"),
        ({"a": "x"}, None, "write `columns: {text: a}`"),
        ({"dialog": [{"role": "user", "content": "x"}]}, None, "write `columns: {messages: dialog}`"),
        (
            {"question": "a", "answer": "b", "response": "c"},
            None,
            "{question: question, answer: answer}.*answer: response}",
        ),
        ({"messages": [{"role": "user", "content": "x"}], "prompt": "a", "completion": "b"}, None, "in 2 ways"),
        ({"prompt": "a", "completion": "b"}, {"prompt": "promt"}, "write `columns: {prompt: prompt}`"),
        ({"question": "a", "answer": "b"}, {"promt": "question"}, "did you mean `prompt`"),
        ({"question": "a", "answer": "b"}, {"answer": "completion"}, "`columns` reads `answer` from `completion`"),
        (
            {"conversations": [{"from": "human", "value": "x"}, {"from": "gpt", "value": "y"}]},
            {"text": "body"},
            r"has the columns `conversations`; remove `columns`: without it the rows are ShareGPT "
            r"rows \(conversations\)",
        ),
        ({"dialog": [{"from": "human", "value": "x"}]}, {"text": "body"}, "write `columns: {messages: dialog}`"),
        ({"n": 5, "body": "x"}, {"text": "txt"}, "write `columns: {text: body}`"),
        ({"n": 5}, {"text": "txt"}, "and no column holds what `text` may be; name columns of text or of messages"),
        ({"q": "x", "answer": "y"}, {"prompt": "question", "completion": "answer"}, "{prompt: q, completion: answer}"),
        ({"q": "a", "prompt": "b"}, {"q": "prompt"}, "the part stands first: write `columns: {prompt: q}`"),
        ({"q": "a", "answer": "b"}, {"prompt": "q"}, "have a `completion`|with a `completion`"),
        ({"q": "a", "t": "b"}, {"prompt": "q", "text": "t"}, "parts of prompt-completion and of text rows"),
    ],
)
def test_what_cannot_be_told_is_refused_with_the_line_to_write(row, columns, message):
    with pytest.raises(ValueError, match=message):
        opened(row, columns=columns)


def test_a_form_that_says_who_speaks_comes_before_text_and_that_is_said():
    made = opened({"messages": [said("user", "a"), said("assistant", "b")], "text": "all"})
    assert made.form.others == ("text",)
    assert "not read: text" in made.form.sentence()
    assert "text" not in made.rows.column_names  # TRL would add the end of the sequence to it, and not to the answer


def test_prepared_rows_are_tokens_whatever_the_mapping_says():
    row = {"input_ids": [1, 2], "labels": [1, 2], "prompt": "a", "completion": "b"}
    made = opened(row, columns={"prompt": "question", "completion": "answer"})
    assert made.form.name == "tokens"


def test_a_text_column_of_ones_own():
    assert only({"body": "x", "text": "y"}, text_field="body") == {"body": "x"}
    assert only({"words": "x"}, columns={"text": "words"}) == {"text": "x"}


def test_errors_speak_the_language_of_who_asked():
    with pytest.raises(ValueError, match=re.escape("TargetSFTConfig(columns={'text': 'a'})")):
        opened({"a": "x"}, policy=RowPolicy("train"))


def test_names_of_columns_reach_no_terminal_raw():
    with pytest.raises(ValueError, match=r"\\x1b\[31m") as error:
        opened({"a\x1b[31m": "x", "b\n": "y"})
    assert "\x1b" not in str(error.value)
    assert "\n" not in str(error.value)


def test_a_stream_is_read_as_it_comes():
    stream = IterableDataset.from_generator(lambda: iter([SHARE_GPT, SHARE_GPT]))
    rows = open_rows(stream, POLICY, GENERAL).rows
    assert [row["messages"][1] for row in rows] == [said("assistant", "world")] * 2


def test_the_template_is_asked_for_its_ways():
    style = chat_style(tiny_tokenizer())
    assert not style.shows_any_role  # it shows every turn but the assistant's as the user's
    assert style.arguments == "hidden"
    tokenizer = tiny_tokenizer()
    tokenizer.chat_template = (
        "{% for m in messages %}{{ m.role }}: {{ m.content }}{% for c in m.tool_calls or [] %}"
        "{{ c.function.arguments | tojson }}{% endfor %}{% endfor %}"
    )
    assert chat_style(tokenizer).shows_any_role
    assert chat_style(tokenizer).arguments == "object"
    assert chat_style(tokenizer, tokenizer.chat_template.replace(" | tojson", "")).arguments == "text"
    names = tokenizer.chat_template.replace("arguments | tojson", "name")
    assert chat_style(tokenizer, names).arguments == "name"
    tokenizer.chat_template = None
    assert chat_style(tokenizer).template is None


def test_a_conversation_needs_a_template():
    with pytest.raises(ValueError, match=r"no chat template.*chat_template_path"):
        opened(SHARE_GPT, style=BASE)

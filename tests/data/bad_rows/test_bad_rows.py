"""Every row is checked: bad ones are refused with row, field and remedy, or left out and counted."""

import math

import pytest
from datasets import Dataset, Features, IterableDataset, List, Value

from qtarget.data import Asker, ChatStyle, RowPolicy, open_rows
from qtarget.outcomes import UnusableRow

GENERAL = ChatStyle("{{ messages }}")
NAMED = ChatStyle("{% if m.role == 'user' %}…{% elif m.role == 'narrator' %}", shows_any_role=False, arguments="object")
REFUSE, SKIP = RowPolicy("train", "refuse", Asker.COMMAND_LINE), RowPolicy("train", "skip")


def user(content):
    return {"role": "user", "content": content}


def answer(content, **more):
    return {"role": "assistant", "content": content, **more}


GOOD = {"messages": [user("a"), answer("b")]}
PAIR = {"prompt": "a", "completion": "b"}
CALL = {"type": "function", "function": {"name": "f", "arguments": '{"x": 1}'}}


def stream(*rows):
    return IterableDataset.from_generator(lambda: iter(rows))


def first(rows, policy=REFUSE, style=GENERAL, **options):
    return next(iter(open_rows(rows, policy, style, **options).rows))


@pytest.mark.failure_case(9)
@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"prompt": "a", "completion": ""}, "`completion` is empty"),
        ({"prompt": "a", "completion": " \n"}, r"`completion` is empty \(' \\n'\)"),
        ({"prompt": "", "completion": "b"}, "`prompt` is empty"),
        ({"prompt": None, "completion": "b"}, "`prompt` holds null, and text is expected"),
        ({"prompt": 1, "completion": "b"}, r'`prompt` holds a number \(1\).*as in "1"'),
        ({"prompt": "a", "completion": math.nan}, "`completion` holds NaN"),
        ({"prompt": "a", "completion": True}, "`completion` holds true or false"),
        ({"prompt": [user("a")], "completion": "b"}, "`completion` is text, and `prompt` is a conversation"),
        ({"prompt": "a", "completion": [answer("b")]}, "`completion` is a conversation, and `prompt` is text"),
        ({"prompt": [user("a")], "completion": [user("b")]}, "`completion` has no turn of the assistant"),
        ({"prompt": [], "completion": [answer("b")]}, "`prompt` is an empty list"),
        ({"messages": []}, "`messages` is an empty list"),
        ({"messages": None}, "`messages` holds null, and a list of messages"),
        ({"messages": "hello"}, "`messages` holds text, and a list of messages"),
        ({"messages": [user("a")]}, r"no turn of the assistant \(its roles: user\)"),
        ({"messages": [user("a"), answer(None)]}, r"`messages\[1\].content` holds null"),
        ({"messages": [user("a"), answer("")]}, r"`messages\[1\].content` is empty"),
        ({"messages": [user(None), answer("b")]}, r"`messages\[0\].content` holds null"),
        ({"messages": [user("a"), {"content": "b"}]}, r"`messages\[1\].from` is null"),
        ({"messages": [user("a"), "b"]}, r"`messages\[1\]` is text, and a message"),
        ({"messages": [user([{"type": "image"}])]}, r"`messages\[0\].content\[0\]` is a part of type 'image'"),
        ({"messages": [user("a"), answer(3)]}, r"`messages\[1\].content` holds a number"),
        ({"text": ""}, "`text` is empty"),
        ({"text": None}, "`text` holds null"),
        ({"text": 3}, "`text` holds a number"),
        ({"instruction": "a", "output": ""}, "`output` is empty"),
        ({"instruction": "a", "output": "b", "history": ["x"]}, "`history` holds"),
        ({"question": "a", "answer": None}, "`answer` holds null"),
        ({"conversations": [{"from": "bot", "value": "x"}]}, r"`conversations\[0\].from` is 'bot'.*rename it"),
        ({"conversations": [{"from": "function_call", "value": "x("}]}, "is not JSON"),
        ({**GOOD, "tools": "{"}, "`tools` is no JSON"),
        ({"input_ids": []}, "`input_ids` is empty"),
        ({"input_ids": None}, "`input_ids` holds null"),
        ({"input_ids": [1, None]}, "`input_ids` holds None"),
        ({"input_ids": [1.0, 2.0]}, "`input_ids` holds 1.0, and whole numbers"),
        ({"input_ids": [9, 10, 11, 12], "labels": [11, 12]}, "`labels` has 2 values for 4 tokens"),
        ({"input_ids": [9, 10], "labels": [9.0, 10.0]}, "`labels` holds 9.0, and whole numbers"),
        ({"input_ids": [9, 10], "labels": None}, "`labels` holds null"),
        ({"input_ids": [9, 10], "completion_mask": [1]}, "`completion_mask` has 1 values"),
        ({"input_ids": [9, 10], "completion_mask": [0, 2]}, "`completion_mask` holds 2"),
        ({"input_ids": [9, 10], "assistant_masks": [0, 1, 1]}, "`assistant_masks` has 3 values"),
        ({"input_ids": [9, 10], "attention_mask": [1, 0]}, "`attention_mask` holds a 0.*padding off"),
        ({"input_ids": [9, 10], "position_ids": [0]}, "`position_ids` has 1 values"),
        ({"input_ids": [9, 10], "token_weight": [1.0]}, "`token_weight` has 1 values"),
        ({"input_ids": [9, 10], "token_weight": [1.0, -1.0]}, "`token_weight` holds -1.0"),
    ],
)  # fmt: skip
def test_a_bad_row_is_refused_with_its_field(row, message):
    for rows in (stream(row), Dataset.from_list([row]) if _fits_arrow(row) else stream(row)):
        with pytest.raises(UnusableRow, match=f"Row 1 of the train data set .*{message}.*`bad_rows: skip`"):
            first(rows)


def _fits_arrow(row):
    """Whether arrow can hold a row's values, which have one type a column."""
    try:
        return bool(Dataset.from_list([row]))
    except Exception:
        return False


def test_the_first_of_several_is_named_and_all_are_counted():
    rows = Dataset.from_list([PAIR, {**PAIR, "completion": ""}, PAIR, {**PAIR, "prompt": None}])
    with pytest.raises(UnusableRow, match=r"Row 2 .* 2 rows are bad: 1 empty text, 1 null"):
        open_rows(rows, REFUSE, GENERAL)


@pytest.mark.failure_case(12)
@pytest.mark.parametrize("processes", [None, 2])
def test_bad_rows_are_left_out_and_counted(processes):
    rows = Dataset.from_list([PAIR, {**PAIR, "completion": ""}, {**PAIR, "prompt": None}, {**PAIR, "prompt": "z"}])
    made = open_rows(rows, RowPolicy("train", "skip", num_proc=processes), GENERAL)
    assert made.rows["prompt"][:] == ["a", "z"]
    assert (made.given, dict(made.dropped)) == (4, {"empty text": 1, "null": 1})
    assert list(made.good) == [0, 3]


def test_a_stream_counts_as_it_goes():
    made = open_rows(stream(PAIR, {**PAIR, "completion": ""}, {"prompt": "z"}, {**PAIR, "prompt": "z"}), SKIP, GENERAL)
    assert [row["prompt"] for row in made.rows] == ["a", "z"]
    assert dict(made.dropped) == {"empty text": 1, "null": 1}


def test_a_stream_is_refused_when_it_comes_to_the_row():
    rows = iter(open_rows(stream(PAIR, {**PAIR, "completion": ""}), REFUSE, GENERAL).rows)
    assert next(rows) == PAIR
    with pytest.raises(UnusableRow, match=r"Row 2 .*`completion` is empty"):
        next(rows)


def test_no_rows_and_no_row_left():
    with pytest.raises(UnusableRow, match="train data set has no rows"):
        open_rows(Dataset.from_dict({"prompt": [], "completion": []}), REFUSE, GENERAL)
    with pytest.raises(UnusableRow, match="no rows"):
        open_rows(stream(), REFUSE, GENERAL)
    with pytest.raises(UnusableRow, match="no row left: 1 empty text"):
        open_rows(Dataset.from_list([{**PAIR, "prompt": ""}]), SKIP, GENERAL)


def test_text_parts_are_joined():
    parts = [{"type": "text", "text": "wor"}, {"type": "text", "text": "ld"}]
    assert first(Dataset.from_list([{"messages": [user(parts), answer(parts)]}]))["messages"] == [
        user("world"),
        answer("world"),
    ]


def test_a_role_that_the_template_does_not_show_is_refused():
    rows = Dataset.from_list([{"messages": [user("a"), {"role": "bot", "content": "b"}]}])
    with pytest.raises(UnusableRow, match=r"`messages\[1\].role` is 'bot'.*rename it"):
        first(rows, style=NAMED)
    assert first(rows)["messages"][1]["role"] == "bot"  # a template that writes any role shows this one
    told = [user("a"), {"role": "narrator", "content": "x"}, answer("b")]
    assert first(Dataset.from_list([{"messages": told}]), style=NAMED)["messages"][1]["role"] == "narrator"


def test_null_is_content_beside_a_tool_call_alone():
    turns = [user("a"), answer(None, tool_calls=[CALL]), {"role": "tool", "content": "", "name": "f"}, answer("c")]
    read = first(Dataset.from_list([{"messages": turns}]))["messages"]
    assert read[1]["content"] is None
    assert read[0] == user("a")  # without the keys that arrow gave it from the other turns
    assert read[2] == {"role": "tool", "content": "", "name": "f"}


def test_arguments_of_a_tool_call_are_written_once():
    rows = Dataset.from_list([{"messages": [user("a"), answer(None, tool_calls=[CALL])]}])

    def arguments(style):
        return first(rows, style=style)["messages"][1]["tool_calls"][0]["function"]["arguments"]

    assert arguments(NAMED) == {"x": 1}  # as text, `tojson` would quote it
    assert arguments(ChatStyle("", arguments="either")) == '{"x": 1}'
    with pytest.raises(UnusableRow, match="does not show tool calls"):
        arguments(ChatStyle("", arguments="hidden"))
    with pytest.raises(UnusableRow, match="holds a tool call with arguments, and the chat template shows the name al"):
        arguments(ChatStyle("", arguments="name"))
    broken = {"type": "function", "function": {"name": "f", "arguments": "{x"}}
    with pytest.raises(UnusableRow, match="arguments` are no JSON"):
        first(Dataset.from_list([{"messages": [user("a"), answer(None, tool_calls=[broken])]}]), style=NAMED)


def test_nulls_that_arrow_adds_are_taken_away():
    calls = [[{"function": {"name": n, "arguments": {n: 1}}}] for n in ("f", "g")]
    tools = [{"name": "f", "parameters": {"x": {"type": "int"}}}, {"name": "g", "parameters": {"y": {"enum": ["a"]}}}]
    rows = Dataset.from_list([{"messages": [user("a"), answer(None, tool_calls=c)], "tools": tools} for c in calls])
    made = open_rows(rows, REFUSE, GENERAL).rows
    assert [row["messages"][1]["tool_calls"] for row in made] == calls
    assert made[0]["tools"] == (
        '[{"name": "f", "parameters": {"x": {"type": "int"}}}, {"name": "g", "parameters": {"y": {"enum": ["a"]}}}]'
    )


def test_template_arguments_may_be_missing():
    rows = Dataset.from_list(
        [{**GOOD, "chat_template_kwargs": {"think": False}}, {**GOOD, "chat_template_kwargs": None}]
    )
    made = open_rows(rows, REFUSE, GENERAL).rows
    assert [row["chat_template_kwargs"] for row in made] == [{"think": False}, {}]


def test_columns_of_numbers_are_refused_whatever_their_rows():
    rows = Dataset.from_dict({"prompt": ["a", "b"], "completion": [4, 5]})
    with pytest.raises(UnusableRow, match="2 rows are bad: 2 a number for text"):
        open_rows(rows, REFUSE, GENERAL)


def test_good_tokens_pass_and_one_bad_row_among_them_is_found():
    features = Features({"input_ids": List(Value("int32")), "labels": List(Value("int64"))})
    good = [{"input_ids": [1, 2, 3], "labels": [-100, 2, 3]}] * 5
    assert open_rows(Dataset.from_list(good, features=features), REFUSE, GENERAL).rows[4] == good[0]
    rows = Dataset.from_list([*good, {"input_ids": [1], "labels": [1, 2]}], features=features)
    with pytest.raises(UnusableRow, match="Row 6 "):
        open_rows(rows, REFUSE, GENERAL)
    assert len(open_rows(rows.select(range(6)), SKIP, GENERAL).rows) == 5


def test_what_a_row_holds_reaches_no_terminal_raw():
    row = {"conversations": [{"from": "\x1b[31m\nbot", "value": "x"}]}
    with pytest.raises(UnusableRow, match=r"\\x1b\[31m") as error:
        first(stream(row))
    assert "\x1b" not in str(error.value)
    assert "\n" not in str(error.value)

"""An error writes the line that mends it in the language of whoever set up the trainer."""

import pytest

from qtarget.data.asker import Asker
from qtarget.data.user_files.yaml_file import parse_scalar


@pytest.mark.parametrize("value", ["skip", 3, 0.5, True, None])
def test_a_line_of_yaml_and_its_flag_read_back_as_the_value(value):
    line = Asker.COMMAND_LINE.line("some_key", value)
    yaml, flag = line.removesuffix(")").split(" (or --some-key ")
    assert parse_scalar(yaml.strip("`").removeprefix("some_key: ")) == parse_scalar(flag) == value


def test_nested_values_are_one_line_of_yaml():
    line = Asker.COMMAND_LINE.line("columns", {"prompt": "question", "drop": ["a", "b"]})
    assert line == "`columns: {prompt: question, drop: [a, b]}`"


def test_python_is_an_argument_of_the_configuration():
    assert Asker.PYTHON.line("columns", {"prompt": "q"}) == "`TargetSFTConfig(columns={'prompt': 'q'})`"

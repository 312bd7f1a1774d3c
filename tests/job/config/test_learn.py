"""What a configuration says of what is learned, and what holds where it says nothing."""

import pytest

from qtarget.job.config.flags import parse_arguments
from qtarget.job.config.learn import learn_keys
from qtarget.job.config.read_job import read_job


@pytest.mark.parametrize(
    ("words", "learn"),
    [
        ((), "assistant"),
        (("--learn", "last"), "last"),
        (("--learn", "null"), None),
        (("--assistant-only-loss", "false"), None),
        (("--completion-only-loss", "true"), None),
    ],
)
def test_the_command_line_learns_the_assistant_unless_a_key_says_otherwise(here, words, learn):
    assert read_job(parse_arguments(["config.yaml", *words])).args.learn == learn


def test_keys_of_trl_that_contradict_learn():
    with pytest.raises(ValueError, match=r"`learn: assistant`.*`assistant_only_loss: false`.*contradict.*`learn: all`"):
        learn_keys({"learn": "assistant", "assistant_only_loss": False})
    assert learn_keys({"learn": "assistant", "assistant_only_loss": True}) == {}


def test_an_unknown_word_names_the_known_ones(here):
    with pytest.raises(ValueError, match="learn is 'answers'; expected one of assistant, last, all"):
        read_job(parse_arguments(["config.yaml", "--learn", "answers"]))

"""Settings of graders as files and flags give them: text is read as the type that the grader takes."""

import pytest

from qtarget.evaluate.grading import NumberGrader
from qtarget.evaluate.grading.grader_settings import make_grader

SWITCHES = [
    ("exact", "ignore_case"), ("exact", "ignore_punctuation"), ("exact", "last_line"), ("contains", "ignore_case"),
    ("regex", "ignore_case"),
]  # fmt: skip
NUMBERS = [("number", "tolerance", "0.01"), ("number", "relative", "1"), ("regex", "seconds", "5")]


def fingerprint(name: str, **settings: object) -> str:
    grader = make_grader(name, settings)
    getattr(grader, "close", bool)()
    return grader.fingerprint()


@pytest.mark.parametrize(("name", "key"), SWITCHES)
def test_a_switch_given_as_text_is_what_it_says(name: str, key: str):
    for text in ("no", "false", "0", "off", "False", "NO"):
        assert fingerprint(name, **{key: text}) == fingerprint(name, **{key: False}), text
    for text in ("yes", "true", "1", "on"):
        assert fingerprint(name, **{key: text}) == fingerprint(name, **{key: True}), text


@pytest.mark.parametrize(("name", "key", "text"), NUMBERS)
def test_a_number_given_as_text_is_that_number(name: str, key: str, text: str):
    assert fingerprint(name, **{key: text}) == fingerprint(name, **{key: float(text)})


@pytest.mark.parametrize(
    ("name", "key", "value", "why"),
    [
        ("number", "tolerance", True, "it is no number; write a number, as `tolerance: 1`"),
        ("number", "relative", "a bit", "write a number, as `relative: 1`"),
        ("math", "at_once", True, "it is no number; write a number, as `at_once: 1`"),
        ("exact", "ignore_case", "perhaps", "write `ignore_case: true` or `ignore_case: false`"),
        ("number", "tolerance", "-1", "write 0 or more, as tolerance=0.01"),
        ("number", "tolerance", "nan", "write 0 or more, as tolerance=0.01"),
    ],
)
def test_what_is_not_of_the_type_is_said_with_what_to_write(name: str, key: str, value: object, why: str):
    with pytest.raises(ValueError, match=why):
        make_grader(name, {key: value})


def test_a_tolerance_that_is_no_number_is_refused_in_python_too():
    for value in (True, "0.01"):
        with pytest.raises(ValueError, match=r"write 0 or more, as tolerance=0\.01"):
            NumberGrader(tolerance=value)  # pyright: ignore[reportArgumentType]

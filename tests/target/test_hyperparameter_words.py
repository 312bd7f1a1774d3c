"""How a hyperparameter is told to people: a schedule in words, never as Python has it."""

import pytest

from qtarget.target.hyperparameter_words import setting_words


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        (0.3, "0.3"),
        (1.0, "1"),
        (5e-4, "0.0005"),
        (None, "null"),
        (True, "true"),
        ("log_k", "log_k"),
        ("agreement", "agreement"),
        ({"from": 0.2, "to": 0.8}, "0.2 → 0.8 along progress"),
        ({"from": 1, "to": "p_y", "until": 0.5}, "1 → p_y along progress until 0.5"),
        (
            {"from": 0.1, "to": 0.9, "along": "position", "shape": "cosine", "until": 0.6},
            "0.1 → 0.9 along position until 0.6 (cosine)",
        ),
        ([0.2, {"from": 0, "to": 0.5}], "[0.2, 0 → 0.5 along progress]"),
    ],
)
def test_a_setting_is_told_in_words(setting, words):
    assert setting_words(setting) == words

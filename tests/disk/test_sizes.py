"""Sizes in words: one rule for what is written, what is free and what is missing."""

import pytest

from qtarget.disk.sizes import in_bytes


@pytest.mark.parametrize(
    ("size", "said"),
    [(0, "0 bytes"), (999, "999 bytes"), (1000, "1 kB"), (97_400, "97.4 kB"), (99_999, "100 kB"), (100_000, "0.1 MB"),
     (28_749_000, "28.7 MB"), (999_949_999, "999.9 MB"), (1_000_000_000, "1.0 GB"), (1_234_500_000_000, "1,234.5 GB")],
)  # fmt: skip
def test_a_size_in_words(size, said):
    assert in_bytes(size) == said

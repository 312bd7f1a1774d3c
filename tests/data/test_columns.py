"""The columns of a data set."""

from datasets import IterableDataset

from qtarget.data import column_names


def test_a_stream_is_asked_for_its_columns():
    stream = IterableDataset.from_generator(lambda: iter([{"text": "x"}]))
    assert column_names(stream) == ["text"]

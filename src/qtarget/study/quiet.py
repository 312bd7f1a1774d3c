"""Quiet libraries, for runs that show their progress themselves."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import datasets
import torch
import transformers


@contextmanager
def quiet() -> Iterator[None]:
    """Quiet libraries and one thread: models of the lab gain nothing from more."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with quiet_libraries():
            yield
    finally:
        torch.set_num_threads(threads)


@contextmanager
def quiet_libraries() -> Iterator[None]:
    """No progress bars and notes of other libraries."""
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    datasets.disable_progress_bars()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            yield
    finally:
        transformers.logging.set_verbosity_warning()
        transformers.logging.enable_progress_bar()
        datasets.enable_progress_bars()

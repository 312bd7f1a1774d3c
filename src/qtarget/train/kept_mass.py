"""How much of their teacher a run's caches and servers hold at its rows, measured before the first step."""

import warnings
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from typing import Any

from datasets import Dataset

from qtarget.data import Asker
from qtarget.teacher import Document, EvidenceSource, KeptSource
from qtarget.teacher.cache import Cache
from qtarget.teacher.cache.captured import CapturedMass
from qtarget.teacher.served_store import ServedStore
from qtarget.train.lookup import documents_read

MEASURED_ROWS = 32
"""Rows that are looked at: some thousands of tokens, in less time than a step takes."""


def warn_of_thin_sources(sources: Mapping[str, EvidenceSource], rows: Any, asker: Asker) -> None:
    """Warn a Python user of each cache or server that holds too little of its teacher; commands print it themselves."""
    if asker is Asker.PYTHON and isinstance(rows, Dataset):  # a stream is not read ahead of time
        for sentence in thin_sources(sources, rows, asker):
            warnings.warn(sentence, stacklevel=4)


def thin_sources(sources: Mapping[str, EvidenceSource], rows: Any, asker: Asker) -> Iterator[str]:
    """A sentence for each cache or server of which a method reads the whole distribution and too little is there.

    Args:
        sources: by name.  rows: prepared ones of training.
    """
    kept = {name: source for name, source in sources.items() if isinstance(source, KeptSource)}
    for reader, source in kept.items():
        if not source.label_only:
            yield from thin_store(source.store, documents_read(reader, rows), asker)


def thin_store(store: Any, documents: Iterable[Document], asker: Asker = Asker.COMMAND_LINE) -> Iterator[str]:
    """A sentence where a cache or a server keeps too little of its teacher at the first documents."""
    if store.keep.how != "top" or not isinstance(store, Cache | ServedStore):
        return
    is_cache = isinstance(store, Cache)
    vocabulary = store.manifest.parts["vocabulary"] if is_cache else store.vocab
    by_mass = store.by_mass if is_cache else None
    captured = CapturedMass.of(store.answer(list(islice(documents, MEASURED_ROWS))), vocabulary, by_mass)
    if captured is None or captured.is_enough:
        return
    if isinstance(store, Cache):  # which a command writes, whoever reads it
        yield str(captured.warning(str(store.folder)))
    else:
        line = asker.line("teacher_top_k", captured.tokens_needed)
        yield str(captured.warning(f"What {store.url} is asked for", line))

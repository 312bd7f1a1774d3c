"""A folder that appears under its name whole, or not at all."""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path


@contextmanager
def drafted_folder(folder: Path, replaces: bool = False) -> Iterator[Path]:
    """An empty draft beside a folder, which takes its name when the block ends, and is removed when the block fails.

    Args:
        replaces: take the place of a folder that is there. If another process puts one there first, that one stays.

    Raises:
        OSError: a folder of the name is there, and `replaces` is false; or nothing can be written there.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    around = Path(tempfile.mkdtemp(prefix=".draft-", dir=folder.parent))
    draft = around / "new"
    try:
        draft.mkdir()
        yield draft
        with suppress(OSError) if replaces else nullcontext():
            if replaces and folder.is_dir():
                folder.rename(around / "old")
            draft.rename(folder)
    finally:
        shutil.rmtree(around, ignore_errors=True)

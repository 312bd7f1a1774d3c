"""What of the package's metadata depends on where the project is published: its links, and the README on PyPI."""

import sys
from pathlib import Path
from typing import Any

from hatchling.metadata.plugin.interface import MetadataHookInterface

sys.path.insert(0, str(Path(__file__).parent / "docs" / "site"))

from project_facts import project_facts


class PublishedMetadata(MetadataHookInterface):
    """Hatchling's hook: fills in `readme` and `urls`."""

    def update(self, metadata: dict[str, Any]) -> None:
        """Called by hatchling with the metadata that pyproject.toml gives."""
        facts, readme = project_facts(Path(self.root)), Path(self.root) / "README.md"
        text = facts.anywhere(readme.read_text(encoding="utf-8"))
        metadata["readme"] = {"content-type": "text/markdown", "text": text}
        metadata["urls"] = facts.urls()

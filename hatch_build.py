"""What of the package's metadata depends on where the project is published: its links, and the README as PyPI shows it.

`[tool.qtarget.published]` in pyproject.toml is the one place that says so. A relative link or picture means nothing on
PyPI: it becomes an address in the repository, or plain words while none is known.
"""

import re
from pathlib import Path
from typing import Any

from hatchling.metadata.plugin.interface import MetadataHookInterface

LINK = re.compile(r"(?P<picture>!?)\[(?P<words>[^\[\]]*)\]\((?!\w+:|#)(?P<path>[^)\s]+)\)")
FENCE = re.compile(r"(^```.*?^```)", re.MULTILINE | re.DOTALL)


class PublishedMetadata(MetadataHookInterface):
    """Hatchling's hook: fills in `readme` and `urls`."""

    def update(self, metadata: dict[str, Any]) -> None:
        """Called by hatchling with the metadata that pyproject.toml gives."""
        published = self.config
        readme = (Path(self.root) / "README.md").read_text(encoding="utf-8")
        text = with_addresses(readme, published["repository"])
        metadata["readme"] = {"content-type": "text/markdown", "text": text}
        metadata["urls"] = project_urls(published["repository"], published["documentation"])


def project_urls(repository: str, documentation: str) -> dict[str, str]:
    """The links beside the package on PyPI; those of which the address is known."""
    base = repository.rstrip("/")
    urls = {"Documentation": documentation} if documentation else {}
    if base:
        urls |= {
            "Source": base,
            "Issues": f"{base}/issues",
            "Changelog": f"{base}/blob/main/CHANGELOG.md",
        }
    return urls


def with_addresses(page: str, repository: str) -> str:
    """A page of the repository's top whose links and pictures work anywhere; code is left as it is."""

    def link(match: re.Match[str]) -> str:
        base, words, path = repository.rstrip("/"), match["words"], match["path"]
        if not base:
            return "" if match["picture"] else words
        kind = "raw" if match["picture"] else "blob"
        return f"{match['picture']}[{words}]({base}/{kind}/main/{path})"

    parts = FENCE.split(page)
    return "".join(part if part.startswith("```") else LINK.sub(link, part) for part in parts)

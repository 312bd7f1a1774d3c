"""Where the project is published, as pyproject.toml says it: the one place to fill in before it is published.

hatch_build.py writes the package's metadata with it, `make site` the website.
"""

import re
import tomllib
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
LINK = re.compile(r"(?P<picture>!?)\[(?P<words>[^\[\]]*)\]\((?!\w+:|#)(?P<path>[^)\s]+)\)")
FENCE = re.compile(r"(^```.*?^```)", re.MULTILINE | re.DOTALL)


class ProjectFacts(NamedTuple):
    """Addresses; "" for those that pyproject.toml leaves open. False where the repository is not known."""

    repository: str
    documentation: str

    def __bool__(self) -> bool:
        return bool(self.repository)

    def urls(self) -> dict[str, str]:
        """The links beside the package on PyPI: those of which the address is known."""
        base = self.repository.rstrip("/")
        urls = {"Documentation": self.documentation} if self.documentation else {}
        pages = {"Source": base, "Issues": f"{base}/issues", "Changelog": f"{base}/blob/main/CHANGELOG.md"}
        return urls | (pages if base else {})

    def anywhere(self, page: str) -> str:
        """A page of the repository's top whose links and pictures work anywhere.

        A relative link or picture means nothing on PyPI: it becomes an address in the repository, or plain words while
        none is known. Code is left as it is.
        """
        parts = FENCE.split(page)
        return "".join(part if part.startswith("```") else LINK.sub(self._link, part) for part in parts)

    def _link(self, match: re.Match[str]) -> str:
        if not self:
            return "" if match["picture"] else match["words"]
        kind = "raw" if match["picture"] else "blob"
        address = f"{self.repository.rstrip('/')}/{kind}/main/{match['path']}"
        return f"{match['picture']}[{match['words']}]({address})"


def project_facts(root: Path = ROOT) -> ProjectFacts:
    """`[tool.hatch.metadata.hooks.custom]` of pyproject.toml."""
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))
    published = project["tool"]["hatch"]["metadata"]["hooks"]["custom"]
    return ProjectFacts(published["repository"].rstrip("/"), published["documentation"])

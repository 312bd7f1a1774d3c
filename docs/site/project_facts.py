"""Where the project is published, as pyproject.toml says it: the one place to fill in before it is published."""

import tomllib
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]


class ProjectFacts(NamedTuple):
    """Addresses; "" for those that pyproject.toml leaves open. False where the repository is not known."""

    repository: str
    documentation: str

    def __bool__(self) -> bool:
        return bool(self.repository)


def project_facts() -> ProjectFacts:
    """`[tool.hatch.metadata.hooks.custom]` of pyproject.toml, which hatch_build.py reads too."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    published = project["tool"]["hatch"]["metadata"]["hooks"]["custom"]
    return ProjectFacts(published["repository"].rstrip("/"), published["documentation"])

"""What PyPI shows: links and pictures of the README lead somewhere, or are none."""

import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "docs" / "site"))

from project_facts import LINK, ProjectFacts, project_facts  # noqa: E402

KNOWN = ProjectFacts("https://e.org/q", "https://e.org/pages/")
UNKNOWN = ProjectFacts("", "")


def test_the_readme_leads_to_the_repository():
    page = "![a picture](docs/a.png) and [words](docs/b.md#c), [there](https://e.org), [here](#top)\n```\n[x](y)\n```\n"
    assert KNOWN.anywhere(page) == (
        "![a picture](https://e.org/q/raw/main/docs/a.png) and [words](https://e.org/q/blob/main/docs/b.md#c), "
        "[there](https://e.org), [here](#top)\n```\n[x](y)\n```\n"
    )


def test_without_a_repository_the_readme_has_no_dead_links():
    assert UNKNOWN.anywhere("![a picture](docs/a.png) and [words](docs/b.md#c)") == " and words"


@pytest.mark.parametrize("facts", [KNOWN, UNKNOWN])
def test_nothing_of_our_readme_is_relative(facts: ProjectFacts):
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert len(LINK.findall(readme)) > 15
    assert LINK.findall(facts.anywhere(readme)) == []


def test_links_beside_the_package():
    assert set(KNOWN.urls()) == {"Documentation", "Source", "Issues", "Changelog"}
    assert UNKNOWN.urls() == {}


def test_addresses_are_whole():
    assert all(not address or address.startswith("https://") for address in project_facts())

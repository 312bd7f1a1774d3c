"""What users call is written down: a change of a public signature is a change of docs/public-api.txt."""

import difflib

from house.public import PAGE, page

import qtarget


def test_the_public_page_says_how_everything_is_called():
    written, now = PAGE.read_text(encoding="utf-8"), page()
    changed = "\n".join(difflib.unified_diff(written.splitlines(), now.splitlines(), "written", "now", lineterm=""))
    assert not changed, f"public signatures changed; if that is meant, run `make public-api`:\n{changed}"


def test_what_is_public_is_what_the_package_shows():
    shown = {name for name in dir(qtarget) if not name.startswith("_")}
    assert shown == {*qtarget._HOME, *qtarget._MODULES}


def test_the_page_says_what_a_reader_looks_for():
    """Names, defaults and domains: the page is not compared with itself alone."""
    written = PAGE.read_text(encoding="utf-8")
    for line in (
        "    method(name: str, **hyperparameters: Any) -> Method",
        "            eta in [0, 1] or a schedule = 0.5,",
        "        teacher: Evidence | tuple[Evidence, ...] | None = None,",
        "    label_probability(power: float = 1.0) -> Rule",
        "        method: str = 'target-sft'",
    ):
        assert f"\n{line}\n" in written

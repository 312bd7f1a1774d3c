"""The differences that a study's page gives in its prose, and whether its tables hold them."""

import re

TABLE = re.compile(r"<!-- table: .*?<!-- end -->", re.DOTALL)
DIFFERENCE = re.compile(r"[+-][\d.]+ \([+-][\d.]+ … [+-][\d.]+\)")


def prose_and_tables(page: str) -> tuple[str, str]:
    """A page's text without its marked tables, and these."""
    return TABLE.sub("", page), "".join(TABLE.findall(page))


def check_differences_stand_in_tables(page: str, least: int) -> None:
    """Every difference with an interval in the prose stands in a table; there are at least so many."""
    prose, tables = prose_and_tables(page)
    said = DIFFERENCE.findall(prose)
    assert len(said) >= least
    assert [each for each in said if each not in tables] == []

"""What libraries print while standard error is diverted: the log holds it line by line."""

import os
import sys

import pytest

from qtarget.cli.library_noise import LOG, diverted_noise


def test_what_a_library_prints_in_parts_is_a_line_of_the_log(tmp_path):
    """`print` writes each word and the end of the line by themselves."""
    with diverted_noise() as noise:
        noise.keep(tmp_path)
        print("one", "line", file=sys.stderr)
        print("another", file=sys.stderr)
        print("\rbar: 5%|", end="", file=sys.stderr)
        print("\n\n", file=sys.stderr)
        print("half", end="", file=sys.stderr)
        print(" a line\nand what no line ends", end="", file=sys.stderr)
    text = (tmp_path / LOG).read_text(encoding="utf-8")
    assert text == "one line\nanother\nhalf a line\nand what no line ends"


@pytest.mark.skipif(os.name != "posix", reason="forks")
def test_two_ranks_print_whole_lines_into_one_log(tmp_path):
    children = []
    for rank in range(2):
        children.append(os.fork())
        if children[-1] == 0:
            with diverted_noise() as noise:
                noise.keep(tmp_path)
                for number in range(2000):
                    print("rank", rank, "line", number, file=sys.stderr)
            os._exit(0)
    assert [os.waitpid(child, 0)[1] for child in children] == [0, 0]
    lines = (tmp_path / LOG).read_text(encoding="utf-8").splitlines()
    assert sorted(lines) == sorted(f"rank {rank} line {number}" for rank in range(2) for number in range(2000))

"""Writes the cases of docs/reliability.md: what happens, what qtarget does, and the tests marked with the case.

Run by `make docs`: python tests/docs/reliability_page.py
"""

import ast
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

TESTS = Path(__file__).parents[1]
if str(TESTS) not in sys.path:
    sys.path.insert(0, str(TESTS))

from docs.failure_cases import FAILURE_CASES, OTHERS, FailureCase  # noqa: E402

from qtarget.disk.pages import rewrite_page  # noqa: E402

PAGE = TESTS.parent / "docs" / "reliability.md"
MARK = "failure_case"


def reliability_parts() -> dict[str, str]:
    """The parts of the page, by name."""
    tests = marked_tests()
    proved = sum(bool(tests[number]) for number in FAILURE_CASES)
    cases = "\n\n".join(_case(number, case, tests[number]) for number, case in FAILURE_CASES.items())
    return {
        "proved": f"{proved} of {len(FAILURE_CASES)}",
        "tests": str(len(set().union(*tests.values()))),
        "cases": cases,
    }


def marked_tests() -> dict[int, list[str]]:
    """The tests of each case, as `tests/room/test_file.py::test_name`, in their order."""
    found: dict[int, list[str]] = defaultdict(list)
    for path in sorted(TESTS.rglob("test_*.py")):
        for name, numbers in _marks(ast.parse(path.read_text(encoding="utf-8"))):
            for number in numbers:
                found[number].append(f"{path.relative_to(TESTS.parent).as_posix()}::{name}")
    return found


def _marks(module: ast.Module) -> Iterator[tuple[str, list[int]]]:
    """The tests of a module and their cases: those of a test's own marks, and of the module's `pytestmark`."""
    for_all = [statement.value for statement in module.body if _is_pytestmark(statement)]  # type: ignore[attr-defined]
    of_all = [number for value in for_all for number in _numbers(value)]
    for statement in module.body:
        if isinstance(statement, ast.FunctionDef) and statement.name.startswith("test_"):
            own = [number for mark in statement.decorator_list for number in _numbers(mark)]
            yield statement.name, [*of_all, *own]


def _is_pytestmark(statement: ast.stmt) -> bool:
    return isinstance(statement, ast.Assign) and ast.unparse(statement.targets[0]) == "pytestmark"


def _numbers(marks: ast.expr) -> list[int]:
    """The numbers in `pytest.mark.failure_case(1, 2)`, alone or in a list of marks."""
    calls = [node for node in ast.walk(marks) if isinstance(node, ast.Call)]
    ours = [call for call in calls if ast.unparse(call.func) == f"pytest.mark.{MARK}"]
    return [ast.literal_eval(number) for call in ours for number in call.args]


def _case(number: int, case: FailureCase, tests: list[str]) -> str:
    links = ", ".join(f"[`{test}`](../{test.partition('::')[0]})" for test in tests)
    lines = [f"### {number}. {case.happens}", "", case.answer, "", f"- tests: {links or 'none'}"]
    lines += [f"- {name}: {case.others[name]}" for name in OTHERS if name in case.others]
    unknown = [name for name in OTHERS if name not in case.others]
    return "\n".join([*lines, *([f"- not measured: {', '.join(unknown)}"] if unknown else [])])


if __name__ == "__main__":
    rewrite_page(PAGE, reliability_parts())

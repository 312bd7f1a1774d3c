"""Names in texts: what an error, a docstring or a test's string names is there.

A test that asserts that 'qtarget.kernels' was not imported passes for ever once that module is called otherwise, and an
error that tells a user to write `qtarget.residual.rest(...)` is worth nothing where that raises AttributeError.
"""

import ast
import re
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import pytest
import typer.main
from house.package import ROOT, SRC, definition, definitions, modules

NAME = re.compile(r"(?<![\w./-])(?:qt|qtarget)(?:\.[A-Za-z_]\w*)+")
TRL_NAME = re.compile(r"\btrl\.([A-Za-z_]\w*)")
FILE = re.compile(r"(?<![\w./-])(?:[\w-]+/)*[\w-]+\.py\b")
CLASS = re.compile(r"`([a-z_]+)\.([A-Z][a-z]\w*)")
LISTED = re.compile(r"[a-z_]+(, [a-z_]+)*\s{2,}\S")
FLAG = re.compile(r"(?<![\w-])--[a-z][\w-]*")

NO_NAMES = {
    "qtarget.job": "the suffix of a file's name",
}
"""What looks like a name in some string and is none, and what it is."""

OTHERS_FLAGS = {
    "--config_file": "accelerate launch",
    "--cpu": "accelerate launch",
    "--dynamo_backend": "accelerate launch",
    "--mixed_precision": "accelerate launch",
    "--num_machines": "accelerate launch",
    "--num_processes": "accelerate launch",
    "--nproc_per_node": "torchrun",
    "--quiet": "accelerate launch",
    "--use_fsdp": "accelerate launch",
    "--log-dir": "inspect view",
    "--enable-lora": "vllm serve",
    "--logprobs-mode": "vllm serve",
    "--lora-modules": "vllm serve",
    "--max-logprobs": "vllm serve",
    "--max-model-len": "vllm serve",
    "--model-path": "SGLang's server",
    "--context-length": "SGLang's server",
    "--config": "TRL's scripts, whose flag for the file `qtarget train` accepts too",
    "--key": "stands for any key of a configuration",
    "--model": "a run's own key, which `qtarget train` and `init` take as a flag",
    "--train-dataset": "likewise",
    "--use-peft": "a key of TRL's for the model, likewise",
    "--switch": "stands for any switch",
}
"""Options that texts name and no command of ours has, and whose they are."""


def texts(tree: ast.AST) -> list[tuple[int, str]]:
    """Every string of a tree with its line; the parts of an f-string are joined, with {} for what is filled in."""
    joined = [node for node in ast.walk(tree) if isinstance(node, ast.JoinedStr)]
    inner = {id(part) for node in joined for part in node.values}
    whole = [(n.lineno, "".join(p.value if isinstance(p, ast.Constant) else "{}" for p in n.values)) for n in joined]
    constants = [n for n in ast.walk(tree) if isinstance(n, ast.Constant) and isinstance(n.value, str)]
    return whole + [(n.lineno, n.value) for n in constants if id(n) not in inner]


def raised(tree: ast.AST) -> list[tuple[int, str]]:
    """The strings inside a tree's `raise` statements."""
    return [text for node in ast.walk(tree) if isinstance(node, ast.Raise) for text in texts(node)]


def names_in(text: str) -> set[str]:
    """Dotted names of ours in a text, and what it imports from us where it is a program."""
    names = {name.replace("qt.", "qtarget.", 1) if name.startswith("qt.") else name for name in NAME.findall(text)}
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError):  # surrogates and null bytes are no program
        return names
    froms = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.module]
    ours = [node for node in froms if str(node.module).split(".")[0] == "qtarget"]
    return names | {f"{node.module}.{alias.name}" for node in ours for alias in node.names}


def resolves(name: str) -> bool:
    """Whether a dotted name stands for something; of an object's attributes only the first is looked for."""
    return definition(name) is not None or name in NO_NAMES


@cache
def every_text() -> list[tuple[str, str]]:
    """The strings of all modules, each with its place."""
    return [(f"{module}, line {line}", text) for module, tree in modules().items() for line, text in texts(tree)]


def test_names_in_strings_and_docstrings_resolve():
    assert [(place, name) for place, text in every_text() for name in names_in(text) if not resolves(name)] == []


def test_files_and_classes_in_strings_and_docstrings_are_there():
    """`loss.py`, `chunks.Workspace`: names without their package, which nothing else follows when a file moves."""
    assert [(place, name) for place, text in every_text() for name in FILE.findall(text) if not _is_a_file(name)] == []
    classes = [(place, *pair) for place, text in every_text() for pair in CLASS.findall(text)]
    assert [one for one in classes if one[1] in _stems() and not _is_a_class(*one[1:])] == []


def test_rooms_list_the_modules_they_have():
    """A room's docstring may say what each of its modules holds: names, two spaces or more, words."""
    rooms = [name for name in modules() if (SRC.parent / name.replace(".", "/")).is_dir()]
    assert [f"{room}.{name}" for room in rooms for name in _listed(room) if f"{room}.{name}" not in modules()] == []


def _listed(room: str) -> list[str]:
    listed = [line for line in (ast.get_docstring(modules()[room]) or "").splitlines() if LISTED.match(line)]
    return [name for line in listed for name in re.split(r"\s{2,}", line)[0].split(", ")]


def _stems() -> set[str]:
    return {name.rpartition(".")[2] for name in modules()} - {"qtarget"}


@cache
def _files() -> list[str]:
    folders = [ROOT / folder for folder in ("src", "tests", "benchmarks", "examples")]
    return [path.as_posix() for folder in folders for path in folder.rglob("*.py")]


def _is_a_file(name: str) -> bool:
    return any(path.endswith(f"/{name}") for path in _files())


def _is_a_class(module: str, name: str) -> bool:
    return any(definition(f"{known}.{name}") for known in modules() if known.endswith(f".{module}"))


def test_errors_name_what_is_there():
    """And there are such errors: this test can fail."""
    named = {name for tree in modules().values() for _, text in raised(tree) for name in names_in(text)}
    assert len(named) >= 4
    assert {name for name in named if not resolves(name)} == set()


@pytest.mark.parametrize("wrong", ["qt.residul.rest(trust, pool)", "qtarget.rest", "from qtarget.trust import rest\n"])
def test_a_name_that_is_not_there_is_seen(wrong: str):
    assert not all(map(resolves, names_in(wrong)))


def test_names_of_trl_are_there():
    """By the table of names in its front, or as a module of it: importing it takes seconds."""
    front = Path(str(find_spec("trl").origin))
    offered = set(re.findall(r'"(\w+)"', front.read_text(encoding="utf-8")))
    named = {name for tree in modules().values() for _, text in texts(tree) for name in TRL_NAME.findall(text)}
    assert "SFTConfig" in named
    assert {name for name in named - offered if not (front.parent / name).exists()} == set()


def test_options_in_texts_are_the_command_lines():
    options = _options()
    named = {flag for tree in modules().values() for _, text in texts(tree) for flag in FLAG.findall(text)}
    assert named - options - set(OTHERS_FLAGS) == set()
    assert set(OTHERS_FLAGS) <= named


def _options() -> set[str]:
    """Every option of every command, and the trainer's configuration as options of `qtarget train`."""
    from qtarget.cli.main import app

    waiting, options = [typer.main.get_command(app)], {"--help"}
    while waiting:
        command = waiting.pop()
        options |= {word for parameter in command.params for word in (*parameter.opts, *parameter.secondary_opts)}
        waiting += list(getattr(command, "commands", {}).values())
    return options | {f"--{key.replace('_', '-')}" for key in _configuration()}


def _configuration() -> set[str]:
    """The trainer's configuration by its fields, read as text: importing them takes half a minute."""
    folders = [Path(str(find_spec(name).origin)).parent for name in ("trl", "transformers")]
    files = [*folders[0].glob("trainer/*_config.py"), folders[1] / "training_args.py"]
    trees = [*(ast.parse(file.read_text(encoding="utf-8")) for file in files), *modules().values()]
    classes = [node for tree in trees for node in tree.body if isinstance(node, ast.ClassDef)]
    classes = [node for node in classes if node.name in ("TrainingArguments", "SFTConfig", "TargetSFTConfig")]
    return {name for node in classes for name in definitions(node)}


PROGRAMS = sorted(path for folder in ("tests", "benchmarks", "examples") for path in (ROOT / folder).rglob("*.py"))


def test_strings_of_tests_name_what_is_there():
    """'qtarget.fused.triton' in an assertion, in a patch, or in a program that a test runs."""
    trees = {path: ast.parse(path.read_text(encoding="utf-8")) for path in PROGRAMS if path != Path(__file__)}
    found = [
        (path, line, name) for path, tree in trees.items() for line, text in texts(tree) for name in names_in(text)
    ]
    assert [(str(path), line, name) for path, line, name in found if not resolves(name)] == []

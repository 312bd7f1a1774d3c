"""Builds wheel and sdist, and tries the wheel where nothing else is installed: alone, and with its extra `train`.

`make package`: python tests/package/try_package.py FOLDER. The wheel is built from the sdist, as whoever packages the
project would. Every environment is made under constraints.txt.
"""

import subprocess
import sys
import tarfile
import tomllib
import zipfile
from email.parser import Parser
from pathlib import Path

ROOT = Path(__file__).parents[2]

LOSSES = """
import torch
import qtarget as qt
logits = torch.randn(5, 11, requires_grad=True)
out = qt.q_target_loss(logits, torch.arange(5), qt.method("dft"))
out.loss.backward()
assert torch.isfinite(logits.grad).all()
import importlib.util
assert importlib.util.find_spec("transformers") is None, "the losses alone brought transformers along"
"""
TRAINING = """
import json
from pathlib import Path
from qtarget import lab
world = lab.world("strong-prior")
rows = "".join(json.dumps(dict(row)) + "\\n" for row in lab.demonstrations(world, seed=0)[:8])
Path("rows.jsonl").write_text(rows, encoding="utf-8")
print(lab.student_path(world))
"""


def try_package(folder: Path) -> None:
    """Build, look into both archives, and try the wheel twice. Raises where anything is amiss."""
    dist = folder / "dist"
    _run(sys.executable, "-m", "build", "--outdir", str(dist), str(ROOT))
    wheel, sdist = (_newest(dist, pattern) for pattern in ("*.whl", "*.tar.gz"))
    _look(wheel, sdist)
    python = _environment(folder / "losses", str(wheel))
    _run(python, "-c", LOSSES)
    _refused_without_extra(python)
    python = _environment(folder / "train", f"{wheel}[train]")
    _train(python, folder / "train")
    print(_still_open())


def _look(wheel: Path, sdist: Path) -> None:
    """What an archive must hold, and what it must not."""
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        meta = Parser().parsestr(archive.read(next(n for n in names if n.endswith("METADATA"))).decode("utf-8"))
    with tarfile.open(sdist) as archive:
        members = {name.partition("/")[2] for name in archive.getnames()}
    assert {"qtarget/py.typed", "qtarget/lab/assets/strong-prior/student/model.safetensors"} <= set(names)
    assert not [name for name in names if not name.startswith("qtarget")], "the wheel holds more than the package"
    assert {"LICENSE", "README.md", "hatch_build.py", "constraints.txt"} <= members
    assert sdist.stat().st_size < 10 << 20, f"{sdist} has {sdist.stat().st_size} bytes"
    assert "](docs/" not in str(meta.get_payload()), "the README on PyPI has links that lead nowhere there"
    print(f"{wheel.name}: {wheel.stat().st_size >> 10} KiB; {sdist.name}: {sdist.stat().st_size >> 10} KiB")


def _environment(folder: Path, requirement: str) -> str:
    """A new environment with one requirement in it; the path of its Python."""
    _run(sys.executable, "-m", "venv", "--clear", str(folder))
    python = str(folder / "bin" / "python")
    pip = (python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check")
    _run(*pip, "-c", str(ROOT / "constraints.txt"), requirement)
    return python


def _refused_without_extra(python: str) -> None:
    """Without the extra the command says what to install, and no more."""
    done = subprocess.run([python, "-m", "qtarget", "methods"], capture_output=True, text=True, encoding="utf-8")
    assert done.returncode != 0
    assert "pip install 'qtarget[train]'" in done.stderr, done.stderr
    assert "Traceback" not in done.stderr


def _train(python: str, folder: Path) -> None:
    """Two steps of a training by the command that the wheel installs."""
    student = subprocess.run(
        [python, "-c", TRAINING], cwd=folder, check=True, capture_output=True, text=True, encoding="utf-8"
    ).stdout.strip()
    words = f"train --model {student} --train-dataset rows.jsonl --method dft --max-steps 2 --output-dir out"
    _run(str(folder / "bin" / "qtarget"), *words.split(), cwd=folder)
    assert (folder / "out" / "model.safetensors").is_file()


def _still_open() -> str:
    """What whoever publishes has yet to fill in."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    facts = project["tool"]["hatch"]["metadata"]["hooks"]["custom"]
    empty = [name for name in ("repository", "documentation") if not facts[name]]
    return f"before publishing, fill in in pyproject.toml: {', '.join(empty)}" if empty else "nothing is left open"


def _newest(folder: Path, pattern: str) -> Path:
    return max(folder.glob(pattern), key=lambda path: path.stat().st_mtime)


def _run(*words: str, cwd: Path | None = None) -> None:
    subprocess.run(words, check=True, cwd=cwd)


if __name__ == "__main__":
    try_package(Path(sys.argv[1]).resolve())

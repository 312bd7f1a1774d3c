"""Runs the notebooks of this folder from the first cell to the last: python run_notebooks.py [NAME] (`make notebooks`).

Each runs in an empty folder, and fails where a cell does. `targets_on_a_cpu.ipynb` runs as it stands, and what it
printed is kept in it. `targets_on_a_t4.ipynb` installs nothing and takes small models and invented rows in the place of
its own, since neither a GPU nor the internet is asked for: its cell tagged `parameters` is replaced by PARAMETERS.
"""

import sys
import tempfile
from pathlib import Path

import nbformat
from nbclient import NotebookClient

HERE = Path(__file__).parent
PARAMETERS = """
from qtarget import lab

world = lab.world("strong-prior")
MODEL, TEACHER = str(lab.student_path(world)), str(lab.teacher_path(world))
ROWS, QUESTIONS, STEPS, TOKENS = 32, 6, 2, 16


def sets():
    rows = [
        {"question": row["prompt"], "answer": f"{row['completion']}#### {index}"}
        for index, row in enumerate(lab.demonstrations(world, seed=0)[:64])
    ]
    return rows, rows[:8]
"""


def run_notebook(path: Path) -> None:
    """Run a notebook; what its cells printed is kept in it, where it ran as it stands."""
    notebook = nbformat.read(path, as_version=4)
    replaced = _with_parameters(notebook)
    with tempfile.TemporaryDirectory() as folder:
        NotebookClient(notebook, timeout=600, resources={"metadata": {"path": folder}}).execute()
    if not replaced:
        nbformat.write(_without_times(notebook), path)
    print(f"{path.name}: {sum(cell.cell_type == 'code' for cell in notebook.cells)} cells ran")


def _with_parameters(notebook: nbformat.NotebookNode) -> bool:
    """Replace what needs a GPU or the internet; whether there was such a thing."""
    tagged = {tag: cell for cell in notebook.cells for tag in cell.metadata.get("tags", [])}
    if "parameters" in tagged:
        tagged["parameters"].source = PARAMETERS
    if "install" in tagged:
        tagged["install"].source = ""
    return bool(tagged)


def _without_times(notebook: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """Without when each cell ran, and without what libraries wrote to the error stream."""
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)
        if cell.cell_type == "code":
            cell.outputs = [output for output in cell.outputs if output.get("name") != "stderr"]
    return notebook


if __name__ == "__main__":
    names = sys.argv[1:] or sorted(path.name for path in HERE.glob("*.ipynb"))
    for each in names:
        run_notebook(HERE / each)

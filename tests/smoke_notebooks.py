"""Copies of the notebooks with the smoke profile injected, for what cannot inject a parameter itself: nbval, a browser.

Run as a script, it writes them all into the folder given."""

import shutil
import sys
from collections.abc import Iterable
from pathlib import Path

import nbformat
from papermill.iorw import load_notebook_node
from papermill.parameterize import parameterize_notebook

NOTEBOOKS = Path(__file__).resolve().parents[1] / "notebooks"


def smoke_copies(notebooks: Iterable[Path], folder: Path, *, outputs: bool = True) -> list[Path]:
    """Write the copies, with the outputs that are stored or without, into `folder`, which then holds nothing else."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    copies = []
    for path in notebooks:
        nb = parameterize_notebook(load_notebook_node(nbformat.read(path, as_version=4)), {"profile": "smoke"})
        for cell in (cell for cell in nb.cells if cell.cell_type == "code" and not outputs):
            cell.update(outputs=[], execution_count=None)
        copies.append(folder / path.name)
        nbformat.write(nb, copies[-1])
    return copies


if __name__ == "__main__":
    smoke_copies(sorted(NOTEBOOKS.glob("*.ipynb")), Path(sys.argv[1]))

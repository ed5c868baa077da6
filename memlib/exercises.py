"""Blank versions of the notebooks to work in: no outputs, and where a solution stood, a place to write your own."""

from __future__ import annotations

import errno
from pathlib import Path

import nbformat

from . import batch
from .files import write_atomically
from .kinds import check_kinds

PLACE = "# Your code here. One solution is in the notebook of the same name in notebooks/."


@check_kinds
def write_exercises(folder: Path, *, force: bool = False) -> list[Path]:
    """Write the blank version of every notebook into `folder`, made if need be, and return their paths.

    A file that is there and differs from what would be written may be a reader's work: FileExistsError names all such
    files and nothing is written, unless `force`. Raises ValueError for the folder of the notebooks themselves, OSError
    naming the path where `folder` is no folder or cannot be written.
    """
    if folder.resolve() == batch.NOTEBOOKS.resolve():
        raise ValueError(f"folder: {folder} holds the notebooks with their solutions; name another one")
    if folder.exists() and not folder.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, "the blank notebooks go into a folder, and this is a file", str(folder))
    blanks = {folder / path.name: _blank(path).encode() for path in batch.find_notebooks()}
    changed = [path.name for path, new in blanks.items() if path.exists() and path.read_bytes() != new]
    if changed and not force:
        text = f"{', '.join(changed)}: there already, with other content, perhaps your work; move it or give --force"
        raise FileExistsError(errno.EEXIST, text, str(folder))
    folder.mkdir(parents=True, exist_ok=True)
    for path, new in blanks.items():
        write_atomically(path, new)
    return list(blanks)


def _blank(path: Path) -> str:
    """The notebook at `path` without outputs, without what running it left behind, without solutions."""
    nb = nbformat.read(path, as_version=4)
    for trace in ("memlib", "papermill", "widgets"):
        nb.metadata.pop(trace, None)
    for cell in nb.cells:
        cell.metadata.pop("execution", None)
        if cell.cell_type == "code":
            solution = "solution" in cell.metadata.get("tags", [])
            cell.update(outputs=[], execution_count=None, source=PLACE if solution else cell.source)
    return nbformat.writes(nb) + "\n"

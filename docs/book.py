"""Build the book, a static site over a folder of executed notebooks: `python docs/book.py [NOTEBOOKS [OUT]]`."""

from __future__ import annotations

import argparse
import re
import shutil
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import nbformat
from sphinx.cmd.build import main as sphinx

from memlib.notebooks import NOTEBOOKS
from memlib.report import figures, without_kernel

DOCS = Path(__file__).resolve().parent
PICTURE = DOCS.parent / "data" / "readme_picture.png"
LINK = re.compile(r"(?<!!)\[([^\]]*)\]\((?!\w+:)([^)#\s]+\.\w+)[^)\s]*\)")  # to a file, no picture


def build(notebooks: Path, out: Path) -> None:
    """Write the site over the executed notebooks of `notebooks` to `out`, in place of an earlier one.

    Raises FileNotFoundError if there is no executed notebook, FileExistsError if `out` holds something else than a
    book, RuntimeError if Sphinx has a warning or an error, which it prints; an earlier book then stays as it was.
    """
    paths = [path for path in sorted(notebooks.glob("[0-9]*.ipynb")) if "." not in path.stem]  # no .part, no .failed
    if not paths:
        raise FileNotFoundError(f"notebooks: no executed notebook in {notebooks}")
    if out.exists() and not (out / "searchindex.js").exists():
        raise FileExistsError(f"out: {out} is there and holds no book; name another folder")
    with TemporaryDirectory() as folder:
        source, book, trees = (Path(folder) / name for name in ("source", "book", "trees"))
        source.mkdir()
        shutil.copy(PICTURE, source)
        shutil.copy(DOCS / "index.md", source)
        pages = {path.name for path in paths} | {"README.md"}
        (source / "README.md").write_text(
            _linked((NOTEBOOKS / "README.md").read_text(encoding="utf-8"), pages), "utf-8"
        )
        for path in paths:
            (source / path.name).write_text(_prepared(path, pages), encoding="utf-8")
        if sphinx(["-q", "-W", "--keep-going", "-c", str(DOCS), "-d", str(trees), str(source), str(book)]):
            raise RuntimeError("the book was not built: Sphinx's warnings stand above")
        if out.exists():
            shutil.rmtree(out)
        shutil.move(book, out)


def _linked(markdown: str, pages: set[str]) -> str:
    """The text with links to what the clone holds and the book does not turned into text; wrong links stay wrong."""

    def keep(link: re.Match[str]) -> str:
        return link[1] if link[2] not in pages and (NOTEBOOKS / link[2]).exists() else link[0]

    return LINK.sub(keep, markdown)


def _prepared(path: Path, pages: set[str]) -> str:
    """The notebook as the book shows it: its figures described, its controls without a kernel, its solutions folded."""
    nb = nbformat.read(path, as_version=4)
    without_kernel(nb)
    nb.metadata = {key: nb.metadata[key] for key in ("kernelspec", "language_info") if key in nb.metadata}
    for figure in figures(nb):
        figure.cell.metadata["mystnb"] = {"image": {"alt": figure.heading}}
    for cell in nb.cells:
        if cell.cell_type == "markdown":
            cell.source = _linked(cell.source, pages)
        elif "solution" in cell.metadata.get("tags", []):
            cell.metadata["tags"].append("hide-cell")
    return nbformat.writes(nb)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("notebooks", type=Path, nargs="?", default=NOTEBOOKS)
    parser.add_argument("out", type=Path, nargs="?", default=DOCS.parent / "build" / "book")
    arguments = parser.parse_args()
    try:
        build(arguments.notebooks, arguments.out)
    except (OSError, RuntimeError) as error:
        sys.exit(f"book: {error}")
    print(arguments.out / "index.html")

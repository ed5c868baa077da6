"""Each notebook asks and has an exercise; the blank versions are the same without outputs and solutions."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import nbformat
import pytest
from nbformat import NotebookNode

from memlib import batch
from memlib.__main__ import main
from memlib.exercises import PLACE, write_exercises

PATHS = batch.find_notebooks()
QUESTION = "**Predict, then run.**"


def solves(cell: NotebookNode) -> bool:
    return "solution" in cell.metadata.get("tags", [])


@pytest.fixture(params=PATHS, ids=lambda path: path.stem)
def nb(request: pytest.FixtureRequest) -> NotebookNode:
    return nbformat.read(request.param, as_version=4)


@pytest.fixture
def blanks(tmp_path: Path) -> Path:
    write_exercises(tmp_path / "blank")
    return tmp_path / "blank"


def test_asks_two_or_three_times_before_a_cell_that_runs(nb) -> None:
    asked = [i for i, cell in enumerate(nb.cells) if QUESTION in cell.source]
    assert sum(nb.cells[i].source.count(QUESTION) for i in asked) in (2, 3)
    assert all(nb.cells[i].cell_type == "markdown" and nb.cells[i + 1].cell_type == "code" for i in asked)
    assert not re.search(r"\*\*Predict(?!, then run\.\*\*)", "\n".join(cell.source for cell in nb.cells)), "one form"


def test_exercise_asks_for_code_and_its_solution_asserts(nb) -> None:
    solutions = [i for i, cell in enumerate(nb.cells) if solves(cell)]
    assert solutions
    for i in solutions:
        assert re.match(r"## Exercise\b", nb.cells[i - 1].source)
        assert any(isinstance(node, ast.Assert) for node in ast.walk(ast.parse(nb.cells[i].source)))


def test_blank_is_the_notebook_without_outputs_and_solutions(blanks) -> None:
    assert sorted(path.name for path in blanks.iterdir()) == [path.name for path in PATHS]
    for path in PATHS:
        full, blank = (nbformat.read(folder / path.name, as_version=4) for folder in (path.parent, blanks))
        nbformat.validate(blank)
        assert not {"memlib", "papermill", "widgets"} & set(blank.metadata)
        for theirs, ours in zip(full.cells, blank.cells, strict=True):
            assert ours.source == (PLACE if solves(theirs) else theirs.source)
            assert (ours.id, ours.metadata.get("tags")) == (theirs.id, theirs.metadata.get("tags"))
            assert "execution" not in ours.metadata
            assert ours.cell_type == "markdown" or (ours.outputs, ours.execution_count) == ([], None)


def test_links_of_blanks_lead_somewhere(blanks) -> None:
    for path in blanks.iterdir():
        prose = [cell.source for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "markdown"]
        for link in re.findall(r"\]\((?!https?:|#)([^)#\s]+)", "\n".join(prose)):
            assert (blanks / link).exists(), f"{path.name}: {link}"


def test_a_blank_runs_top_to_bottom(blanks, tmp_path) -> None:
    path = blanks / "03_exact_memorizer.ipynb"
    outcome = batch.run_notebook(path, tmp_path, {"profile": "smoke"})
    assert outcome.error == ""


def test_command_writes_and_may_be_repeated(tmp_path, capsys) -> None:
    for _ in range(2):
        assert main(["exercises", "--out", str(tmp_path / "mine")]) == 0
        assert capsys.readouterr().out.split() == [str(tmp_path / "mine" / path.name) for path in PATHS]


def test_work_is_overwritten_only_by_force(blanks, capsys) -> None:
    mine, other = (blanks / path.name for path in PATHS[1:3])
    clean = mine.read_text(encoding="utf-8")
    mine.write_text(clean.replace(PLACE, "answer = 42"), encoding="utf-8")
    other.unlink()
    assert main(["exercises", "--out", str(blanks)]) == 2
    error = capsys.readouterr().err
    assert mine.name in error and "--force" in error and PATHS[0].name not in error
    assert "answer = 42" in mine.read_text(encoding="utf-8") and not other.exists()
    assert main(["exercises", "--out", str(blanks), "--force"]) == 0
    assert mine.read_text(encoding="utf-8") == clean and other.exists()


def test_a_folder_that_cannot_be_is_named(tmp_path, capsys) -> None:
    file = tmp_path / "file"
    file.touch()
    for out, words in ((file, "this is a file"), (file / "below", "Not a directory"), (batch.NOTEBOOKS, "solutions")):
        before = [path.read_bytes() for path in PATHS]
        assert main(["exercises", "--out", str(out), "--force"]) == 2
        error = capsys.readouterr().err
        assert str(out) in error and words in error
        assert [path.read_bytes() for path in PATHS] == before


def test_default_folder_is_ignored_by_git() -> None:
    assert "notebooks/exercises/" in (batch.ROOT / ".gitignore").read_text().split()


def test_page_beside_the_notebooks_lists_them_in_order() -> None:
    page = (batch.NOTEBOOKS / "README.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| \[(\w+)\]\((\w+)\.ipynb\) \|.*\| ([\d.]+) \|$", page, re.M)
    assert [(name, link) for name, link, _ in rows] == [(path.stem, path.stem) for path in PATHS]
    table = (batch.ROOT / "README.md").read_text(encoding="utf-8")
    minutes = re.findall(r"^\| \[(\w+)\]\(notebooks/\w+\.ipynb\) \|.*\| ([\d.]+) \|$", table, re.M)
    assert [(name, time) for name, _, time in rows] == minutes, "the minutes are those of the README"

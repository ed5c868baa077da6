"""The committed notebooks: as they are stored, and run end to end through papermill under `smoke`."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import nbformat
import pytest
from nbformat import NotebookNode

from memlib import notebooks as batch
from memlib import report
from memlib.__main__ import main

PATHS = sorted(batch.NOTEBOOKS.glob("*.ipynb"))
LONGEST_FUNCTION = 8  # lines; what is longer belongs in memlib
LARGEST_FILE = 1_500_000  # bytes, so that it reads well on a web page
MACHINE_PATH = re.compile(r"(?<![\w.:/])/(?:home|root|tmp|work|Users|opt|mnt|usr/(?:local|lib))/\w")


@pytest.fixture(params=PATHS, ids=lambda path: path.stem)
def nb(request: pytest.FixtureRequest) -> NotebookNode:
    return nbformat.read(request.param, as_version=4)


def code(nb: NotebookNode, *, without: str = "") -> list[NotebookNode]:
    cells = [cell for cell in nb.cells if cell.cell_type == "code" and cell.source.strip()]
    return [cell for cell in cells if without not in cell.metadata.get("tags", [])]


def test_there_are_notebooks_in_reading_order() -> None:
    numbers = [path.stem[:3] for path in PATHS]
    assert numbers[:7] == [f"{n:02d}_" for n in range(7)]


def test_outputs_belong_to_the_sources(nb) -> None:
    counts = [cell.execution_count for cell in code(nb)]
    assert counts == list(range(1, len(counts) + 1)), "not executed top to bottom in one go: `make notebooks`"
    record = nb.metadata["memlib"]
    assert record["sources_sha256"] == batch.sources_sha256(nb), "the code changed since: `make notebooks`"
    assert record["parameters"]["profile"] == "quick"


def test_holds_no_error_also_none_hidden_in_a_widget(nb) -> None:
    nbformat.validate(nb)
    assert batch.errors_in(nb) == []


def test_one_parameters_cell_of_literals(nb) -> None:
    tagged = [cell for cell in nb.cells if "parameters" in cell.metadata.get("tags", [])]
    assert len(tagged) == 1
    values = {}
    for statement in ast.parse(tagged[0].source).body:
        assert isinstance(statement, ast.Assign) and len(statement.targets) == 1, ast.unparse(statement)
        values[ast.unparse(statement.targets[0])] = ast.literal_eval(statement.value)
    assert values["profile"] == "quick" and values["seed"] == 0
    assert not [c for c in nb.cells if "injected-parameters" in c.metadata.get("tags", [])]


def test_defines_no_class_and_no_long_function(nb) -> None:
    for cell in code(nb):
        for node in ast.walk(ast.parse(cell.source)):  # no magics either: they would not parse
            assert not isinstance(node, ast.ClassDef), f"class {node.name} belongs in memlib"
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                lines = node.end_lineno - node.lineno + 1
                assert lines <= LONGEST_FUNCTION, f"{node.name}: {lines} lines"


def test_opens_with_what_how_and_how_long(nb) -> None:
    opening = ""
    for cell in nb.cells:
        if cell.cell_type == "code":
            break
        opening += cell.source.lower()
    assert opening.startswith("# ")
    for words in ("you will learn", "you need", "how long"):
        assert words in opening


def test_ends_in_asserts(nb) -> None:
    last = ast.parse(code(nb, without="solution")[-1].source)
    assert any(isinstance(node, ast.Assert) for node in ast.walk(last))


def test_is_small_and_names_no_place_on_a_machine(nb) -> None:
    text = nbformat.writes(nb)
    assert len(text.encode()) < LARGEST_FILE
    for figure in report.figures(nb):
        figure.output.data["image/png"] = ""  # chance could write a path in base64
    found = MACHINE_PATH.search(nbformat.writes(nb))
    assert not found, found


def test_runs_end_to_end_under_smoke_with_a_figure_each(tmp_path: Path, capsys) -> None:
    assert main(["reproduce", "--profile", "smoke", "--out", str(tmp_path)]) == 0, capsys.readouterr().err
    index = (tmp_path / "index.html").read_text(encoding="utf-8")
    assert index.count("<article") == len(PATHS) > 0 and 'class="failed' not in index
    for path in PATHS:
        done = nbformat.read(tmp_path / path.name, as_version=4)
        assert done.metadata["memlib"]["parameters"]["profile"] == "smoke"
        assert report.figures(done), f"{path.stem} shows no figure"
        page = (tmp_path / f"{path.stem}.html").read_text(encoding="utf-8")
        assert page.count("data:image/png;base64,") >= len(report.figures(done))
        assert "<code>\\" not in page, "a formula that could not be drawn"
        assert f'href="{path.stem}.html#cell-id=' in index

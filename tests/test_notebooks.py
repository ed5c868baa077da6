"""The committed notebooks: as they are stored, and run end to end through papermill under `smoke`."""

import ast
import base64
import re
from dataclasses import replace
from pathlib import Path

import nbformat
import pytest
from nbformat import NotebookNode

from memlib import notebooks as batch
from memlib.__main__ import main
from memlib.lab import courses
from memlib.lab.plans import read_plan
from memlib.lab.profiles import profile
from memlib.lab.runs import SHIPPED, Result
from memlib.lab.yardstick import Yardstick

PATHS = batch.find_notebooks()
LONGEST_FUNCTION = 8  # lines; what is longer belongs in memlib
LARGEST_FILE = 1_500_000  # bytes, so that it reads well on a web page
MACHINE_PATH = re.compile(r"(?<![\w.:/])/(?:home|root|tmp|work|Users|opt|mnt|usr/(?:local|lib))/\w")


@pytest.fixture(params=PATHS, ids=lambda path: path.stem)
def nb(request: pytest.FixtureRequest) -> NotebookNode:
    return nbformat.read(request.param, as_version=4)


def code(nb: NotebookNode, *, without: str = "") -> list[NotebookNode]:
    cells = [cell for cell in nb.cells if cell.cell_type == "code" and cell.source.strip()]
    return [cell for cell in cells if without not in cell.metadata.get("tags", [])]


def pictures(nb: NotebookNode) -> list[NotebookNode]:
    return [o.data for cell in nb.cells for o in cell.get("outputs", []) if "image/png" in o.get("data", {})]


def test_they_are_in_reading_order() -> None:
    assert [path.stem[:3] for path in PATHS] == [f"{n:02d}_" for n in range(len(PATHS))]
    assert f"notebooks/{len(PATHS)}_name.ipynb" in (batch.ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")


def test_outputs_belong_to_the_sources_and_hold_no_error(nb) -> None:
    nbformat.validate(nb)
    counts = [cell.execution_count for cell in code(nb)]
    assert counts == list(range(1, len(counts) + 1)), "not executed top to bottom in one go: `make notebooks`"
    record = nb.metadata["memlib"]
    assert record["sources_sha256"] == batch.sources_sha256(nb), "the code changed since: `make notebooks`"
    assert record["parameters"]["profile"] == "quick" and "torch 2" in record["versions"]
    assert {"commit", "hardware", "seconds"} <= set(record)
    assert batch.errors_in(nb) == []
    assert "widgets" not in nb.metadata, "it would show dead sliders: `make notebooks`"


def test_one_parameters_cell_of_literals(nb) -> None:
    (tagged,) = [cell for cell in nb.cells if "parameters" in cell.metadata.get("tags", [])]
    values = {}
    for statement in ast.parse(tagged.source).body:
        assert isinstance(statement, ast.Assign) and len(statement.targets) == 1, ast.unparse(statement)
        values[ast.unparse(statement.targets[0])] = ast.literal_eval(statement.value)
    assert values["profile"] == "quick" and values["seed"] == 0
    assert not [c for c in nb.cells if "injected-parameters" in c.metadata.get("tags", [])]


def test_defines_no_class_and_no_long_function(nb) -> None:
    for node in (node for cell in code(nb) for node in ast.walk(ast.parse(cell.source))):  # magics do not parse
        assert not isinstance(node, ast.ClassDef), f"class {node.name} belongs in memlib"
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            assert node.end_lineno - node.lineno < LONGEST_FUNCTION, f"{node.name} belongs in memlib"
        named = ast.unparse(node) if isinstance(node, ast.Name | ast.Attribute) else ""
        assert not re.search(r"\b(interact|Output)$", named), f"{named}: with Output widgets nbclient may hang"


def test_opens_with_what_how_and_how_long_and_ends_in_asserts(nb) -> None:
    first = next(i for i, cell in enumerate(nb.cells) if cell.cell_type == "code")
    opening = "".join(cell.source for cell in nb.cells[:first]).lower()
    assert opening.startswith("# ")
    assert all(words in opening for words in ("you will learn", "you need", "how long"))
    last = ast.parse(code(nb, without="solution")[-1].source)
    assert any(isinstance(node, ast.Assert) for node in ast.walk(last))


def test_is_small_folded_by_its_tags_and_names_no_place_on_a_machine(nb) -> None:
    assert len(nbformat.writes(nb).encode()) < LARGEST_FILE
    for cell in nb.cells:
        assert {f"{part}_hidden" for part in batch.folded(cell)} == set(cell.metadata.get("jupyter", {}))
    for data in pictures(nb):
        data["image/png"] = ""  # chance could write a path in base64
    assert not (found := MACHINE_PATH.search(nbformat.writes(nb))), found


def test_its_text_is_short(nb) -> None:
    text = "\n".join(cell.source for cell in nb.cells if cell.cell_type == "markdown")
    words = re.sub(r"\$\$.*?\$\$|\]\(.*?\)", " ", text, flags=re.S).split()  # no displayed formulas, no addresses
    number = int(text.removeprefix("# ")[:2])
    assert len(words) <= (1400 if number == 7 else 1500 if number < 9 else 1200), len(words)


def test_the_readme_shows_figures_and_numbers_of_notebooks_07_and_08() -> None:
    for name, stem in (("readme_picture.png", "08_claims"), ("dose.png", "07_dose")):
        nb = nbformat.read(next(path for path in PATHS if path.stem == stem), as_version=4)
        shown = (batch.ROOT / "data" / name).read_bytes()
        assert shown in [base64.b64decode(data["image/png"]) for data in pictures(nb)]
    printed = "".join(o.get("text", "") for cell in nb.cells for o in cell.get("outputs", []))
    (shares,) = re.findall(r"best fidelity: P2 ([\d.]+)%, uniform ([\d.]+)%", printed)
    words = "mixtures ({:.0f} %, not {:.0f};".format(*map(float, shares))
    assert words in " ".join((batch.ROOT / "README.md").read_text(encoding="utf-8").split())


CLAIMS = ("mixture_claims", "heartbeats_claims", "emoji_claims")
LATER = ("mixture_stopped", "mixture_late", "heartbeats_stopped", "heartbeats_weights")


def test_the_shipped_networks_are_those_of_quick_and_of_plans_and_their_samples_measure_as_recorded() -> None:
    found = {path.stem: Result.load(path) for path in sorted(SHIPPED.glob("*.pt"))}
    assert sum(result.path.stat().st_size for result in found.values()) < 33e6
    recorded = {(x["plan"], x["control"], x["seed"]): x["course"][-1]["measures"] for x in courses.read()}
    for plan in map(read_plan, (*CLAIMS, *LATER)):
        for name, own in plan.controls.items():
            then = recorded[plan.name, name, own.seed]
            shipped = found.pop(replace(own, course=()).key(own.load_data().sha256))
            again, one = Yardstick.of(own).of_samples(shipped.samples), 1 / len(shipped.samples)
            assert abs(again["near-copies"] - then["near-copies"]) <= one + 1e-4, "`make networks`"
            assert again["fidelity"] == pytest.approx(then["fidelity"], rel=0.01)
    assert len(found) == 9
    for key, own in ((key, result.experiment) for key, result in found.items()):
        budget = getattr(profile("quick"), {"ecg5000": "signals", "emoji": "images"}[str(own.dataset)])
        asked = replace(budget, timesteps=own.timesteps, course=own.course)
        assert asked.key(asked.load_data().sha256) == key, "`make networks`"


def test_runs_end_to_end_under_smoke_with_a_figure_each(tmp_path: Path, capfd) -> None:
    other = ["--set", "seed=5 low=-1000 high=1000"]  # nbval runs them with the parameters that are stored
    assert main(["reproduce", "--profile", "smoke", *other, "--out", str(tmp_path)]) == 0, capfd.readouterr().err
    assert "none failed" in (tmp_path / "index.html").read_text(encoding="utf-8")
    for path in PATHS:
        done = nbformat.read(tmp_path / path.name, as_version=4)
        assert done.metadata["memlib"]["parameters"]["profile"] == "smoke"
        assert pictures(done), f"{path.stem} shows no figure"
        assert (tmp_path / f"{path.stem}.html").exists()

"""memlib.notebooks and the command line over small made notebooks: what goes wrong is named, and the rest is kept."""

import json
import os
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import filelock
import nbformat
import psutil
import pytest
from nbformat import v4

from memlib import notebooks as batch
from memlib.__main__ import main

PARAMETERS = 'profile = "quick"\nseed = 0\nwidth = 3.0\nsets = ["spiral"]\nout = ""'
FIGURE = "import matplotlib.pyplot as plt\n_ = plt.plot([0, width])\nplt.show()"
EXPLORER = """from memlib.viz.explore import live_trainer
panel = live_trainer()
{}
panel.controls["centre_A"].value = 0
panel"""


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    folder = tmp_path / "notebooks"
    folder.mkdir()
    monkeypatch.setattr(batch, "NOTEBOOKS", folder)

    def write_notebook(name: str, *code: str, tag: str = "") -> Path:
        cells = [v4.new_markdown_cell("# A title"), v4.new_code_cell(PARAMETERS, metadata={"tags": ["parameters"]})]
        cells += [v4.new_code_cell(source) for source in code]
        cells[-1].metadata["tags"] = [tag] if tag else []
        kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
        nbformat.write(v4.new_notebook(cells=cells, metadata={"kernelspec": kernel}), folder / f"{name}.ipynb")
        return folder / f"{name}.ipynb"

    return write_notebook


def run(path: Path, folder: Path, **parameters: object) -> batch.Outcome:
    folder.mkdir(exist_ok=True)
    return batch.run_notebook(path, folder, parameters)


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()} - {".lock"}


def test_one_command_runs_the_notebooks_names_what_failed_and_writes_the_site(write, tmp_path, capfd) -> None:
    write("01_good", FIGURE, "assert (profile, seed, width, out) == ('smoke', 7, 2.0, 'my folder')")
    write("02_bad", "print(width)", "1 / 0 # <script>alert(1)</script>")
    write("03_after", "assert width == 2")
    out = tmp_path / "my results ü {z}"
    settings = ["--set", "seed=7 out=my folder", "--set", "width=2"]
    assert main(["reproduce", "--profile", "smoke", *settings, "--out", str(out)]) == 1
    printed = capfd.readouterr()
    assert "02_bad failed: cell 4: ZeroDivisionError: division by zero" in printed.err
    assert "01_good" in printed.out and "03_after" in printed.out, "a failure must not stop the others"
    assert {"01_good.ipynb", "02_bad.failed.ipynb", "03_after.ipynb", "index.html", "02_bad.html"} <= names(out)
    partial = nbformat.read(out / "02_bad.failed.ipynb", as_version=4)
    assert any("2.0" in output.get("text", "") for c in partial.cells for output in c.get("outputs", []))
    index = (out / "index.html").read_text(encoding="utf-8")
    assert "1 failed" in index and "ZeroDivisionError" in index and "profile smoke, seed 7" in index
    assert "not reproduced" in index, "the verdicts of the recorded runs"
    assert index.count('class="card"') == 3 and "<script>alert" not in index


def test_success_replaces_a_failure_but_not_the_reverse(write, tmp_path) -> None:
    out = tmp_path / "out"
    assert run(write("01_a", "1 / 0"), out).error and names(out) == {"01_a.failed.ipynb"}
    assert not run(write("01_a", "print(1)"), out).error and names(out) == {"01_a.ipynb"}
    before = (out / "01_a.ipynb").read_bytes()
    assert run(write("01_a", "1 / 0"), out).error and names(out) == {"01_a.ipynb", "01_a.failed.ipynb"}
    assert (out / "01_a.ipynb").read_bytes() == before


def test_an_error_hidden_in_an_explorer_is_a_failure_and_a_meant_error_is_none(write, tmp_path) -> None:
    outcome = run(write("01_a", EXPLORER.format("panel.draw = lambda **_: 1 / 0")), tmp_path / "out")
    assert outcome.error == "in a widget: ZeroDivisionError: division by zero"
    outcome = run(write("03_c", "1 / 0", tag="raises-exception"), tmp_path / "out")
    assert not outcome.error
    assert "exception" not in nbformat.read(outcome.path, as_version=4).cells[0].source, "papermill's marker is gone"


def test_an_executed_notebook_holds_no_live_widget(write, tmp_path) -> None:
    bar = "from tqdm.auto import tqdm\nfor _ in tqdm(range(3)): pass"
    outcome = run(write("01_a", bar, EXPLORER.format("")), tmp_path / "out")
    nb = nbformat.read(outcome.path, as_version=4)
    assert not outcome.error and "widgets" not in nb.metadata and "widget-view" not in nbformat.writes(nb)
    assert nb.cells[2].outputs == [] and 'class="explorer"' in nb.cells[3].outputs[-1].data["text/html"]


def test_a_dead_kernel_is_named_with_its_cell(write, tmp_path) -> None:
    outcome = run(write("01_a", "print(1)", "import os; os._exit(3)", "print(2)"), tmp_path / "out")
    assert outcome.error.startswith("cell 3: DeadKernelError") and names(tmp_path / "out") == {"01_a.failed.ipynb"}
    assert not [p for p in psutil.Process().children() if "ipykernel_launcher" in p.cmdline()]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [(["--profile", "huge"], ["huge", "smoke", "quick", "paper"]), (["--set", "profile=smoke"], ["--profile"]),
     (["--notebook", "99_none"], ["99_none", "01_a", "02_b"]), (["--set", "seed"], ["seed", "key=value"]),
     (["--set", "widht=2"], ["widht", "out, seed, sets, width"]),
     (["--set", "width=1 seed=many"], ["seed", "int", "many"]),
     (["--set", "sets=spiral"], ["sets", "list", "spiral"])],
)  # fmt: skip
def test_bad_arguments_are_named_before_anything_runs(write, tmp_path, capsys, arguments, words) -> None:
    write("01_a", "print(1)")
    write("02_b", "print(1)")
    assert main(["reproduce", "--out", str(tmp_path / "out"), *arguments]) == 2
    message = capsys.readouterr().err
    assert message.count("\n") == 1 and all(word in message for word in words), message
    assert not (tmp_path / "out").exists()


def test_settings_are_read_as_the_type_of_their_default(write) -> None:
    path = write("01_a", "print(1)")
    given = batch.parse_settings(['seed=3 width=2 out=a b/c d sets=["a", "b"]'], [path])
    assert given == {"seed": 3, "width": 2.0, "out": "a b/c d", "sets": ["a", "b"]}
    assert batch.parse_settings(["out=1", "seed=-1"], [path]) == {"out": "1", "seed": -1}


def test_relative_folders_start_where_the_command_is_given(write, tmp_path, monkeypatch) -> None:
    write("01_a", "import os, pathlib\npathlib.Path(out).mkdir()\nassert os.path.isabs(os.environ['MEMLIB_RUNS'])")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MEMLIB_RUNS", "runs")
    monkeypatch.setenv("PYTHONPATH", str(batch.ROOT))
    monkeypatch.setattr(batch, "reproduce", lambda paths, given, out: [run(*paths, out, out=given["out"])])
    assert main(["reproduce", "--set", "out=anew", "--out", "results"]) == 0
    assert {"anew", "results"} <= names(tmp_path) and names(tmp_path / "results") == {"01_a.ipynb"}
    assert os.environ["MEMLIB_RUNS"] == str(tmp_path / "runs")


def test_refresh_stores_outputs_folds_by_tag_and_keeps_them_if_a_cell_fails(write, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(batch, "ROOT", tmp_path)
    path = write("01_a", "print('profile', profile)", FIGURE, tag="solution")
    assert main(["refresh"]) == 0
    nb = nbformat.read(path, as_version=4)
    assert [c.execution_count for c in nb.cells if c.cell_type == "code"] == [1, 2, 3], "nothing is injected"
    assert nb.cells[2].outputs[0].text == "profile quick\n" and "image/png" in nb.cells[3].outputs[0].data
    assert nb.cells[3].metadata["jupyter"] == {"source_hidden": True, "outputs_hidden": True}
    assert not any("papermill" in node.metadata for node in (nb, *nb.cells))
    assert nb.metadata["memlib"]["sources_sha256"] == batch.sources_sha256(nb)
    nb.cells[-1].source = "print(2)"
    assert nb.metadata["memlib"]["sources_sha256"] != batch.sources_sha256(nb)
    write("01_a", "1 / 0")
    before = path.read_bytes()
    assert main(["refresh", "--notebook", "01_a"]) == 1
    assert path.read_bytes() == before and names(path.parent) == {"01_a.ipynb"}


def test_a_folder_that_cannot_or_must_not_be_written_is_named(write, tmp_path, capsys) -> None:
    path = write("01_a", "print(1)")
    (tmp_path / "file").write_text("")
    for out in (tmp_path / "file" / "out", path.parent):
        assert main(["reproduce", "--out", str(out)]) == 2
        assert str(out.parent) in capsys.readouterr().err
    out = tmp_path / "out"
    out.mkdir()
    with filelock.FileLock(out / ".lock"):
        assert main(["reproduce", "--out", str(out)]) == 2
    assert str(out / ".lock") in capsys.readouterr().err and names(out) == set()


def test_a_full_disk_is_named_and_earlier_results_stay(write, tmp_path) -> None:
    out = tmp_path / "out"
    run(write("01_a", "print(1)"), out)
    before = (out / "01_a.ipynb").read_bytes()
    path = write("01_a", "print('x' * 1_000_000)")
    code = "import sys, pathlib, memlib.notebooks as b; b.run_notebook(*map(pathlib.Path, sys.argv[1:]), {})"
    limit = lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (500_000, 500_000))  # noqa: E731
    done = subprocess.run([sys.executable, "-c", code, path, out], capture_output=True, text=True, preexec_fn=limit)
    last = done.stderr.strip().splitlines()[-1]
    assert done.returncode == 1 and "File too large" in last and "01_a.part.ipynb" in last
    assert names(out) == {"01_a.ipynb"} and (out / "01_a.ipynb").read_bytes() == before


def test_the_kernel_is_this_interpreter_whatever_the_user_has(write, tmp_path, monkeypatch) -> None:
    elsewhere = tmp_path / "share" / "kernels" / "python3"
    elsewhere.mkdir(parents=True)
    (elsewhere / "kernel.json").write_text(json.dumps({"argv": ["false"], "display_name": "x", "language": "python"}))
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path / "share"))
    monkeypatch.setenv("MPLBACKEND", "agg")
    monkeypatch.delenv("JUPYTER_PREFER_ENV_PATH")
    outcome = run(write("01_a", f"import sys\nassert sys.executable == {sys.executable!r}", FIGURE), tmp_path / "out")
    assert not outcome.error
    assert "image/png" in nbformat.read(outcome.path, as_version=4).cells[-1].outputs[0].data

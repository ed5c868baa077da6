"""memlib.notebooks, memlib.report and the command line over small made notebooks: what goes wrong is named and kept."""

from __future__ import annotations

import asyncio
import base64
import io
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import filelock
import nbformat
import psutil
import pytest
import zmq.asyncio
from jupyter_client.session import Session
from nbformat import v4
from PIL import Image

from memlib import notebooks as batch
from memlib import report
from memlib.__main__ import main

PARAMETERS = 'profile = "quick"\nseed = 0\nwidth = 3.0\nsets = ["spiral"]'
FIGURE = "import matplotlib.pyplot as plt\n_ = plt.plot([0, width])\nplt.show()"
WIDGET = "import ipywidgets\n_ = ipywidgets.interact(lambda k: print(1 / k), k=ipywidgets.IntSlider({}, 0, 9))"


class Page(HTMLParser):
    """The tags of a page with their attributes, and its text."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data

    def all(self, tag: str, attribute: str) -> list[str]:
        return [attributes.get(attribute) or "" for name, attributes in self.tags if name == tag]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "notebooks"
    folder.mkdir()
    monkeypatch.setattr(batch, "NOTEBOOKS", folder)
    return folder


@pytest.fixture
def write(folder: Path) -> Callable[..., Path]:
    def write_notebook(name: str, *code: str, title: str = "A title", tag: str = "") -> Path:
        cells = [v4.new_markdown_cell(f"# {title}\n\nWith $x^2$."), v4.new_code_cell(PARAMETERS)]
        cells[1].metadata["tags"] = ["parameters"]
        cells += [v4.new_code_cell(source) for source in code]
        if tag:
            cells[-1].metadata["tags"] = [tag]
        kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
        nbformat.write(v4.new_notebook(cells=cells, metadata={"kernelspec": kernel}), folder / f"{name}.ipynb")
        return folder / f"{name}.ipynb"

    return write_notebook


def run(path: Path, out: Path, **parameters: object) -> batch.Outcome:
    out.mkdir(exist_ok=True)
    return batch.run_notebook(path, out, parameters)


def store(out: Path, name: str, html: str = "", title: str = "A title", tag: str = "", error: str = "") -> None:
    """An executed notebook as a run leaves it, without the run."""
    out.mkdir(exist_ok=True)
    outputs = [v4.new_output("display_data", {"text/html": html})] if html else []
    cells = [
        v4.new_markdown_cell(f"# {title}"),
        v4.new_code_cell("1", outputs=outputs, metadata={"tags": [tag] if tag else []}),
    ]
    record = {"seconds": 1.0, "parameters": {"profile": "smoke"}, "error": error}
    nbformat.write(v4.new_notebook(cells=cells, metadata={"memlib": record}), out / f"{name}.ipynb")


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()} - {".lock"}


def test_command_runs_reports_and_names_failures(write, folder, tmp_path, capsys) -> None:
    write("01_good", FIGURE, "assert (profile, seed, width) == ('smoke', 7, 2.0)", title="Good")
    write("02_bad", "print(width)", "1 / 0", title="Bad")
    write("03_after", "assert width == 2", title="After")
    out = tmp_path / "out"
    status = main(["reproduce", "--profile", "smoke", "--set", "seed=7", "--set", "width=2", "--out", str(out)])
    printed = capsys.readouterr()
    assert status == 1
    assert "02_bad failed: cell 4: ZeroDivisionError: division by zero" in printed.err
    assert "01_good" in printed.out and "03_after" in printed.out, "a failure must not stop the others"
    files = {f"{name}.{end}" for name in ("01_good", "02_bad.failed", "03_after") for end in ("ipynb", "html")}
    assert names(out) == files | {"index.html"}
    partial = nbformat.read(out / "02_bad.failed.ipynb", as_version=4)
    assert any("2.0" in output.get("text", "") for c in partial.cells for output in c.get("outputs", []))
    index = Page(out / "index.html")
    assert "1 failed" in index.text and "ZeroDivisionError" in index.text and "profile smoke, seed 7" in index.text
    assert {href for href in index.all("a", "href") if "://" not in href and "#" not in href} == files


def test_success_takes_the_place_of_a_failure_but_not_the_reverse(write, tmp_path) -> None:
    out = tmp_path / "out"
    assert run(write("01_a", "1 / 0"), out).error and names(out) == {"01_a.failed.ipynb"}
    assert not run(write("01_a", "print(1)"), out).error and names(out) == {"01_a.ipynb"}
    before = (out / "01_a.ipynb").read_bytes()
    assert run(write("01_a", "1 / 0"), out).error and names(out) == {"01_a.ipynb", "01_a.failed.ipynb"}
    assert (out / "01_a.ipynb").read_bytes() == before
    report.write_report(out)
    assert "ZeroDivisionError" in Page(out / "index.html").text


def test_error_hidden_in_a_widget_is_a_failure(write, tmp_path) -> None:
    outcome = run(write("01_a", WIDGET.format(0)), tmp_path / "out")
    assert outcome.error == "in a widget: ZeroDivisionError: division by zero"
    assert outcome.path.name == "01_a.failed.ipynb"
    assert not run(write("02_b", WIDGET.format(3)), tmp_path / "out").error


async def heard(path: Path) -> list[bool]:
    """Whether a client hears an answer that comes while it sends a widget's state the same way, three times."""
    context, session, found = zmq.asyncio.Context(), Session(), []
    kernel, client = zmq.Context.shadow(context.underlying).socket(zmq.PAIR), context.socket(zmq.PAIR)
    kernel.bind(f"ipc://{path}")
    client.connect(f"ipc://{path}")
    channel = batch._Channel(client, session)
    for _ in range(3):
        answer = asyncio.ensure_future(channel.get_msg(timeout=60))
        await asyncio.sleep(0.2)
        session.send(kernel, "execute_reply")
        time.sleep(0.2)  # it is here, and the event loop has not looked
        channel.send(session.msg("comm_msg"))
        await asyncio.wait([answer], timeout=5)
        found.append(answer.done())
        answer.cancel()
    kernel.close(0)
    client.close(0)
    context.term()
    return found


def test_an_answer_that_comes_while_a_widgets_state_goes_out_is_heard(tmp_path) -> None:
    """The sending takes along the one signal of the socket, and who waits for that waits for ever."""
    assert asyncio.run(heard(tmp_path / "socket")) == [True] * 3


def test_an_error_that_is_meant_is_none(write, tmp_path) -> None:
    outcome = run(write("01_a", "1 / 0", tag="raises-exception"), tmp_path / "out")
    assert not outcome.error
    assert "exception" not in nbformat.read(outcome.path, as_version=4).cells[0].source, "no marker is left"


def test_a_dead_kernel_is_named_with_its_cell(write, tmp_path) -> None:
    outcome = run(write("01_a", "print(1)", "import os; os._exit(3)", "print(2)"), tmp_path / "out")
    assert outcome.error.startswith("cell 3: DeadKernelError")
    assert names(tmp_path / "out") == {"01_a.failed.ipynb"}
    assert not [p for p in psutil.Process().children() if "ipykernel_launcher" in p.cmdline()]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--profile", "huge"], ["huge", "smoke", "quick", "paper"]),
        (["--notebook", "99_none"], ["99_none", "01_a", "02_b"]),
        (["--notebook", "../notebooks/01_a"], ["../notebooks/01_a"]),
        (["--set", "widht=2"], ["widht", "seed, sets, width"]),
        (["--set", "seed"], ["seed", "key=value"]),
        (["--set", "seed=many"], ["seed", "int", "many"]),
        (["--set", "seed=1.5"], ["seed", "int", "1.5"]),
        (["--set", "sets=spiral"], ["sets", "list", "spiral"]),
        (["--set", "profile=smoke"], ["--profile"]),
    ],
)
def test_bad_arguments_are_named_before_anything_runs(write, tmp_path, capsys, arguments, words) -> None:
    write("01_a", "print(1)")
    write("02_b", "print(1)")
    assert main(["reproduce", "--out", str(tmp_path / "out"), *arguments]) == 2
    message = capsys.readouterr().err
    assert message.count("\n") == 1 and all(word in message for word in words), message
    assert not (tmp_path / "out").exists()


def test_settings_are_read_as_the_type_of_their_default(write) -> None:
    path = write("01_a", "print(1)")
    given = ["seed=3", "width=2", "profile_of=x", 'sets=["a", "b"]']
    with pytest.raises(ValueError, match="profile_of"):
        batch.parse_settings(given, [path])
    assert batch.parse_settings([*given[:2], given[3]], [path]) == {"seed": 3, "width": 2.0, "sets": ["a", "b"]}
    assert batch.known_parameters(path) == {"profile": "quick", "seed": 0, "width": 3.0, "sets": ["spiral"]}


def test_a_name_the_shell_or_papermill_would_read_is_only_a_name(write, folder, tmp_path) -> None:
    name = "01_$(touch pwned);touch pwned {x} 'y"
    out = tmp_path / "out {z}"
    run(write(name, "print(1)"), out)
    report.write_report(out)
    assert names(out) == {f"{name}.ipynb", f"{name}.html", "index.html"}
    assert not list(tmp_path.rglob("pwned"))


def test_report_escapes_what_a_notebook_says(tmp_path) -> None:
    bad = "<script>alert(1)</script>"
    table = f"<table><tr><th>claim</th></tr><tr><td>{bad}C1 &lt;</td></tr></table>"
    store(tmp_path, "08_claims", table, title=bad, tag="verdicts")
    store(tmp_path, "09_raises.failed", error=f"cell 3: ValueError: {bad}")
    index = Page(report.write_report(tmp_path))
    assert "script" not in {tag for tag, _ in index.tags}, "nothing in the index may run"
    assert index.text.count("<script>alert(1)") == 2 and "alert(1)C1 <" in index.text, "all is shown as text"


def test_formulas_are_drawn_by_the_browser_itself(tmp_path) -> None:
    formulas = "Title\n\nIn $a$, as in\n\n$$b^2$$\n\n\\begin{equation}c\\end{equation}\n\nand $\\left($."
    store(tmp_path, "01_a", title=formulas)
    report.write_report(tmp_path)
    page = Page(tmp_path / "01_a.html")
    assert page.all("math", "display") == ["inline", "block", "block"]
    assert "\\left(" in page.text and "$" not in page.text, "as code where it cannot be converted"


def test_verdicts_are_shown_if_there_are_any(tmp_path) -> None:
    table = "<table><tr><th>claim</th><th>verdict</th></tr><tr><td>C1</td><td>not reproduced</td></tr></table>"
    store(tmp_path, "01_a", table, tag="verdicts")
    assert "The claims" not in Page(report.write_report(tmp_path)).text, "only notebook 08 states verdicts"
    store(tmp_path, "08_claims", table, tag="other")
    assert "The claims" not in Page(report.write_report(tmp_path)).text
    store(tmp_path, "08_claims", table, tag="verdicts")
    index = Page(report.write_report(tmp_path))
    assert "The claims" in index.text and "not reproduced" in index.text
    assert [tag for tag, _ in index.tags if tag in ("th", "td")] == ["th", "th", "td", "td"]


def test_pages_hold_their_figures_and_ask_nothing_of_a_network(write, tmp_path) -> None:
    out = tmp_path / "out"
    run(write("01_a", FIGURE, WIDGET.format(3), "plt.figure(figsize=(9, 3)).add_subplot()\nplt.show()"), out)
    report.write_report(out)
    index, page = Page(out / "index.html"), Page(out / "01_a.html")
    thumbnails = index.all("img", "src")
    assert len(thumbnails) == 3, "the leading figure, and each of the two"
    sizes = [Image.open(io.BytesIO(base64.b64decode(uri.split(",", 1)[1]))).size for uri in thumbnails]
    assert max(sizes[0]) > max(sizes[1]) == 220
    anchors = {href.partition("#")[2] for href in index.all("a", "href") if "#" in href}
    assert len(anchors) == 2 and anchors <= {identifier for _, a in page.tags if (identifier := a.get("id"))}
    assert len(page.all("img", "src")) == 2 and all(alt == "A title" for alt in page.all("img", "alt"))
    assert page.all("math", "display") == ["inline"], "formulas are drawn without a script"
    sources = [uri for p in (index, page) for tag in ("script", "img", "link", "iframe") for uri in p.all(tag, "src")]
    assert all(uri.startswith("data:") or not uri for uri in sources)


def test_executed_notebook_says_what_it_was_made_with(write, tmp_path) -> None:
    path = write("01_a", "print(1)")
    done = nbformat.read(run(path, tmp_path / "out", profile="smoke").path, as_version=4)
    record = done.metadata["memlib"]
    assert record["parameters"] == {"profile": "smoke", "seed": 0, "width": 3.0, "sets": ["spiral"]}
    assert record["sources_sha256"] == batch.sources_sha256(nbformat.read(path, as_version=4))
    assert record["sources_sha256"] == batch.sources_sha256(done), "the injected cell is no source"
    assert {"commit", "versions", "hardware", "seconds"} <= set(record) and "torch 2" in record["versions"]
    assert str(tmp_path) not in nbformat.writes(done)
    changed = nbformat.read(path, as_version=4)
    changed.cells[-1].source = "print(2)"
    assert batch.sources_sha256(changed) != record["sources_sha256"]


def test_refresh_fills_in_outputs_and_keeps_them_if_a_cell_fails(write, folder, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(batch, "ROOT", tmp_path)
    path = write("01_a", "print('profile', profile)")
    assert main(["refresh"]) == 0
    nb = nbformat.read(path, as_version=4)
    assert [c.execution_count for c in nb.cells if c.cell_type == "code"] == [1, 2], "nothing is injected"
    assert nb.cells[-1].outputs[0].text == "profile quick\n"
    assert nb.metadata["memlib"]["sources_sha256"] == batch.sources_sha256(nb)
    assert not any("papermill" in node.metadata for node in (nb, *nb.cells))
    write("01_a", "1 / 0")
    before = path.read_bytes()
    assert main(["refresh", "--notebook", "01_a"]) == 1
    assert path.read_bytes() == before and names(folder) == {"01_a.ipynb"}


def test_folder_that_cannot_be_written_is_named(write, tmp_path, capsys) -> None:
    write("01_a", "print(1)")
    (tmp_path / "file").write_text("")
    assert main(["reproduce", "--out", str(tmp_path / "file" / "out")]) == 2
    assert str(tmp_path / "file") in capsys.readouterr().err


def test_full_disk_is_named_and_earlier_results_stay(write, tmp_path) -> None:
    out = tmp_path / "out"
    run(write("01_a", "print(1)"), out)
    before = (out / "01_a.ipynb").read_bytes()
    path = write("01_a", "print('x' * 1_000_000)")
    code = "import sys, pathlib, memlib.notebooks as b; b.run_notebook(*map(pathlib.Path, sys.argv[1:]), {})"
    done = subprocess.run(
        [sys.executable, "-c", code, path, out],
        capture_output=True,
        text=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (500_000, 500_000)),
    )
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("OSError") and "File too large" in last and "01_a.part.ipynb" in last
    assert names(out) == {"01_a.ipynb"} and (out / "01_a.ipynb").read_bytes() == before


def test_two_runs_into_one_folder_do_not_mix(write, tmp_path, capsys) -> None:
    write("01_a", "print(1)")
    out = tmp_path / "out"
    out.mkdir()
    with filelock.FileLock(out / ".lock"):
        assert main(["reproduce", "--out", str(out)]) == 2
    assert "another run" in capsys.readouterr().err
    assert names(out) == set()


def test_kernel_is_this_interpreter_whatever_the_user_has(write, tmp_path, monkeypatch) -> None:
    elsewhere = tmp_path / "share" / "kernels" / "python3"
    elsewhere.mkdir(parents=True)
    (elsewhere / "kernel.json").write_text('{"argv": ["false"], "display_name": "x", "language": "python"}')
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path / "share"))
    monkeypatch.setenv("MPLBACKEND", "agg")
    monkeypatch.delenv("JUPYTER_PREFER_ENV_PATH")
    code = f"import sys\nassert sys.executable == {sys.executable!r}"
    outcome = run(write("01_a", code, FIGURE), tmp_path / "out")
    assert not outcome.error
    assert len(report.figures(nbformat.read(outcome.path, as_version=4))) == 1


def test_report_of_nothing_is_refused(tmp_path) -> None:
    with pytest.raises(FileNotFoundError, match=str(tmp_path)):
        report.write_report(tmp_path)

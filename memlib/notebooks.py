"""The notebooks as a batch: papermill over each of them in one process, then an HTML report over what came out.

A notebook is written to NAME.part.ipynb while it runs. Once it ran through, this becomes NAME.ipynb; if a cell failed,
it becomes NAME.failed.ipynb, as far as it came, and an earlier NAME.ipynb stays as it was.
"""

from __future__ import annotations

import ast
import base64
import errno
import hashlib
import io
import math
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from queue import Empty
from tempfile import TemporaryDirectory
from typing import Any

import filelock
import nbformat
import papermill
from jupyter_client.asynchronous.client import AsyncKernelClient
from jupyter_client.channels import AsyncZMQSocketChannel
from nbclient.exceptions import CellTimeoutError
from nbformat import NotebookNode
from papermill.execute import remove_error_markers
from PIL import Image
from traitlets import Type
from traitlets.config import Config

from memlib.lab.files import naming, write_atomically
from memlib.lab.provenance import ROOT, provenance
from memlib.report import FAILED, figures, write_report

NOTEBOOKS = ROOT / "notebooks"
CELL_TIMEOUT = 12 * 3600  # s; only ends a cell that hangs, since a paper-profile cell may train for hours
WIDGET_STATE = "application/vnd.jupyter.widget-state+json"


class _Channel(AsyncZMQSocketChannel):
    """Looks once a second: an answer that arrives while a widget's state goes out the same way wakes nobody up."""

    async def get_msg(self, timeout: float | None = None) -> dict[str, Any]:
        end = time.monotonic() + (math.inf if timeout is None else timeout)
        while (left := end - time.monotonic()) > 1:
            with suppress(Empty):
                return await super().get_msg(1)
        return await super().get_msg(max(left, 0))


class _Client(AsyncKernelClient):
    shell_channel_class = Type(_Channel)


@dataclass(frozen=True)
class Outcome:
    """How a notebook went: its name, the seconds it took, where it is now, and its error (empty: it ran through)."""

    name: str
    seconds: float
    path: Path
    error: str


def find_notebooks(names: Sequence[str] = ()) -> list[Path]:
    """The notebooks called `names` (file names without .ipynb), in reading order; all if none is named.

    Raises FileNotFoundError if there are no notebooks, ValueError for a name that is none of theirs.
    """
    known = {path.stem: path for path in sorted(NOTEBOOKS.glob("*.ipynb"))}
    if not known:
        raise FileNotFoundError(f"no notebooks in {NOTEBOOKS}: memlib must be installed from a clone, with `make`")
    if unknown := [name for name in names if name not in known]:
        raise ValueError(f"unknown notebook {unknown[0]!r}; there are: {', '.join(known)}")
    return [path for name, path in known.items() if name in names or not names]


def known_parameters(path: Path) -> dict[str, Any]:
    """The names and default values in the notebook's cell tagged `parameters`. Raises ValueError for no notebook."""
    try:
        found = papermill.inspect_notebook(nbformat.read(path, as_version=4))
    except ValueError as error:
        raise ValueError(f"path = {path} is no notebook ({error})") from error
    return {name: ast.literal_eval(parameter["default"]) for name, parameter in found.items()}


def parse_settings(texts: Sequence[str], notebooks: Sequence[Path]) -> dict[str, Any]:
    """Read `key=value` texts as values of the notebooks' parameters.

    Raises ValueError for a text that is no such pair, for a key that none of the notebooks has among its parameters
    (naming those there are), and for a value of another type than the parameter's default.
    """
    known: dict[str, Any] = {}
    for path in notebooks:
        known |= known_parameters(path)
    settings = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not equals:
            raise ValueError(f"{text!r} is not of the form key=value")
        if key == "profile":
            raise ValueError("the profile is given by --profile, not by --set")
        if key not in known:
            raise ValueError(f"unknown parameter {key!r}; there are: {', '.join(sorted(set(known) - {'profile'}))}")
        settings[key] = _literal(key, value, known[key])
    return settings


def reproduce(notebooks: Sequence[Path], parameters: Mapping[str, Any], out: Path) -> Iterator[Outcome]:
    """Run the notebooks one after the other into `out`, write the report over them, and yield how each went.

    Each notebook is given those of `parameters` that it has. One that fails does not stop the others.
    Raises OSError, naming the path, where `out` cannot be written or another run is writing to it.
    """
    out.mkdir(parents=True, exist_ok=True)
    with _locked(out):
        for i, path in enumerate(notebooks, 1):
            own = {key: parameters[key] for key in known_parameters(path) if key in parameters}
            yield run_notebook(path, out, own, label=f"{i}/{len(notebooks)} {path.stem}")
        write_report(out)


def refresh(notebooks: Sequence[Path]) -> Iterator[Outcome]:
    """Execute the notebooks as they stand and put the outputs in them, pictures in 256 colours at a third of the size;
    one that fails keeps the outputs it had."""
    build = ROOT / "build" / "notebooks"
    build.mkdir(parents=True, exist_ok=True)
    with _locked(build):
        for i, path in enumerate(notebooks, 1):
            outcome = run_notebook(path, build, {}, label=f"{i}/{len(notebooks)} {path.stem}")
            if not outcome.error:
                nb = nbformat.read(outcome.path, as_version=4)
                for figure in figures(nb):
                    figure.output.data["image/png"] = _in_256_colours(figure.png)
                write_atomically(path, nbformat.writes(nb) + "\n")
            yield outcome


def run_notebook(path: Path, out: Path, parameters: Mapping[str, Any], label: str = "") -> Outcome:
    """Execute one notebook in its own folder, with `parameters` injected; see the module for the names of the files.

    Not only a cell that raises is a failure, but also an error that a widget's callback left in the widget's state.
    The executed notebook says in `metadata.memlib` what it was made from and with. Raises OSError, naming the path,
    where the file cannot be written.
    """
    part, done, failed = (out / f"{path.stem}{end}.ipynb" for end in (".part", "", FAILED))
    source = nbformat.read(path, as_version=4)
    record = {
        "parameters": known_parameters(path) | dict(parameters),
        "sources_sha256": sources_sha256(source),
        **provenance(),
    }
    for stale in ("memlib", "papermill", "widgets"):
        source.metadata.pop(stale, None)
    started = time.monotonic()
    try:
        trouble = _execute(source, part, parameters, path.parent, label)
        nb = nbformat.read(part, as_version=4)
        error = trouble or "; ".join(errors_in(nb))
        if not error:
            nb = remove_error_markers(nb)  # papermill marks errors that are meant to be there, too
        for node in (nb, *nb.cells):  # what was noted on the way: absolute paths, times that change with every run
            for note in ("papermill", "execution"):
                node.metadata.pop(note, None)
        seconds = round(time.monotonic() - started, 1)
        nb.metadata["memlib"] = record | {"seconds": seconds} | ({"error": error} if error else {})
        write_atomically(failed if error else done, nbformat.writes(nb) + "\n")
    finally:
        part.unlink(missing_ok=True)
    if not error:
        for old in (failed, failed.with_suffix(".html")):
            old.unlink(missing_ok=True)
    return Outcome(path.stem, seconds, failed if error else done, error)


def errors_in(nb: NotebookNode) -> list[str]:
    """The errors an executed notebook holds: in its outputs, and in the state of its widgets, where papermill is blind.

    An error in a cell tagged `raises-exception` is meant to be there.
    """
    found = []
    for cell in nb.cells:
        if cell.cell_type == "code" and "raises-exception" not in cell.metadata.get("tags", []):
            errors = [output for output in cell.outputs if output.output_type == "error"]
            found += [f"cell {cell.execution_count}: {e.ename}: {e.evalue}" for e in errors]
    for model in nb.metadata.get("widgets", {}).get(WIDGET_STATE, {}).get("state", {}).values():
        errors = [output for output in model["state"].get("outputs", []) if output.get("output_type") == "error"]
        found += [f"in a widget: {e['ename']}: {e['evalue']}" for e in errors]
    return found


def sources_sha256(nb: NotebookNode) -> str:
    """A digest of the notebook's code: outputs belong to it as long as it stays the same."""
    code = [c.source for c in nb.cells if c.cell_type == "code" and not _injected(c)]
    return hashlib.sha256("\0".join(code).encode()).hexdigest()


def _execute(nb: NotebookNode, part: Path, parameters: Mapping[str, Any], folder: Path, label: str) -> str:
    """Run it into `part`; what befell the kernel, or nothing. What cells raised stands in the file."""
    bar = {"desc": label, "leave": False, "disable": None}  # None: no bar where nobody is watching
    target = str(part.resolve()).replace("{", "{{").replace("}", "}}")  # papermill fills in the braces of a path
    try:
        # sockets that are files: a free port may be another process's by the time that the kernel binds it
        with TemporaryDirectory(prefix="memlib-") as sockets, naming(part), _kernel_environment():
            manager = {"transport": "ipc", "ip": f"{sockets}/kernel", "client_class": f"{__name__}.{_Client.__name__}"}
            papermill.execute_notebook(
                nb,
                target,
                dict(parameters),
                kernel_name="python3",
                progress_bar=bar,
                cwd=folder,
                start_timeout=300,
                config=Config(KernelManager=manager),
                execution_timeout=CELL_TIMEOUT,
            )
    except papermill.PapermillExecutionError:
        return ""
    except (RuntimeError, CellTimeoutError) as e:  # the kernel died, did not start, or hung
        started = [c for c in nbformat.read(part, as_version=4).cells if c.metadata.papermill.get("start_time")]
        count = sum(c.cell_type == "code" for c in started)
        return f"cell {count}: {type(e).__name__}: {str(e).strip()}"
    return ""


def _in_256_colours(png: bytes) -> str:
    picture, file = Image.open(io.BytesIO(png)).convert("RGB"), io.BytesIO()
    picture.quantize(256, Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE).save(file, "png", optimize=True)
    return base64.b64encode(file.getvalue()).decode()


def _literal(key: str, text: str, default: Any) -> Any:
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError):
        value = text  # so that a word needs no quotes inside the shell's
    if isinstance(default, str) and not isinstance(value, str):
        value = text
    if isinstance(default, float) and type(value) is int:
        value = float(value)
    if type(value) is not type(default):
        raise ValueError(
            f"parameter {key!r} takes a {type(default).__name__}, like {default!r}, but was given {text!r}"
        )
    return value


@contextmanager
def _kernel_environment() -> Iterator[None]:
    """For the kernels: this interpreter's own, whatever else is installed; one thread each; pictures inline."""
    before = dict(os.environ)
    os.environ.update(JUPYTER_PREFER_ENV_PATH="1", MPLBACKEND="module://matplotlib_inline.backend_inline")
    os.environ.pop("JUPYTER_PATH", None)
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Two runs into one folder would mix their files."""
    lock = filelock.FileLock(folder / ".lock", timeout=0)
    try:
        lock.acquire()
    except filelock.Timeout as e:
        raise BlockingIOError(errno.EAGAIN, "another run is writing here", str(folder)) from e
    try:
        yield
    finally:
        lock.release()


def _injected(cell: NotebookNode) -> bool:
    return "injected-parameters" in cell.metadata.get("tags", [])

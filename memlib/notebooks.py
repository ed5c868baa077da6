"""Run the notebooks as a batch: papermill executes each of them in one process, then docs/build.py makes the site.

A notebook that is running is NAME.part.ipynb. When it has run through, this becomes NAME.ipynb. If a cell fails, it
becomes NAME.failed.ipynb, as far as it came, and an earlier NAME.ipynb stays.
"""

from __future__ import annotations

import ast
import base64
import errno
import hashlib
import io
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import filelock
import nbformat
import papermill
from jupyter_client.asynchronous.client import AsyncKernelClient
from jupyter_client.channels import AsyncZMQSocketChannel
from nbformat import NotebookNode
from papermill.execute import remove_error_markers
from PIL import Image
from traitlets import Type
from traitlets.config import Config

from memlib.lab.files import write_atomically
from memlib.lab.provenance import provenance

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOKS = ROOT / "notebooks"
WIDGET_STATE = "application/vnd.jupyter.widget-state+json"
# what JupyterLab and the site fold, by the tags of the cell
FOLDED = {"solution": ("source", "outputs"), "prediction": ("outputs",), "setup": ("source",), "plot": ("source",)}


class _Channel(AsyncZMQSocketChannel):
    """Looks once a second. jupyter_client (8.10) sends by the raw socket, which uses up its one signal: if the kernel
    answers while nbclient sends the state of an Output widget, the answer wakes nobody, and the cell would hang."""

    async def get_msg(self, timeout: float | None = None) -> dict[str, Any]:  # type: ignore[override]
        while timeout is None and not await self.socket.poll(1000):
            pass
        return await super().get_msg(timeout)


class _Client(AsyncKernelClient):
    shell_channel_class = Type(_Channel)


@dataclass(frozen=True)
class Outcome:
    """How a notebook, or the site, went: its seconds, where it is, and its error (empty: it ran through)."""

    name: str
    seconds: float
    path: Path
    error: str


def find_notebooks(names: Sequence[str] = ()) -> list[Path]:
    """The notebooks of these names (without .ipynb) in reading order; all if none is named."""
    known = {path.stem: path for path in sorted(NOTEBOOKS.glob("*.ipynb"))}
    if not known:
        raise FileNotFoundError(f"no notebooks in {NOTEBOOKS}: this command needs a clone of the repository")
    if unknown := [name for name in names if name not in known]:
        raise ValueError(f"unknown notebook {unknown[0]!r}; there are: {', '.join(known)}")
    return [path for name, path in known.items() if name in names or not names]


def known_parameters(path: Path) -> dict[str, Any]:
    """The names and default values in the notebook's cell tagged `parameters`."""
    found = papermill.inspect_notebook(nbformat.read(path, as_version=4))
    return {name: ast.literal_eval(parameter["default"]) for name, parameter in found.items()}


def parse_settings(texts: Sequence[str], notebooks: Sequence[Path]) -> dict[str, Any]:
    """Read texts of one or more `key=value`, separated by spaces, as values of the notebooks' parameters.

    A value may hold spaces, as in "plan=width out=my folder", but no word with "=" in it.
    """
    known = {name: default for path in notebooks for name, default in known_parameters(path).items()}
    settings: dict[str, Any] = {}
    for pair in (pair for text in texts for pair in re.split(r"\s+(?=\w+=)", text.strip())):
        key, equals, text = pair.partition("=")
        if not equals or key == "profile" or key not in known:
            names = ", ".join(sorted(set(known) - {"profile"}))
            raise ValueError(f"--set {pair!r}: need key=value with a key of {names} (and --profile for the profile)")
        default = known[key]
        try:
            value = text if isinstance(default, str) else ast.literal_eval(text)
        except (ValueError, SyntaxError):
            value = text
        value = float(value) if isinstance(default, float) and type(value) is int else value
        if type(value) is not type(default):
            raise ValueError(f"--set {pair!r}: {key} takes a {type(default).__name__}, like {default!r}")
        settings[key] = value
    return settings


def reproduce(notebooks: Sequence[Path], parameters: Mapping[str, Any], out: Path) -> Iterator[Outcome]:
    """Run the notebooks into `out`, write the site over them there, and yield how each went, the site last.

    Each notebook is given those of `parameters` that it has. One that fails does not stop the others.
    """
    if out.resolve() == NOTEBOOKS.resolve():
        raise ValueError(f"--out {out} holds the notebooks themselves; name another folder")
    with _locked(out):
        for i, path in enumerate(notebooks, 1):
            own = {key: parameters[key] for key in known_parameters(path) if key in parameters}
            yield run_notebook(path, out, own, label=f"{i}/{len(notebooks)} {path.stem}")
        started = time.monotonic()
        code = subprocess.run([sys.executable, ROOT / "docs" / "build.py", out, out]).returncode
        error = "it could not be built; Sphinx's messages stand above" if code else ""
        yield Outcome("site", time.monotonic() - started, out / "index.html", error)


def refresh(notebooks: Sequence[Path]) -> Iterator[Outcome]:
    """Execute the committed notebooks as they are and store the outputs in them: folded by their tags, pictures in 256
    colours (a third of the size). One that fails keeps the outputs it had."""
    with _locked(build := ROOT / "build" / "notebooks"):
        for i, path in enumerate(notebooks, 1):
            outcome = run_notebook(path, build, {}, label=f"{i}/{len(notebooks)} {path.stem}")
            if not outcome.error:
                nb = nbformat.read(outcome.path, as_version=4)
                for cell in nb.cells:
                    if parts := folded(cell):
                        cell.metadata["jupyter"] = {f"{part}_hidden": True for part in sorted(parts)}
                    for data in (output.get("data", {}) for output in cell.get("outputs", [])):
                        data |= {"image/png": _in_256_colours(data["image/png"])} if "image/png" in data else {}
                write_atomically(path, nbformat.writes(nb) + "\n")
            yield outcome


def folded(cell: NotebookNode) -> set[str]:
    """Those of a cell's parts, `source` and `outputs`, that a reader has to open."""
    return {part for tag in cell.metadata.get("tags", []) for part in FOLDED.get(tag, ())}


def run_notebook(path: Path, out: Path, parameters: Mapping[str, Any], label: str = "") -> Outcome:
    """Execute one notebook with `parameters` injected, its kernel in the caller's folder. See above for its file.

    `metadata.memlib` says what it was made from and with. An error in a widget's callback is a failure, too.
    """
    part, done, failed = (out / f"{path.stem}{end}.ipynb" for end in (".part", "", ".failed"))
    nb, started = nbformat.read(path, as_version=4), time.monotonic()
    record = {"parameters": known_parameters(path) | dict(parameters), "sources_sha256": sources_sha256(nb)}
    for stale in ("memlib", "papermill", "widgets"):
        nb.metadata.pop(stale, None)
    try:
        trouble = _execute(nb, part, parameters, label)
        nb = nbformat.read(part, as_version=4)
        error = trouble or "; ".join(errors_in(nb))
        nb = nb if error else remove_error_markers(nb)  # papermill also marks errors that are meant to be there
        for node in (nb, *nb.cells):  # absolute paths, and times that change with every run
            for note in ("papermill", "execution"):
                node.metadata.pop(note, None)
        seconds = round(time.monotonic() - started, 1)
        nb.metadata["memlib"] = record | provenance() | {"seconds": seconds} | ({"error": error} if error else {})
        write_atomically(failed if error else done, nbformat.writes(nb) + "\n")
    except OSError as e:  # of a full disk, which does not say where
        raise OSError(e.errno, e.strerror or str(e), str(e.filename or part)) from e
    finally:
        part.unlink(missing_ok=True)
    if not error:
        failed.unlink(missing_ok=True)
    return Outcome(path.stem, seconds, failed if error else done, error)


def errors_in(nb: NotebookNode) -> list[str]:
    """The errors in an executed notebook's outputs, and in the state of its widgets, which papermill does not see.

    An error in a cell tagged `raises-exception` is meant to be there.
    """
    code = [c for c in nb.cells if c.cell_type == "code" and "raises-exception" not in c.metadata.get("tags", [])]
    found = [(f"cell {cell.execution_count}", output) for cell in code for output in cell.outputs]
    for model in nb.metadata.get("widgets", {}).get(WIDGET_STATE, {}).get("state", {}).values():
        found += [("in a widget", output) for output in model["state"].get("outputs", [])]
    return [f"{where}: {e['ename']}: {e['evalue']}" for where, e in found if e.get("output_type") == "error"]


def sources_sha256(nb: NotebookNode) -> str:
    """A digest of the notebook's code: outputs belong to it as long as it stays the same."""
    code = [c for c in nb.cells if c.cell_type == "code" and "injected-parameters" not in c.metadata.get("tags", [])]
    return hashlib.sha256("\0".join(cell.source for cell in code).encode()).hexdigest()


def _execute(nb: NotebookNode, part: Path, parameters: Mapping[str, Any], label: str) -> str:
    """Run it into `part`; what happened to the kernel, or nothing. What cells raised is in the file."""
    # the kernel is this interpreter's own, whatever else is installed, on one thread, with pictures inline
    os.environ |= {"JUPYTER_PREFER_ENV_PATH": "1", "MPLBACKEND": "module://matplotlib_inline.backend_inline"}
    os.environ.pop("JUPYTER_PATH", None)
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    bar = {"desc": label, "leave": False, "disable": None}  # None: no bar where nobody is watching
    with TemporaryDirectory(prefix="memlib-") as sockets:
        manager = {"client_class": f"{__name__}.{_Client.__name__}"}
        if (
            len(sockets) < 80
        ):  # else no path of a socket: of a port another process may take hold before the kernel does
            manager |= {"transport": "ipc", "ip": f"{sockets}/kernel"}
        try:
            papermill.execute_notebook(
                nb, str(part.resolve()).replace("{", "{{").replace("}", "}}"),  # papermill fills in braces of a path
                dict(parameters), kernel_name="python3", start_timeout=300, config=Config(KernelManager=manager),
                progress_bar=bar,  # pyright: ignore[reportArgumentType]
            )  # fmt: skip
        except papermill.PapermillExecutionError:
            return ""
        except RuntimeError as e:  # the kernel died or did not start
            cells = [c for c in nbformat.read(part, as_version=4).cells if c.metadata.papermill.get("start_time")]
            return f"cell {sum(c.cell_type == 'code' for c in cells)}: {type(e).__name__}: {str(e).strip()}"
    return ""


def _in_256_colours(png: str) -> str:
    picture, file = Image.open(io.BytesIO(base64.b64decode(png))).convert("RGB"), io.BytesIO()
    picture.quantize(256, Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE).save(file, "png", optimize=True)
    return base64.b64encode(file.getvalue()).decode()


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Two batches in one folder would mix their files."""
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with filelock.FileLock(folder / ".lock", timeout=0):
            yield
    except filelock.Timeout as e:
        raise BlockingIOError(errno.EAGAIN, "another run is writing here", str(folder)) from e

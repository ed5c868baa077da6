"""Run the notebooks as a batch: papermill executes each of them in one process, then docs/build.py makes the site.

A notebook that is running is NAME.part.ipynb. When it has run through, this becomes NAME.ipynb. If a cell fails, it
becomes NAME.failed.ipynb, as far as it came, and an earlier NAME.ipynb stays."""

import ast
import hashlib
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import unescape
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import nbformat
import papermill
from filelock import FileLock
from nbformat import NotebookNode
from papermill.execute import remove_error_markers
from traitlets.config import Config

from memlib.lab.files import ROOT, naming, write_atomically
from memlib.lab.provenance import provenance

NOTEBOOKS = ROOT / "notebooks"
STATE, VIEW = (f"application/vnd.jupyter.widget-{part}+json" for part in ("state", "view"))
# what JupyterLab and the site fold, by the tags of the cell
FOLDED = {"solution": ("source", "outputs"), "prediction": ("outputs",), "setup": ("source",), "plot": ("source",)}


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

    A value may hold spaces, as in "plan=width out=my folder", but no word with "=" in it."""
    known = {name: default for path in notebooks for name, default in known_parameters(path).items()}
    settings: dict[str, Any] = {}
    for pair in (pair for text in texts for pair in re.split(r"\s+(?=\w+=)", text.strip())):
        key, equals, value = pair.partition("=")
        if not equals or key == "profile" or key not in known:
            names = ", ".join(sorted(set(known) - {"profile"}))
            raise ValueError(f"--set {pair!r}: need key=value with a key of {names} (and --profile for the profile)")
        kind = type(known[key])
        try:
            settings[key] = kind(value) if kind in (str, int, float) else ast.literal_eval(value)
        except (ValueError, SyntaxError) as error:
            raise ValueError(f"--set {pair!r}: {key} takes a {kind.__name__}, like {known[key]!r}") from error
    return settings


def reproduce(notebooks: Sequence[Path], parameters: Mapping[str, Any], out: Path) -> Iterator[Outcome]:
    """Run the notebooks into `out`, write the site over them there, and yield how each went, the site last.

    Each notebook is given those of `parameters` that it has. One that fails does not stop the others."""
    if out.resolve() == NOTEBOOKS.resolve():
        raise ValueError(f"--out {out} holds the notebooks themselves; name another folder")
    out.mkdir(parents=True, exist_ok=True)
    with FileLock(out / ".lock", timeout=0):  # two batches in one folder would mix their files
        for i, path in enumerate(notebooks, 1):
            own = {key: parameters[key] for key in known_parameters(path) if key in parameters}
            yield run_notebook(path, out, own, label=f"{i}/{len(notebooks)} {path.stem}")
        started = time.monotonic()
        code = subprocess.run([sys.executable, ROOT / "docs" / "build.py", out, out]).returncode
        error = "it could not be built; Sphinx's messages stand above" if code else ""
        yield Outcome("site", time.monotonic() - started, out / "index.html", error)


def refresh(notebooks: Sequence[Path]) -> Iterator[Outcome]:
    """Execute the committed notebooks as they are and store the outputs in them: folded by their tags, pictures in 64
    colours, which keeps each under 1.5 MB. One that fails keeps the outputs it had."""
    build = ROOT / "build" / "notebooks"
    build.mkdir(parents=True, exist_ok=True)
    with FileLock(build / ".lock", timeout=0):
        for i, path in enumerate(notebooks, 1):
            outcome = run_notebook(path, build, {}, label=f"{i}/{len(notebooks)} {path.stem}")
            if not outcome.error:
                nb = nbformat.read(outcome.path, as_version=4)
                for cell in nb.cells:
                    if parts := folded(cell):
                        cell.metadata["jupyter"] = {f"{part}_hidden": True for part in sorted(parts)}
                write_atomically(path, nbformat.writes(nb) + "\n")
            yield outcome


def tell(outcomes: Iterable[Outcome]) -> int:
    """Print a line for each notebook as it comes, and in the end what went wrong; 1 if anything did."""
    failed = []
    for one in outcomes:
        print(f"{one.seconds:7.1f} s  {one.name:24} {'FAILED' if one.error else one.path}", flush=True)
        failed += [one] if one.error else []
    for one in failed:
        print(f"{one.name} failed: {one.error}\n    as far as it came: {one.path}", file=sys.stderr)
    return int(bool(failed))


def folded(cell: NotebookNode) -> set[str]:
    """Those of a cell's parts, `source` and `outputs`, that a reader has to open."""
    return {part for tag in cell.metadata.get("tags", []) for part in FOLDED.get(tag, ())}


def run_notebook(path: Path, out: Path, parameters: Mapping[str, Any], label: str = "") -> Outcome:
    """Execute one notebook with `parameters` injected, its kernel in the caller's folder. See above for its file.

    `metadata.memlib` says what it was made from and with. An error in a widget's callback is a failure, too."""
    part, done, failed = (out / f"{path.stem}{end}.ipynb" for end in (".part", "", ".failed"))
    nb, started = nbformat.read(path, as_version=4), time.monotonic()
    record = {"parameters": known_parameters(path) | dict(parameters), "sources_sha256": sources_sha256(nb)}
    for stale in ("memlib", "papermill", "widgets"):
        nb.metadata.pop(stale, None)
    try:
        with naming(part):  # where the disk is full
            error = _execute(nb, part, parameters, label)
            nb = nbformat.read(part, as_version=4)
            error = error or "; ".join(errors_in(nb))
            nb = without_widgets(nb if error else remove_error_markers(nb))  # papermill marks meant errors, too
            for node in (nb, *nb.cells):  # absolute paths, and times that change with every run
                for note in ("papermill", "execution"):
                    node.metadata.pop(note, None)
            seconds = round(time.monotonic() - started, 1)
            nb.metadata["memlib"] = record | provenance() | {"seconds": seconds} | ({"error": error} if error else {})
            write_atomically(failed if error else done, nbformat.writes(nb) + "\n")
    finally:
        part.unlink(missing_ok=True)
    if not error:
        failed.unlink(missing_ok=True)
    return Outcome(path.stem, seconds, failed if error else done, error)


def errors_in(nb: NotebookNode) -> list[str]:
    """The errors in a notebook's outputs and in the state of its widgets, which papermill does not see; not those of
    cells tagged `raises-exception`."""
    code = [c for c in nb.cells if c.cell_type == "code" and "raises-exception" not in c.metadata.get("tags", [])]
    found = [(f"cell {cell.execution_count}", output) for cell in code for output in cell.outputs]
    for model in nb.metadata.get("widgets", {}).get(STATE, {}).get("state", {}).values():
        found += [("in a widget", output) for output in model["state"].get("outputs", [])]
        if shown := re.fullmatch(r"<p><b>(\w+)</b>: (.*)</p>", str(model["state"].get("value")), re.S):  # by a Panel
            found.append(("in a widget", {"ename": shown[1], "evalue": unescape(shown[2])}))
    return [f"{where}: {output['ename']}: {output['evalue']}" for where, output in found if "ename" in output]


def without_widgets(nb: NotebookNode) -> NotebookNode:
    """The notebook as one reads it without a kernel: explorers' text, no progress bars, no controls that are dead."""
    nb.metadata.pop("widgets", None)
    for cell in (cell for cell in nb.cells if cell.cell_type == "code"):
        live = [output for output in cell.outputs if output.get("data", {}).pop(VIEW, None)]
        cell.outputs = [output for output in cell.outputs if output not in live or "text/html" in output.data]
    return nb


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
    bar: Any = {"desc": label, "leave": False, "disable": None}  # None: no bar where nobody is watching
    path = str(part.resolve()).replace("{", "{{").replace("}", "}}")  # papermill fills in braces of a path
    with TemporaryDirectory(prefix="memlib-") as sockets:
        # of a port another process may take hold before the kernel does; a socket's path must be short
        own = {"transport": "ipc", "ip": f"{sockets}/kernel"} if len(sockets) < 80 else {}
        given: dict[str, Any] = {"kernel_name": "python3", "start_timeout": 300, "progress_bar": bar}
        try:
            papermill.execute_notebook(nb, path, dict(parameters), config=Config(KernelManager=own), **given)
        except papermill.PapermillExecutionError:
            return ""
        except RuntimeError as e:  # the kernel died or did not start
            cells = [c for c in nbformat.read(part, as_version=4).cells if c.metadata.papermill.get("start_time")]
            return f"cell {sum(c.cell_type == 'code' for c in cells)}: {type(e).__name__}: {str(e).strip()}"
    return ""

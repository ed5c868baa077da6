"""Where memlib's files are, and writes that readers never see half done."""

import json
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
CLONE = (ROOT / "data" / "emoji.json").is_file()  # else memlib is installed, with its data in the package
DATA = ROOT / "data" if CLONE else ROOT / "memlib" / "_data"


def home() -> Path:
    """The folder for what memlib downloads and makes: the clone, or the user's cache folder without a clone."""
    if CLONE:
        return ROOT
    from platformdirs import user_cache_path  # here, as a machine that runs from the tree may lack it

    return user_cache_path("memlib")


def folder_from(variable: str) -> Path | None:
    """The folder that an environment variable names. A relative path is resolved once, for child processes too."""
    if value := os.environ.get(variable):
        os.environ[variable] = value = os.path.abspath(os.path.expanduser(value))
    return Path(value) if value else None


def write_atomically(path: Path, content: str | bytes) -> None:
    """Write beside `path`, sync and rename, so that readers see the old file or the new one."""
    part = path.with_name(path.name + ".part")
    try:
        with naming(path), part.open("wb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def write_between(path: Path, marks: tuple[str, str], text: str) -> None:
    """Replace what stands between two marks of a text file."""
    before, start, rest = path.read_text(encoding="utf-8").partition(marks[0])
    _, end, after = rest.partition(marks[1])
    if not end:
        raise ValueError(f"{path} lacks the marks {marks[0]} and {marks[1]}, between which the text goes")
    write_atomically(path, f"{before}{start}\n{text}\n{end}{after}")


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Add `path` to an error of the disk that names no file, such as a full disk."""
    try:
        yield
    except OSError as error:
        if error.errno and not error.filename:
            raise OSError(error.errno, error.strerror, str(path)) from error
        raise


def read_lines(path: Path, fields: Iterable[str] = ()) -> Iterator[Any]:
    """The JSON value of each line. One cut short by a kill is left out; other damage or a missing field is named."""
    for number, text in enumerate(_whole(path.read_bytes()).split(b"\n")[:-1], 1):
        try:
            line = json.loads(text, parse_constant=int)  # which refuses NaN
            if lacking := ", ".join(name for name in fields if name not in line):
                raise ValueError(f"it lacks {lacking}")
        except (TypeError, ValueError) as error:
            raise ValueError(f"{path}, line {number} is damaged: {error}; restore it or remove the line") from error
        yield line


def append_line(path: Path, line: bytes) -> None:
    """Add a line to a file that other processes append to as well (hold its lock), and drop what a kill left of one."""
    with naming(path), path.open("ab") as file:
        whole = _whole(held := path.read_bytes())
        file.truncate(min(len(whole), len(held)))
        file.write(whole[len(held) :] + line + b"\n")
        file.flush()
        os.fsync(file.fileno())


def _whole(held: bytes) -> bytes:
    """The lines, without a last one that was cut short; one that lacks its line break only (an editor's) gets it."""
    cut = held.rfind(b"\n") + 1
    try:
        json.loads(held[cut:])
    except ValueError:
        return held[:cut]
    return held + b"\n"

"""Files that are whole or not there."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def write_atomically(path: Path, content: str | bytes) -> None:
    """Write to a name beside `path`, sync and rename, so that a reader sees the old file or the new one, never a half.

    Raises OSError, naming the path, where it cannot be written; nothing of the attempt stays.
    """
    part = path.with_name(path.name + ".part")
    try:
        with part.open("wb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error
    finally:
        part.unlink(missing_ok=True)


def write_between(path: Path, marks: tuple[str, str], text: str) -> None:
    """Put `text` between two marks of a text file, in place of what is there.

    Raises ValueError where the file has no such marks, and as `write_atomically` does.
    """
    before, start, rest = path.read_text(encoding="utf-8").partition(marks[0])
    _, end, after = rest.partition(marks[1])
    if not end:
        raise ValueError(f"{path} lacks the marks {marks[0]} and {marks[1]}, between which the text goes")
    write_atomically(path, f"{before}{start}\n{text}\n{end}{after}")


def sync(path: Path) -> None:
    """Wait until a file's content, or a folder's names, are on the disk. Raises OSError."""
    if path.is_dir() and os.name == "nt":  # Windows cannot open a folder
        return
    handle = os.open(path, os.O_RDWR if path.is_file() else os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """A write that fails half-way (a full disk) does not say where: name the path."""
    try:
        yield
    except TimeoutError:  # nbclient's timeout of a cell, an OSError by descent only
        raise
    except OSError as e:
        raise OSError(e.errno, e.strerror or str(e), str(e.filename or path)) from e

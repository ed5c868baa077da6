"""Downloads that are resumed or restarted cleanly, checked by hash before use, and made ready in one step.

`obtain` builds a folder under a temporary name, under a lock, and renames it when it is whole; `fetch` brings one file;
`read_members` reads archives without ever writing a member to disk by its own name; `pip_wheel` lets pip fetch a wheel.
A source that fails raises `DownloadError`; what is wrong with this machine's disk is an `OSError` that names the path.
"""

from __future__ import annotations

import errno
import gzip
import hashlib
import lzma
import os
import shutil
import stat
import subprocess
import sys
import tarfile
import time
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path, PureWindowsPath
from typing import Any

from filelock import FileLock
from tqdm.auto import tqdm

from memlib.lab.files import sync

TIMEOUT = (10.0, 30.0)  # seconds to connect, seconds without a byte: a machine without network must fail over quickly
TRIES = 4  # of a transfer that breaks off; a source that does not answer at all is not asked again
PAUSE = 1.0  # seconds before the second try; doubles
SUMS = "SHA256SUMS"
# what the archive modules raise for a file that is damaged, cut short, encrypted or no archive at all
BROKEN = (zipfile.BadZipFile, tarfile.TarError, gzip.BadGzipFile, zlib.error, lzma.LZMAError, EOFError, RuntimeError)


class DownloadError(ConnectionError):
    """A source did not give what was expected of it; the message names the source and what was wrong."""


class _Dropped(DownloadError):
    """The transfer broke off, and asking again may help."""


def digest_of(path: Path, algorithm: str = "sha256") -> str:
    """Hash of a file as "algorithm:hex"; algorithm is any of hashlib's, or "git-sha1", the id that git gives it."""
    with path.open("rb") as file:
        if algorithm == "git-sha1":
            git = hashlib.sha1(b"blob %d\0" % path.stat().st_size, usedforsecurity=False)
            return f"{algorithm}:{hashlib.file_digest(file, lambda: git).hexdigest()}"
        return f"{algorithm}:{hashlib.file_digest(file, algorithm).hexdigest()}"


def obtain(folder: Path, files: Sequence[str], build: Callable[[Path], None], *, keep: str = "") -> Path:
    """Return `folder` holding exactly `files`, each checked against the hashes recorded when it was made ready.

    If it is not there, `build(work)` fills an empty folder beside it, which is renamed to `folder` when whole: a folder
    that exists is complete. A lock (`folder.lock`, an empty file that stays) lets one process build while others wait.
    When `build` fails nothing of it stays, unless there is a file named `keep`: then it is as if the process had been
    killed, and the next `build` finds what was done, as `fetch` does.
    Raises as `verify`, OSError naming the path where the disk is full or not writable, and whatever `build` raises.
    """
    if not folder.is_dir():
        folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{folder}.lock"):
            if not folder.is_dir():
                _build(folder, files, build, keep)
    return verify(folder, files)


def verify(folder: Path, files: Sequence[str]) -> Path:
    """The folder, if it holds `files` as they were made ready; else it is removed, and ValueError raised."""
    if _damage(folder, files):
        with FileLock(f"{folder}.lock"):  # of two that see it one removes it, and never one that a third made anew
            if damage := _damage(folder, files):
                if folder.is_dir():
                    shutil.rmtree(folder)
                raise ValueError(f"{folder} was damaged ({damage}) and has been removed; load again to rebuild it")
    return folder


def _damage(folder: Path, files: Sequence[str]) -> str:
    try:
        recorded = dict(line.split("  ")[::-1] for line in (folder / SUMS).read_text().splitlines())
        return ", ".join(name for name in files if digest_of(folder / name) != f"sha256:{recorded.get(name)}")
    except (FileNotFoundError, ValueError) as error:
        return str(error)


def _build(folder: Path, files: Sequence[str], build: Callable[[Path], None], keep: str) -> None:
    work = folder.with_name(folder.name + ".part")
    try:
        work.mkdir(exist_ok=True)
        build(work)
        for path in work.iterdir():
            if path.name not in files:
                shutil.rmtree(path) if path.is_dir() else path.unlink()
        (work / SUMS).write_text("".join(f"{digest_of(work / name)[7:]}  {name}\n" for name in files))
        for path in (*work.iterdir(), work):  # the names too must be on the disk before the folder counts as whole
            sync(path)
        os.replace(work, folder)
        sync(folder.parent)
    except Exception as error:
        if not (keep and (work / keep).exists()):
            shutil.rmtree(work, ignore_errors=True)
        if isinstance(error, OSError) and error.errno is not None and error.filename is None:
            raise OSError(error.errno, f"{error.strerror} (nothing unfinished was kept)", str(folder)) from error
        raise


def fetch(url: str, path: Path, *, digest: str | None = None, max_bytes: int = 2**30, bar: bool = True) -> Path:
    """Download `url` to `path`, through `path.part`; `digest` is "sha256:hex", "md5:hex" or "git-sha1:hex".

    With a digest, a file that is already there and matches is kept, and a transfer that broke off is resumed where it
    stopped; without one it starts again, since the beginning of an unknown file cannot be trusted.
    Raises DownloadError (no answer, HTTP error, truncated, over max_bytes, wrong hash, MEMLIB_OFFLINE set), leaving no
    file behind; an interrupted process leaves the `.part` for the next call.
    """
    _refuse_if_offline(url)
    algorithm = digest.split(":")[0] if digest else "sha256"
    if digest and path.is_file() and digest_of(path, algorithm) == digest:
        return path
    part = path.with_name(path.name + ".part")
    try:
        for attempt in range(TRIES):
            begun = part.stat().st_size if digest and part.exists() else 0
            try:
                _stream(url, part, begun, max_bytes, bar)
            except _Dropped:
                if attempt == TRIES - 1:
                    raise
                time.sleep(PAUSE * 2**attempt)
                continue
            found = digest_of(part, algorithm)
            if digest is None or found == digest:
                os.replace(part, path)
                return path
            part.unlink()
            if not begun:  # else the beginning belonged to another file: once more, from zero
                break
        raise DownloadError(f"{url}: has {found}, expected {digest}")
    except Exception:
        part.unlink(missing_ok=True)
        raise


def _stream(url: str, part: Path, begun: int, max_bytes: int, bar: bool) -> None:
    """Append to `part` from byte `begun`, or write it from zero where the server does not resume."""
    import requests

    headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={begun}-"} if begun else {})
    with _open(url, headers) as response:
        if response.status_code == 416:  # the file is no longer than what we have: not the one that was begun
            part.unlink()
            raise _Dropped(f"{url}: cannot be resumed at byte {begun}")
        if not response.headers.get("Content-Range", "").startswith(f"bytes {begun}-"):
            begun = 0
        total = begun + int(response.headers["Content-Length"]) if "Content-Length" in response.headers else None
        done = begun
        with (
            part.open("ab" if begun else "wb") as file,
            tqdm(total=total, initial=begun, unit="B", unit_scale=True, desc=Path(url).name, disable=not bar) as shown,
        ):
            try:
                for chunk in response.iter_content(2**17):
                    done += len(chunk)
                    if max(done, total or 0) > max_bytes:
                        raise DownloadError(f"{url}: is larger than the {max_bytes} bytes expected at most")
                    file.write(chunk)
                    shown.update(len(chunk))
            except requests.RequestException as error:
                raise _Dropped(f"{url}: broke off after {done} bytes ({type(error).__name__})") from error
        if total is not None and done < total:
            raise _Dropped(f"{url}: broke off after {done} of {total} bytes")


def _open(url: str, headers: dict[str, str]) -> Any:
    """requests' response, its body not yet read. Raises DownloadError, or _Dropped where the server is only busy."""
    import requests

    try:
        response = requests.get(url, headers=headers, stream=True, timeout=TIMEOUT)
    except (requests.RequestException, ValueError) as error:  # ValueError: not an address
        raise DownloadError(f"{url}: no answer ({type(error).__name__})") from error
    if response.ok or response.status_code == 416:
        return response
    response.close()
    busy = response.status_code in (429, 500, 502, 503, 504)
    raise (_Dropped if busy else DownloadError)(f"{url}: HTTP {response.status_code} {response.reason}")


def fetch_json(url: str) -> tuple[Any, str | None]:
    """The JSON document at `url`, and the address of the next page where there is one. Raises DownloadError."""
    _refuse_if_offline(url)
    with _open(url, {}) as response:
        try:
            return response.json(), response.links.get("next", {}).get("url")
        except (OSError, ValueError) as error:  # OSError: requests' own, the body broke off
            raise DownloadError(f"{url}: is not JSON ({error})") from error


def read_members(archive: Path, wanted: Callable[[str], bool], max_bytes: int = 2**30) -> Iterator[tuple[str, bytes]]:
    """Yield (name, content) of the wanted regular files of a zip or tar archive; nothing is written to disk.

    Raises DownloadError: not such an archive, truncated, more than max_bytes in the wanted members together, or any
    member, wanted or not, that points out of its folder (absolute, `..`, a drive) or is a link or a device.
    """
    left = max_bytes
    try:
        for name, is_plain, read in _zip(archive) if zipfile.is_zipfile(archive) else _tar(archive):
            pure = PureWindowsPath(name)  # takes / and \\ alike, and knows drives
            if pure.drive or pure.root or ".." in pure.parts:
                raise DownloadError(f"{archive.name}: member {name!r} points out of the archive's folder")
            if not is_plain:
                raise DownloadError(f"{archive.name}: member {name!r} is a link or a device")
            if read is None or not wanted(name):
                continue
            content = read(left + 1)
            left -= len(content)
            if left < 0:
                raise DownloadError(f"{archive.name}: unpacks to more than the {max_bytes} bytes expected at most")
            yield name, content
    except DownloadError:
        raise
    except (*BROKEN, OSError) as error:
        if getattr(error, "errno", None) not in (None, errno.EINVAL):  # EINVAL: a place before the file's beginning
            raise
        raise DownloadError(f"{archive.name}: is damaged or not an archive ({error})") from error


_Member = tuple[str, bool, Callable[[int], bytes] | None]  # name, neither link nor device, reader of up to n bytes


def _zip(archive: Path) -> Iterator[_Member]:
    with zipfile.ZipFile(archive) as file:
        for info in file.infolist():
            kind = stat.S_IFMT(info.external_attr >> 16)
            plain = kind in (0, stat.S_IFREG, stat.S_IFDIR)
            yield info.filename, plain, None if info.is_dir() else partial(_read, file.open, info)


def _tar(archive: Path) -> Iterator[_Member]:
    with tarfile.open(archive) as file:
        for info in file:
            plain = info.isreg() or info.isdir()
            yield info.name, plain, partial(_read, file.extractfile, info) if info.isreg() else None
        while file.fileobj.read(2**20):  # to the end, where gzip has its checksum
            pass


def _read(opener: Callable[[Any], Any], info: Any, n: int) -> bytes:
    with opener(info) as member:
        return member.read(n)


def pip_wheel(requirement: str, folder: Path, size: int) -> Path:
    """Let pip fetch the wheel of `requirement` (like "name==1.0") into `folder`, without installing it.

    pip's own configuration says where from. `size` in bytes is for the bar. Raises DownloadError with pip's last words.
    """
    _refuse_if_offline(f"the Python package {requirement}")
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary", ":all:", "--no-cache-dir"]
    command += ["--disable-pip-version-check", "--no-input", "--progress-bar", "off", "--timeout", f"{TIMEOUT[0]:.0f}"]
    command += ["--retries", "1", "--dest", str(folder), requirement]
    # pip's temporary files go where ours go, so that they are seen by the bar and removed with the rest
    environment = os.environ | {"TMPDIR": str(folder), "TEMP": str(folder), "TMP": str(folder)}
    log = folder / "pip.log"
    with log.open("wb") as out, tqdm(total=size, unit="B", unit_scale=True, desc=requirement) as shown:
        with subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT, env=environment) as pip:
            try:
                while pip.poll() is None:
                    time.sleep(0.1)
                    shown.update(min(_bytes_in(folder), size) - shown.n)
            finally:
                pip.kill()  # an interrupted notebook must not leave it running; does nothing once it has ended
        shown.update(size - shown.n if pip.returncode == 0 else 0)
    wheels = list(folder.glob("*.whl"))
    if pip.returncode != 0 or len(wheels) != 1:
        words = log.read_text(errors="replace").strip().splitlines()[-3:]
        raise DownloadError(f"the Python package {requirement}: pip could not fetch it ({' '.join(words)})")
    return wheels[0]


def _bytes_in(folder: Path) -> int:
    total = 0
    for root, _, names in os.walk(folder):
        for name in names:
            with suppress(FileNotFoundError):  # pip moved it between the listing and the look
                total += os.lstat(os.path.join(root, name)).st_size
    return total


def _refuse_if_offline(source: str) -> None:
    if os.environ.get("MEMLIB_OFFLINE", "0") not in ("", "0"):
        raise DownloadError(f"{source}: not asked, since MEMLIB_OFFLINE is set")

"""Downloads against a local server that breaks off, lies and redirects; archives that try to escape."""

import hashlib
import importlib.util
import io
import os
import socket
import tarfile
import threading
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import pairwise
from pathlib import Path

import pytest

from memlib.lab import download
from memlib.lab.download import DownloadError, digest_of, fetch, fetch_json, obtain, pip_wheel, read_members

CONTENT = bytes(range(256)) * 2000
DIGEST = "sha256:" + hashlib.sha256(CONTENT).hexdigest()


class Server(BaseHTTPRequestHandler):
    """/whole; /cut breaks off after a third, at each request; /noresume ignores Range; /list is JSON; all else: 404."""

    asked: list[tuple[str, str | None]] = []  # noqa: RUF012

    def do_GET(self) -> None:
        wanted = self.headers.get("Range")
        Server.asked.append((self.path, wanted))
        if self.path == "/list":
            self.send_response(200)
            self.send_header("Link", '</list?page=2>; rel="next", </list>; rel="first"')
            self.send_header("Content-Length", "6")
            self.end_headers()
            self.wfile.write(b"[1, 2]")
            return
        if self.path not in ("/whole", "/cut", "/noresume"):
            return self.send_error(404)
        begin = int(wanted[6:-1]) if wanted and self.path != "/noresume" else 0
        if begin >= len(CONTENT):
            return self.send_error(416)
        self.send_response(206 if begin else 200)
        if begin:
            self.send_header("Content-Range", f"bytes {begin}-{len(CONTENT) - 1}/{len(CONTENT)}")
        self.send_header("Content-Length", str(len(CONTENT) - begin))
        self.end_headers()
        end = min(begin + len(CONTENT) // 3, len(CONTENT)) if self.path == "/cut" else len(CONTENT)
        self.wfile.write(CONTENT[begin:end])

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setattr(download, "PAUSE", 0.0)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.delenv("MEMLIB_OFFLINE", raising=False)
    Server.asked.clear()
    with ThreadingHTTPServer(("127.0.0.1", 0), Server) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{running.server_port}"
        running.shutdown()


def test_fetched_whole_and_not_again(server, tmp_path):
    path = fetch(server + "/whole", tmp_path / "x", digest=DIGEST)
    assert path.read_bytes() == CONTENT
    fetch(server + "/whole", tmp_path / "x", digest=DIGEST)
    assert len(Server.asked) == 1
    assert os.listdir(tmp_path) == ["x"]


def test_broken_transfer_is_resumed_where_it_stopped(server, tmp_path):
    fetch(server + "/cut", tmp_path / "x", digest=DIGEST)
    assert (tmp_path / "x").read_bytes() == CONTENT
    begun = [int(asked[6:-1]) if asked else 0 for _, asked in Server.asked]
    assert begun[0] == 0 and len(begun) > 2
    assert all(a < b for a, b in pairwise(begun)), "a transfer began again instead of going on"


def test_what_a_killed_process_left_is_gone_on_with(server, tmp_path):
    (tmp_path / "x.part").write_bytes(CONTENT[:1000])
    fetch(server + "/whole", tmp_path / "x", digest=DIGEST)
    assert Server.asked == [("/whole", "bytes=1000-")]
    assert (tmp_path / "x").read_bytes() == CONTENT


@pytest.mark.parametrize("address", ["/whole", "/noresume"])
@pytest.mark.parametrize("size", [500, len(CONTENT), len(CONTENT) + 1])
def test_a_part_of_another_file_is_thrown_away(server, tmp_path, address, size):
    (tmp_path / "x.part").write_bytes(b"o" * size)
    fetch(server + address, tmp_path / "x", digest=DIGEST)
    assert (tmp_path / "x").read_bytes() == CONTENT


def test_truncated_without_a_hash_is_an_error_and_leaves_nothing(server, tmp_path):
    with pytest.raises(DownloadError, match=r"/cut: broke off after \d+"):
        fetch(server + "/cut", tmp_path / "x")
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    ("address", "options", "message"),
    [
        ("/whole", {"digest": "sha256:" + "0" * 64}, "expected sha256:000"),
        ("/whole", {"max_bytes": 1000}, "larger than the 1000 bytes"),
        ("/missing", {}, "HTTP 404"),
    ],
)
def test_errors_name_the_source_and_leave_nothing(server, tmp_path, address, options, message):
    with pytest.raises(DownloadError, match=rf"{address}.*{message}"):
        fetch(server + address, tmp_path / "x", **options)
    assert os.listdir(tmp_path) == []


def test_a_list_comes_with_the_address_of_its_next_page(server):
    assert fetch_json(server + "/list") == ([1, 2], "/list?page=2")
    with pytest.raises(DownloadError, match=r"/whole: is not JSON"):
        fetch_json(server + "/whole")
    with pytest.raises(DownloadError, match=r"/missing: HTTP 404"):
        fetch_json(server + "/missing")


def test_no_network(tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(DownloadError, match="no answer"):
        fetch(f"http://127.0.0.1:{port}/x", tmp_path / "x")
    assert os.listdir(tmp_path) == []


def test_offline_forbids_it(server, tmp_path, monkeypatch):
    monkeypatch.setenv("MEMLIB_OFFLINE", "1")
    with pytest.raises(DownloadError, match="MEMLIB_OFFLINE"):
        fetch(server + "/whole", tmp_path / "x")
    assert Server.asked == []


def test_git_id():
    content = Path(__file__).read_bytes()
    expected = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
    assert digest_of(Path(__file__), "git-sha1") == "git-sha1:" + expected


def archive(path, names, link=None):
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w") as file:
            for name in names:
                file.writestr(name, b"content of " + name.encode())
            if link:
                info = zipfile.ZipInfo("link")
                info.external_attr = 0o120777 << 16
                file.writestr(info, link)
    else:
        with tarfile.open(path, "w:gz") as file:
            for name in names:
                info = tarfile.TarInfo(name)
                info.size = len(b"content of " + name.encode())
                file.addfile(info, io.BytesIO(b"content of " + name.encode()))
            if link:
                info = tarfile.TarInfo("link")
                info.type, info.linkname = tarfile.SYMTYPE, link
                file.addfile(info)
    return path


@pytest.mark.parametrize("kind", ["a.zip", "a.tgz"])
def test_members_are_read(tmp_path, kind):
    path = archive(tmp_path / kind, ["folder/one.txt", "two.bin"])
    assert list(read_members(path, lambda name: name.endswith(".txt"))) == [
        ("folder/one.txt", b"content of folder/one.txt")
    ]


@pytest.mark.parametrize("kind", ["a.zip", "a.tgz"])
@pytest.mark.parametrize("name", ["../x", "/etc/x", "a/../../x", "C:/x", "C:x", "..\\x"])
def test_members_that_escape_are_refused_wanted_or_not(tmp_path, kind, name):
    path = archive(tmp_path / kind, [name])
    with pytest.raises(DownloadError, match="points out of"):
        list(read_members(path, lambda name: False))
    assert os.listdir(tmp_path) == [kind]


@pytest.mark.parametrize("kind", ["a.zip", "a.tgz"])
def test_links_bombs_and_damage_are_refused(tmp_path, kind):
    with pytest.raises(DownloadError, match="link or a device"):
        list(read_members(archive(tmp_path / kind, [], link="/etc/passwd"), lambda name: True))
    with pytest.raises(DownloadError, match="more than the 10 bytes"):
        list(read_members(archive(tmp_path / kind, ["one.txt"]), lambda name: True, max_bytes=10))
    path = archive(tmp_path / kind, ["one.txt" * 20])
    path.write_bytes(path.read_bytes()[:60])
    with pytest.raises(DownloadError, match="damaged or not an archive"):
        list(read_members(path, lambda name: True))


@pytest.mark.parametrize("kind", ["a.zip", "a.tgz"])
def test_members_are_bounded_together(tmp_path, kind):
    path = archive(tmp_path / kind, ["1", "2", "3"])  # of 12 bytes each
    assert len(list(read_members(path, lambda name: True, max_bytes=36))) == 3
    with pytest.raises(DownloadError, match="more than the 35 bytes"):
        list(read_members(path, lambda name: True, max_bytes=35))
    assert list(read_members(path, lambda name: name == "2", max_bytes=12)) == [("2", b"content of 2")]


@pytest.mark.parametrize("kind", [tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE])
def test_what_is_no_file_is_refused(tmp_path, kind):
    with tarfile.open(tmp_path / "a.tar", "w") as file:
        info = tarfile.TarInfo("x")
        info.type, info.linkname = kind, "y"
        file.addfile(info)
    with pytest.raises(DownloadError, match="'x' is a link or a device"):
        list(read_members(tmp_path / "a.tar", lambda name: False))


def test_an_archive_that_is_not_there_is_no_damage(tmp_path):
    with pytest.raises(FileNotFoundError):
        list(read_members(tmp_path / "a.zip", lambda name: True))


def test_a_folder_is_made_once_and_checked_each_time(tmp_path):
    calls = []

    def build(work):
        calls.append(1)
        (work / "a").write_text("kept")
        (work / "scrap").write_text("not kept")

    folder = tmp_path / "set"
    together = [threading.Thread(target=obtain, args=(folder, ["a"], build)) for _ in range(8)]
    for thread in together:
        thread.start()
    for thread in together:
        thread.join(30)
    assert len(calls) == 1
    assert sorted(os.listdir(folder)) == ["SHA256SUMS", "a"]
    (folder / "a").write_text("kEpt")
    with pytest.raises(ValueError, match=r"set was damaged \(a\)"):
        obtain(folder, ["a"], build)
    assert obtain(folder, ["a"], build) == folder and len(calls) == 2


def test_a_build_that_fails_leaves_nothing(tmp_path):
    def build(work):
        (work / "a").write_text("half")
        raise DownloadError("no more")

    with pytest.raises(DownloadError, match="no more"):
        obtain(tmp_path / "set", ["a"], build)
    assert os.listdir(tmp_path) == ["set.lock"]


def test_a_full_disk_names_the_path(tmp_path):
    def build(work):
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match=r"No space left.*set"):
        obtain(tmp_path / "set", ["a"], build)
    assert os.listdir(tmp_path) == ["set.lock"]


@pytest.fixture
def index(tmp_path, monkeypatch) -> Path:
    """A folder that pip takes packages from, and nowhere else; it holds small-package 1.0."""
    folder = tmp_path / "index"
    folder.mkdir()
    with zipfile.ZipFile(folder / "small_package-1.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr("small_package/table.tsv", "1\t2\n")
        wheel.writestr(
            "small_package-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: small-package\nVersion: 1.0\n"
        )
        wheel.writestr("small_package-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        wheel.writestr("small_package-1.0.dist-info/RECORD", "")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    monkeypatch.delenv("MEMLIB_OFFLINE", raising=False)
    return folder


def test_pip_fetches_a_wheel_without_installing_it(index, tmp_path):
    work = tmp_path / "work"
    work.mkdir()
    wheel = pip_wheel("small-package==1.0", work, 1000)
    assert list(read_members(wheel, lambda name: name.endswith(".tsv"))) == [("small_package/table.tsv", b"1\t2\n")]
    assert importlib.util.find_spec("small_package") is None
    with pytest.raises(DownloadError, match=r"small-package==2\.0: pip could not fetch it .*small-package"):
        pip_wheel("small-package==2.0", tmp_path, 1000)


def test_pip_is_not_asked_offline(index, tmp_path, monkeypatch):
    monkeypatch.setenv("MEMLIB_OFFLINE", "1")
    with pytest.raises(DownloadError, match="MEMLIB_OFFLINE"):
        pip_wheel("small-package==1.0", tmp_path, 1000)
    assert os.listdir(tmp_path) == ["index"]

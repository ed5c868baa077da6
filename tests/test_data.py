"""The data sets: three disjoint parts that a seed decides, content as identity, a reader's own files."""

import hashlib
import io
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from memlib.lab import data, files, made
from memlib.lab.data import NAMES, load
from memlib.lab.sources import SOURCES

ROOT = Path(__file__).resolve().parent.parent
POINTS = [name for name in NAMES if name not in SOURCES]
PLACES = (os.environ.get("MEMLIB_DATA"), ROOT.parent / "shared" / "data")
REAL = next((place for place in PLACES if place and Path(place).is_dir()), None)
needs_real = pytest.mark.skipif(REAL is None, reason="no folder of real data: set MEMLIB_DATA")


@pytest.fixture(autouse=True)
def own(tmp_path, monkeypatch) -> Path:
    """A reader's folder of data sets, and no downloads."""
    (tmp_path / "own ü").mkdir()
    monkeypatch.setenv("MEMLIB_DATA", str(tmp_path / "own ü"))
    monkeypatch.setenv("MEMLIB_OFFLINE", "1")
    monkeypatch.setattr(data, "DOWNLOADS", tmp_path / "downloads")
    return tmp_path / "own ü"


def pictures(size: int, n: int = 9) -> np.ndarray:
    return np.random.default_rng(n).integers(0, 256, (n, size, size, 3), dtype=np.uint8)


def save(own: Path, name: str = "emoji", **arrays: np.ndarray) -> Path:
    (own / name).mkdir(exist_ok=True)
    np.savez(own / name / f"{name}.npz", **arrays)
    return own / name / f"{name}.npz"


@pytest.mark.parametrize("name", [*POINTS, "emoji"])
def test_parts_are_disjoint_and_decided_by_the_seed(name):
    first, again, other = load(name, 16, seed=3), load(name, 16, seed=3), load(name, 16, seed=4)
    assert torch.equal(first.train, again.train) and torch.equal(first.fresh, again.fresh)
    assert not torch.equal(first.train, other.train)
    assert len(first.train) == len(first.held_out) == 16 and len(first.fresh) == 512
    items = torch.cat([first.train, first.held_out, first.fresh]).flatten(1)
    assert len(items.unique(dim=0)) == len(items)
    assert items.isfinite().all() and items.dtype == torch.float32


def test_the_draws_are_those_of_earlier_releases():
    """The recorded runs were trained on these items. Points differ in the last digit between processors."""
    emoji = load("emoji", 16, n_held_out=5, n_fresh=7, seed=3)
    assert emoji.sha256.startswith("b91139292a30")
    drawn = [hashlib.sha256(part.numpy().tobytes()).hexdigest()[:12] for part in (emoji.train, emoji.held_out)]
    assert drawn == ["20bc97fe5a1d", "04e5e6e2954e"]
    points = torch.stack([load(name, 16, seed=3).train[0] for name in ("spiral", "moons", "rings", "gaussians")])
    expected = [[1.359006, -0.642201], [-2.049051, 0.284373], [0.99483, 1.211665], [-1.081816, 0.984009]]
    torch.testing.assert_close(points, torch.tensor(expected), atol=1e-5, rtol=0)


def test_points_have_unit_scale_and_emoji_are_pictures_on_white():
    for name in POINTS:
        points = load(name, 16, n_fresh=4000).fresh
        assert points.mean(0).abs().max() < 0.1 and abs(points.square().mean().sqrt() - 1) < 0.05
    emoji = load("emoji", 64)
    assert emoji.train.shape == (64, 3, 32, 32) and emoji.clip == (-1.0, 1.0) and emoji.kind == "image"
    assert (emoji.fresh[:, :, [0, 0, -1, -1], [0, -1, 0, -1]] > 0.9).float().mean() > 0.75


def test_content_is_identity_and_equal_pictures_count_once(own):
    shipped = load("emoji", 3).sha256
    save(own, images=pictures(32)[[0, 1, 2, 0, 3, 4, 5, 6, 7, 8, 8]])
    emoji = load("emoji", 3)
    items = torch.cat([emoji.train, emoji.held_out, emoji.fresh])
    assert len(items) == len(items.unique(dim=0)) == 9
    assert emoji.sha256 == load("emoji", 3, seed=1).sha256 != shipped
    assert emoji.sha256 == hashlib.sha256(pictures(32).tobytes()).hexdigest()


@pytest.mark.parametrize(
    ("arguments", "named"),
    [({"name": "cats"}, "'cats'.*spiral.*emoji"), ({"n_train": 1}, "n_train"), ({"seed": -1}, "seed"),
     ({"n_train": 400}, "797 items, too few"), ({"image_size": 64}, "image_size = 64.*have 32 x 32 pixels")],
)  # fmt: skip
def test_bad_arguments_are_named(arguments, named):
    with pytest.raises(ValueError, match=named):
        load(**{"name": "emoji"} | arguments)


@pytest.mark.parametrize(
    ("arrays", "named"),
    [({"pictures": pictures(64)}, "has not the layout"),
     ({"images": np.array([{}])}, "allow_pickle"),
     ({"images": pictures(64)[:, :, :48]}, "9, 64, 48, 3"),
     ({"images": pictures(64) / 255}, "float64")],
)  # fmt: skip
def test_a_readers_files_of_another_layout_and_a_missing_folder_are_named(own, monkeypatch, arrays, named):
    save(own, **arrays)
    with pytest.raises(ValueError, match=rf"emoji\.npz.*{named}"):
        load("emoji", 4)
    save(own, "ecg5000").with_name("ECG5000_TRAIN.txt").write_text("1 2 3\n")
    with pytest.raises(ValueError, match=r"ECG5000_TRAIN\.txt .* damaged"):
        load("ecg5000", 4)
    monkeypatch.setenv("MEMLIB_DATA", str(own / "nowhere"))
    with pytest.raises(FileNotFoundError, match=r"MEMLIB_DATA.*nowhere"):
        load("emoji", 4)


def test_a_relative_folder_is_resolved_once(own, monkeypatch):
    save(own, images=pictures(32))
    monkeypatch.chdir(own.parent)
    monkeypatch.setenv("MEMLIB_DATA", own.name)
    content = load("emoji", 3).sha256
    monkeypatch.chdir("/")
    assert load("emoji", 3).sha256 == content and os.environ["MEMLIB_DATA"] == str(own)


def test_own_pictures_may_be_jpegs_in_one_array(own):
    encoded, decoded = [], []
    for colour in np.random.default_rng(0).integers(0, 256, (12, 3)).astype(np.uint8):
        stream = io.BytesIO()
        Image.fromarray(np.broadcast_to(colour, (64, 64, 3)).copy()).save(stream, "JPEG")
        encoded.append(stream.getvalue())
        decoded.append(np.asarray(Image.open(stream).convert("RGB")))
    save(own, images=np.stack(decoded))
    plain = load("emoji", 4, n_fresh=4)
    save(own, jpeg_bytes=np.frombuffer(b"".join(encoded), np.uint8), offsets=np.cumsum([0, *map(len, encoded)]))
    assert torch.equal(load("emoji", 4, n_fresh=4).train, plain.train)


def test_a_flipped_byte_in_the_shipped_pictures_is_named(tmp_path, monkeypatch):
    content = (files.DATA / "emoji.npz").read_bytes()
    monkeypatch.setattr(data, "DATA", tmp_path)
    for place in range(1000, len(content) - 1000, len(content) // 10):
        (tmp_path / "emoji.npz").write_bytes(bytes([*content[:place], content[place] ^ 1, *content[place + 1 :]]))
        with pytest.raises(ValueError, match=r"emoji\.npz is damaged.*git"):
            load("emoji", 2)


@needs_real
def test_real_heartbeats(monkeypatch):
    monkeypatch.setenv("MEMLIB_DATA", str(REAL))
    beats = load("ecg5000", 64)
    assert beats.train.shape == (64, 1, 140) and beats.kind == "signal" and beats.clip is None
    assert beats.fresh.mean(-1).abs().max() < 1e-5
    torch.testing.assert_close(beats.fresh.std(-1), torch.ones(512, 1), atol=1e-5, rtol=0)
    assert beats.sha256.startswith("4b4c4c705fbd")
    assert hashlib.sha256(beats.train.numpy().tobytes()).hexdigest().startswith("eac228b88709")


@needs_real
@pytest.mark.parametrize(("name", "file", "size"), [("pokemon", "64", 64), ("flowers102", "all_64_jpeg", 32)])
def test_real_pictures(own, name, file, size):
    (own / name).mkdir()
    (own / name / f"{name}_{file}.npz").symlink_to(Path(REAL).resolve() / name / f"{name}_{file}.npz")
    found = load(name, 32, image_size=size, n_fresh=32)
    assert found.train.shape == (32, 3, size, size)
    assert -1 <= found.train.min() < -0.5 and 0.9 < found.train.max() <= 1


def test_the_reference_holds_no_item_of_train_or_fresh() -> None:
    own = data.load("emoji", 32, n_fresh=256)
    seen = {x.numpy().tobytes() for x in [*own.train, *own.fresh]}
    assert len(own.reference) == 509 and not seen & {x.numpy().tobytes() for x in own.reference}
    assert own.sha256 == data.load("emoji", 32).sha256
    curve = data.load("spiral", 16).reference
    assert curve.shape == (4096, 2)
    off = torch.cdist(data.load("spiral", 512).train, curve).min(1).values
    assert off.square().mean().sqrt().item() == pytest.approx(made.NOISE, rel=0.1), "noise across the curve alone"

"""A reader's own data: what is understood, what is said about it, what is refused, and that runs know it by content."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from memlib import TrainConfig, uniform
from memlib.__main__ import main
from memlib.lab import Experiment, Network, courses, data, plans, runs
from memlib.lab.yardstick import Yardstick

RNG = np.random.default_rng(0)
COLOURS = RNG.integers(0, 256, (12, 20, 20, 3), dtype=np.uint8)
SHOTS = [Image.fromarray(x) for x in COLOURS]
WAVES = np.sin(RNG.uniform(0, 6, (12, 1)) + np.linspace(0, 6, 16)).astype(np.float32)


@pytest.fixture(autouse=True)
def downloads(own_runs, monkeypatch) -> None:
    monkeypatch.setattr(data, "DOWNLOADS", own_runs / "downloads")


def everything(found: data.Dataset) -> torch.Tensor:
    items = torch.cat([found.train, found.held_out, found.fresh])
    return items[items.flatten(1).double().sum(1).argsort()]


def folder(path: Path, shots=SHOTS, kind: str = "png", **options) -> Path:
    path.mkdir(exist_ok=True)
    for i, shot in enumerate(shots):
        shot.save(path / f"{i:02}.{kind}", **options)
    return path


FIRST = torch.from_numpy(COLOURS).permute(0, 3, 1, 2)  # channels first
HANDED_OVER = {
    "array": COLOURS,
    "tensor, channels first": FIRST,
    "pictures": SHOTS,
    "torch: pairs with a label": torch.utils.data.TensorDataset(FIRST / 255, torch.arange(12)),
    "Hugging Face: dicts with a label": [{"image": shot, "label": i} for i, shot in enumerate(SHOTS)],
    "floats": COLOURS / 255,
    "pixels as floats": COLOURS.astype(np.float32),
}


@pytest.mark.parametrize("given", HANDED_OVER.values(), ids=HANDED_OVER)
def test_pictures_in_any_form_are_the_pictures_of_the_folder(tmp_path, given) -> None:
    expected = data.from_folder(folder(tmp_path / "shots"))
    found = data.from_items(given, name="mine")
    torch.testing.assert_close(everything(found), everything(expected), atol=1e-6, rtol=0)
    assert [len(part) for part in (found.train, found.held_out, found.fresh)] == [3, 3, 6]
    assert found.kind == "image" and found.clip == (-1, 1) and found.licence == "the reader's own"
    assert Path(found.name).stem == "mine"
    assert found.sha256 == data.load(found.name, image_size=20, n_train=3).sha256


def test_modes_and_sizes_of_pictures(tmp_path) -> None:
    """Grey stays grey; transparency lies on white; the middle square is shrunk; JPEG and WebP are read."""
    grey = data.from_folder(folder(tmp_path / "grey", [Image.fromarray(x[..., 0]) for x in COLOURS]))
    assert grey.train.shape == (3, 1, 20, 20)
    clear = [Image.fromarray(np.dstack([x, np.full((20, 20), 0, np.uint8)])) for x in COLOURS]
    for i, shot in enumerate(clear):
        shot.putpixel((i, 0), (255, 0, 0, 255))
    shots = everything(data.from_folder(folder(tmp_path / "clear", clear)))
    assert (shots == 1).float().mean() > 0.99 and (shots[:, 1:, 0] == -1).sum() == 24
    palette = [Image.fromarray(x).quantize(200) for x in COLOURS]
    assert data.from_folder(folder(tmp_path / "palette", palette)).train.shape[1] == 3
    wide = [Image.fromarray(np.tile(x, (1, 2, 1))).resize((80, 40)) for x in COLOURS]
    for kind in ("jpg", "webp"):
        assert data.from_folder(folder(tmp_path / kind, wide, kind), image_size=16).train.shape == (3, 3, 16, 16)


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [("a.csv", "{rows}", ()), ("a.csv", "t0,t1,t2,t3\n{rows}", ("line 1 is a header",)), ("a.txt", "{rows}", ()),
     ("a_TRAIN.tsv", "{labelled}", ("the first column, whole numbers, was taken for labels and left out",)),
     ("a.csv", ",".join(map(str, range(16))) + "\n{rows}", ("line 1 is a header",)),
     ("a.csv", "e1,e2,e3,e4\n{rows}", ("line 1 is a header",)),
     ("a.ts", "# about\n@problemName a\n@classLabel true 1 2\n@data\n{ts}", ())],
)  # fmt: skip
def test_signals_of_any_file_are_those_of_the_array(tmp_path, name: str, text: str, says) -> None:
    mark = {".csv": ",", ".txt": "  ", ".tsv": "\t", ".ts": ","}[Path(name).suffix]
    rows = [mark.join(f"{v:.9g}" for v in row) for row in WAVES]
    forms = {"rows": "{row}", "labelled": "{label}{mark}{row}", "ts": "{row}:{label}"}
    for kind, form in forms.items():
        forms[kind] = "\n".join(form.format(row=row, label=i % 3, mark=mark) for i, row in enumerate(rows))
    (tmp_path / name).write_text(text.format(**forms))
    found = data.from_file(tmp_path / name)
    np.save(tmp_path / "a.npy", WAVES)
    expected = data.from_file(tmp_path / "a.npy")
    assert found.kind == "signal" and found.train.shape == (3, 1, 16) and found.notes == says
    assert found.sha256 == expected.sha256 and torch.equal(found.train, expected.train)


def test_duplicates_and_scale_are_said_where_data_enter(tmp_path) -> None:
    with pytest.warns(UserWarning, match="3 of 15 items are duplicates"):
        found = data.from_items(np.concatenate([WAVES, WAVES[:3]]))
    assert len(everything(found)) == 12 and found.notes == ("3 of 15 items are duplicates and were left out",)
    with pytest.warns(UserWarning, match=r"far from unit scale; pass \(x - 1e\+03\) / 7"):
        data.from_items(1000 + 10 * WAVES)
    fields = data.from_items(RNG.normal(size=(9, 4, 8, 8)))
    assert fields.kind == "image" and fields.clip == pytest.approx(fields.value_range) and fields.clip[0] < -1


@pytest.mark.parametrize(
    ("shot", "options", "says"),
    [(SHOTS[0].resize((30, 30)), {}, r"z\.png is 30 x 30, those before it 20 x 20"),
     (Image.fromarray(np.zeros((20, 20), np.uint16)), {}, r"z\.png .*I;16"),
     (SHOTS[0].convert("CMYK"), {"format": "jpeg"}, r"z\.png .*CMYK"),
     (SHOTS[0], {"format": "png", "save_all": True, "append_images": SHOTS[1:2]}, r"z\.png .*animated"),
     (None, {}, r"z\.png cannot be used")],
)  # fmt: skip
def test_a_picture_that_is_not_understood_is_named_with_what_would_be_right(tmp_path, shot, options, says) -> None:
    strange = folder(tmp_path / "shots") / "z.png"
    if shot:
        shot.save(strange, **options)
    else:
        strange.write_bytes((tmp_path / "shots" / "00.png").read_bytes()[:200])
    with pytest.raises(ValueError, match=says):
        data.from_folder(tmp_path / "shots")


@pytest.mark.parametrize(
    ("given", "error", "says"),
    [(np.zeros((5, 0)), ValueError, "shape"), (WAVES[:2], ValueError, "fewer than seven"), ([], ValueError, "shape"),
     (COLOURS.astype(np.uint16) * 257, ValueError, r"8 bits.* x / 65535"), (np.array(["a"]), TypeError, "numbers"),
     (np.where(WAVES > 0.9, np.nan, WAVES), ValueError, r"item \d+ holds NaN"), ("shots", TypeError, "from_file"),
     ([WAVES[0], WAVES[1, :9]], ValueError, r"items\[1\] has shape \(9,\)"), (COLOURS[:, :10], ValueError, "squares"),
     (WAVES[:, :, None], ValueError, "channels come first"), (iter(WAVES), TypeError, "items is a"),
     ([{"image": WAVES[0], "mask": WAVES[0]}], ValueError, "image, mask"), (WAVES[:, :1], ValueError, "d > 1")],
)  # fmt: skip
def test_items_that_are_not_understood_are_named(given, error, says: str) -> None:
    with pytest.raises(error, match=says):
        data.from_items(given)


def test_arrays_in_files_and_sizes_that_do_not_fit_are_named(tmp_path) -> None:
    np.savez(tmp_path / "two.npz", a=WAVES, b=WAVES)
    np.savez(tmp_path / "none.npz")
    np.save(tmp_path / "wide.npy", RNG.normal(size=(9, 3, 8, 8)))
    np.save(tmp_path / "deep.npy", np.full((9, 8, 8), 60_000, np.uint16))
    for read, path, size, says in (
        (data.from_file, tmp_path / "two.npz", 32, "arrays a, b; need one, or one called items"),
        (data.from_file, tmp_path / "none.npz", 32, "need one, or one called items"),
        (data.from_file, tmp_path / "wide.npy", 4, "say image_size = 8"),
        (data.from_file, tmp_path / "deep.npy", 8, "need 8 bits"),
        (data.from_folder, folder(tmp_path / "shots"), 24, "20 x 20; need at least image_size = 24"),
    ):
        with pytest.raises(ValueError, match=says):
            read(path, image_size=size)


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [("a.csv", "1,2,3,4\n1,2,,4\n", "line 2"), ("a.csv", "1,2,3,4\n1,2,3\n", "line 2"),
     ("a.txt", "1 2\n1 b\n", "line 2.*'b'"),
     ("a.ts", "@data\n1,2,?:1\n", "line 2"), ("a.md", "", r"need a folder.*\.npy"), ("a.npy", "no array", "np.save"),
     ("a.csv", "", "shape"), ("a.csv", ",a,b\n0,1,x\n", "line 2.*'x'"), ("a.csv", "1,\0\n2,\0\n", "in UTF-8")],
)  # fmt: skip
def test_a_file_that_is_not_understood_is_named_by_line(tmp_path, name: str, text: str, says: str) -> None:
    np.savetxt(tmp_path / "last.csv", np.column_stack([WAVES, np.arange(len(WAVES)) % 2]), delimiter=",")
    assert "if they are labels" in data.from_file(tmp_path / "last.csv").notes[0]
    (tmp_path / name).write_text(text)
    with pytest.raises(ValueError, match=f"(?s){name}.*{says}"):
        data.from_file(tmp_path / name)
    with pytest.raises(FileNotFoundError, match=r"nowhere.*need a folder"):
        data.from_file(tmp_path / "nowhere")


@pytest.mark.parametrize(("asked", "fresh", "reference"), [(2, 2, 7), (3, 3, 6), (64, 3, 6)])
def test_few_items_of_ones_own_leave_a_reference_of_twice_the_training_set(tmp_path, asked, fresh, reference) -> None:
    """Of 12, 3 are for training; the reference holds the 3 held out, too."""
    np.save(tmp_path / "a.npy", WAVES)
    small = {"n_train": 3, "n_samples": asked, "network": Network(8, (1,))}
    yardstick = Yardstick.of(Experiment(uniform(), str(tmp_path / "a.npy"), **small))
    assert (len(yardstick.dataset.fresh), len(yardstick.dataset.reference)) == (fresh, reference)
    assert set(yardstick.references) == {"fresh", "copies", "gaussian", "mix", "kernel"}
    assert yardstick.references["copies"]["near-copies"] == 1
    assert np.isfinite([list(measures.values()) for measures in yardstick.references.values()]).all()
    for n_train, says in ((6, "12 items, too few"), (4, "n_train = 4 .*at most 3"), (2, "train has 2")):
        with pytest.raises(ValueError, match=says):
            _ = Yardstick.of(Experiment(uniform(), str(tmp_path / "a.npy"), **small | {"n_train": n_train})).references


def test_a_readers_points_have_a_large_reference_and_a_changed_file_is_read_again(tmp_path) -> None:
    np.save(path := tmp_path / "p.npy", points := RNG.normal(size=(200, 2)).astype(np.float32))
    own = Experiment(uniform(), str(path), 16, network=Network(8, (1,)), n_samples=64)
    first = Yardstick.of(own).dataset
    assert len(first.reference) == 200 - 16 - 64 and len(first.fresh) == 64
    np.save(path, points[::-1] + 1)
    assert not torch.equal(Yardstick.of(own).dataset.train, first.train)


def test_the_same_numbers_as_signals_and_as_pictures_are_two_sets_and_few_levels_are_warned_of() -> None:
    flat = RNG.normal(size=(20, 64)).astype(np.float32)
    signals, shots = data.from_items(flat), data.from_items(flat.reshape(20, 1, 8, 8))
    assert signals.sha256 != shots.sha256 and signals.name != shots.name and data.load(signals.name, 3).kind == "signal"
    with pytest.warns(UserWarning, match="largest value is 16 of 255"):
        data.from_items(RNG.integers(0, 17, (20, 8, 8)))
    with pytest.raises(ValueError, match="not those of n_train = 6, seed = 1"):
        Experiment(uniform(), shots, 6, seed=1)


@pytest.mark.usefixtures("fresh_style")  # which closes what the command draws
def test_runs_plans_and_records_take_own_data_and_know_it_by_content(tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    folder(tmp_path / "shots", [Image.fromarray(x).resize((8, 8)) for x in COLOURS])
    small = {"n_train": 3, "n_samples": 4, "sampler_steps": 2, "network": Network(8, (1,)), "image_size": 8}
    own = Experiment(uniform(), "shots", training=TrainConfig(steps=2, batch_size=2, precision="float32"), **small)
    first = runs.run(own)
    assert first.samples.shape == (4, 3, 8, 8) and Experiment.from_dict(own.to_dict()) == own
    assert replace(own, dataset=data.from_folder("shots")) == own
    shutil.move(tmp_path / "shots", tmp_path / "moved")
    again = runs.run(replace(own, dataset="moved"))
    assert again.path == first.path and torch.equal(again.samples, first.samples)
    assert Experiment.from_dict(own.to_dict()) == own, "a record of data that are not here is read"
    (tmp_path / "plan.toml").write_text(
        'question = "?"\nseeds = [0, 0]\ncontrols = { uniform = { name = "uniform" } }\n'
        '[experiment]\ndataset = "moved"\nimage_size = 8\nn_train = 3\nn_samples = 4\nsampler_steps = 2\n'
        'network = { width = 8, multipliers = [1] }\ntraining = { steps = 2, batch_size = 2, precision = "float32" }\n'
        '[[predictions]]\nhypothesis = "C1"\ncontrol = "uniform"\nshare = "eps"\nsign = -1\nmargin = 0.5\n'
    )
    (line,) = courses.record(plans.read_plan(tmp_path / "plan.toml"), out=tmp_path / "out", progress=False)
    assert line["content"] == data.from_folder("moved").sha256 and line["config"]["dataset"] == str(tmp_path / "moved")
    assert line["key"] == first.path.stem and courses.read(tmp_path / "out")[0]["key"] == line["key"]
    assert main(["data", "moved"]) == 0 and (tmp_path / "memlib_data.png").stat().st_size > 1000
    assert "kind: image" in capsys.readouterr().out
    with pytest.raises(ValueError, match=r"'elsewhere' is no data set.*path of your own"):
        Experiment(uniform(), "elsewhere")

"""The audit: planted copies are found whatever hides them, bad input is named, its measures are the formulas."""

import json
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch
from draws import normal, seeded
from PIL import Image
from scipy.optimize import minimize
from torch import Tensor

from memlib.__main__ import main
from memlib.audit import audit, shifted
from memlib.lab.own import read_items
from memlib.metrics import closer_to_train, nearest_neighbours, wilson
from memlib.metrics.generalisation import generalisation_gap, kid
from memlib.metrics.neighbours import nearest
from memlib.viz import report
from memlib.viz.report import features_of, warped


def items(n: int, shape: tuple[int, ...], seed: int) -> Tensor:
    """Smooth signals and images, for coarse scales to say something."""
    x = normal(n, *shape, seed=seed)
    for axis in range(2, x.ndim):
        x = (x + x.roll(1, axis) + x.roll(-1, axis) + x.roll(2, axis)) / 2
    return x


def judge(*sets, **options):
    return audit(*sets, generator=seeded(0), **options)


@pytest.mark.parametrize("kind", [torch.float32, torch.uint8])
def test_the_wide_scan_finds_the_nearest_that_the_exact_one_finds(kind: torch.dtype) -> None:
    train = items(300, (2500,), 1)
    samples = torch.cat([train[:40] + 1e-4 * items(40, (2500,), 2), items(60, (2500,), 3)])
    samples, train = ((100 * x + 128).to(kind) if kind == torch.uint8 else x + 50 for x in (samples, train))
    distances, indices = nearest(samples, train, 3, torch.float32)
    expected = nearest_neighbours(samples.float(), train.float(), 3)
    torch.testing.assert_close(distances, expected[0], rtol=1e-12, atol=1e-12)
    assert torch.equal(indices, expected[1])


def test_kid_is_the_unbiased_formula_and_zero_for_one_distribution() -> None:
    x, y = (torch.randn(4, 3, generator=seeded(seed), dtype=torch.float64) for seed in (1, 2))

    def kernel(a: Tensor, b: Tensor) -> float:
        return (float(a @ b) / 3 + 1) ** 3

    def mmd(a: Tensor, b: Tensor) -> float:
        return kernel(a[0], a[1]) + kernel(b[0], b[1]) - 2 * sum(kernel(i, j) for i in a for j in b) / 4

    a, b = (part[torch.randperm(4, generator=seeded(k))] for k, part in enumerate((x, y)))  # blocks at random
    assert kid(x, y).value == pytest.approx((mmd(a[:2], b[:2]) + mmd(a[2:], b[2:])) / 2, rel=1e-12)
    draws = [kid(*(torch.randn(40, 3, generator=seeded(s)) for s in (i, 1000 + i))) for i in range(200)]
    values = torch.tensor([draw.value for draw in draws])
    assert abs(values.mean()) < 3 * values.std() / 200**0.5, "unbiased"
    x, y = (torch.randn(200, 3, generator=seeded(seed)) for seed in (1, 2))
    assert kid(x + 1, y).low > 0 and abs(kid(x[x[:, 0].argsort()], y).value) < 0.2, "also of sorted items"
    with pytest.raises(ValueError, match="3 item"):
        kid(x[:3], y)


def test_the_generalisation_gap_is_that_of_the_best_variances_and_negative_for_copies() -> None:
    samples, train, held_out = (items(n, (3,), seed).double() for n, seed in ((3, 1), (12, 2), (9, 3)))
    mean, std = held_out.mean(0), held_out.std(0)
    x, a, b = ((part - mean) / std for part in (samples, train, held_out))

    def score(logs: np.ndarray, to: Tensor) -> float:
        squares, variance = torch.cdist(to, x).square(), torch.from_numpy(np.exp(logs))
        return float(-torch.logsumexp(-squares / (2 * variance) - 1.5 * variance.log(), 1).mean()) / 3

    start = (torch.cdist(a, x).square().min(0).values / 3).log().numpy()  # there are other optima
    best = minimize(score, start, args=(a,), method="Nelder-Mead", options={"xatol": 1e-6, "fatol": 1e-9}).x
    expected = 100 * (score(best, a) - score(best, b))
    assert generalisation_gap(samples, train, held_out).value == pytest.approx(expected, abs=0.5)

    train, held_out, fresh = (items(150, (1, 12), seed) for seed in (4, 5, 6))
    assert generalisation_gap(train[:75] + 1e-3 * fresh[:75], train, held_out).high < -50
    assert abs(generalisation_gap(fresh, train, held_out).value) < 20
    for alike, said in ((held_out[:1], "1 item"), (held_out * 0, "all equal")):
        with pytest.raises(ValueError, match=f"held_out has .*{said}"):
            generalisation_gap(fresh, train, alike)


@pytest.mark.parametrize("shape", [(2,), (1, 48), (3, 16, 16)], ids=str)
def test_planted_copies_are_found_and_counted_and_nulls_are_not(shape: tuple[int, ...]) -> None:
    train, held_out, samples = (items(120, shape, seed) for seed in (1, 2, 3))
    samples[:30] = train[[5] * 10 + list(range(20, 40))] + 1e-3 * samples[:30]
    found = judge(samples, train, held_out)
    assert found.copied[5] >= 10 and bool((found.copied[20:40] >= 1).all())
    assert set(found.worst[:30].tolist()) == set(range(30))
    assert found.indices[:10, 0].tolist() == [5] * 10
    assert found.table["samples"]["near-copies"].value >= 0.25
    assert found.table["memorizing baseline"]["near-copies"].value == 1
    if len(shape) > 1:
        assert found.table["samples"]["near-copies"].value == 0.25 and found.copied.sum() == 30
        for null in ("held-out", "gaussian", "mix"):
            assert found.table[null]["near-copies"].value < 0.05, null
    assert found.table["samples"]["closer to train"] == closer_to_train(samples, train, held_out)
    assert found.notes == [] and judge(samples, train, torch.cat([held_out] * 5)).to_json() == found.to_json()
    assert judge(samples, train, torch.cat([train[:2], held_out])).notes[0].startswith("2 held-out")
    alone = judge(samples, train)
    assert alone.table["train, each against the others"]["near-copies"].value < 0.5
    assert torch.equal(alone.distances, found.distances)


def test_the_best_match_sees_copies_that_are_moved_mirrored_and_brighter() -> None:
    train, held_out, samples = (items(90, (3, 32, 32), seed) for seed in (1, 2, 3))
    samples[:30] = train[:30].roll((1, -1), (2, 3)).flip(-1) + 0.3
    found = judge(samples, train, held_out)
    assert found.table["samples"]["near-copies"].value == 0
    assert found.table["samples"]["near-copies at best match"].value == pytest.approx(1 / 3)
    assert found.table["held-out"]["near-copies at best match"].value == 0
    for x in (train[:1], train[:1, ..., 1:]):  # of even and of odd width
        assert shifted(x, x.flip(-1)).item() == pytest.approx(0, abs=1e-6)


def test_repeats_near_twins_and_mirror_images_in_the_training_set_are_said() -> None:
    train, samples = items(80, (3, 16, 16), 1), items(40, (3, 16, 16), 3)
    train[10], train[11], train[12] = train[50], train[51] + 1e-4 * train[3], train[52].flip(-1)
    samples[:4] = train[10]
    found = judge(samples, train)
    assert [(twin[0], twin[1], twin[3]) for twin in found.twins] == [(11, 51, False), (12, 52, True)]
    assert len(found.notes) == 3 and all(note.startswith("1 ") for note in found.notes)
    assert found.table["samples"]["near-copies"].value == 0.1 and found.copied[10] == 4
    assert judge(items(400, (2,), 1), items(3000, (2,), 2)).twins == [], "coincidences in a plane"


def test_bytes_are_judged_like_numbers() -> None:
    train, samples = ((40 * items(60, (3, 16, 16), seed) + 128).clamp(0, 255).byte() for seed in (1, 2))
    samples[:10] = train[:10]
    assert judge(samples, train).to_json() == judge(samples.float(), train.float().numpy()).to_json()


def test_features_replace_pixels_as_a_function_or_as_arrays() -> None:
    train, held_out, samples = (items(60, (3, 16, 16), seed) for seed in (1, 2, 3))
    samples[:15] = train[:15].roll(5, 2)

    def features(x: Tensor) -> Tensor:
        return torch.fft.rfft2(x).abs()  # does not see a shift

    found = judge(samples, train, held_out, features=features)
    assert found.table["samples"]["near-copies"].value == 0.25 and found.copied[:15].tolist() == [1] * 15
    arrays = [features(x).numpy() for x in (samples, train, held_out)]
    assert judge(samples, train, held_out, features=[arrays[0][..., None], *arrays[1:]]).to_json() == found.to_json()
    for given, named in (([arrays[0], arrays[1][:9]], "features of train"), (arrays[:1], "features holds 1")):
        with pytest.raises(ValueError, match=named):
            judge(samples, train, features=given)
    for given in (lambda x: features(x) / 0, lambda x: x.mean((1, 2, 3)), lambda x: features(x)[:5], iter):
        with pytest.raises((TypeError, ValueError), match=r"features of samples|iterator is no tensor"):
            judge(samples, train, features=given)
    with pytest.raises(ValueError, match="timm"):
        features_of("resnet18", train)
    network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(768, 9), torch.nn.Dropout()).double()
    for features in (network, network.forward):  # a network in training mode, in a precision of its own
        found = judge(train, train, features=features)
        assert found.table["samples"]["near-copies"].value == 1 and all(part.training for part in network)


def test_samples_that_nearly_repeat_each_other_widen_intervals_and_volumes_and_latents_are_judged() -> None:
    for shape in ((1, 8, 8, 8), (16, 4, 4)):  # (N, 16, 4, 4) is no layout of pictures with channels last
        train, held_out = (items(60, shape, seed) for seed in (1, 2))
        found = judge(train[:1] + 1e-5 * items(40, shape, 3), train, held_out).table["samples"]
        assert all(found[name].value == 1 and found[name].low < 0.3 for name in ("near-copies", "closer to train"))
    points = items(400, (2,), 4)  # each ten times: more than enter all measures
    assert judge(points.repeat(10, 1), points).table["samples"]["near-copies"] == wilson(4000, 4000, distinct=400)


def test_one_picture_is_judged_in_any_precision_and_few_are_not_refused_for_their_scale() -> None:
    train = items(200, (3, 1, 1), 1) + 0.05 * items(200, (3, 16, 16), 2)
    for n, held_out in product((1, 2, 3, 4), ([], [items(2, (3, 16, 16), 9)])):  # too few for energy and KID
        assert judge(items(n, (3, 16, 16), 8), train, *held_out).table["samples"]["near-copies"].value == 0
    twice = torch.cat([train[:9], -0.0 * train[:1], 0.0 * train[:1], train[:9]]).bfloat16()
    assert (found := judge(twice[:1], twice)).table["samples"]["near-copies"].value == 1
    assert found.notes[0].startswith("10 training items repeat others"), "-0.0 is 0.0"


def test_what_cannot_be_judged_is_refused_by_name() -> None:
    train, samples, lines = items(40, (3, 16, 16), 1), items(40, (3, 16, 16), 2), items(40, (9, 1), 3)
    short = (1000 * train.abs()).numpy().astype("uint16")
    for given, named in (
        ((samples.permute(0, 2, 3, 1), train), "channels first"), ((samples[..., :8], train), "one size"),
        ((short, short), "samples is torch.uint16.*signed or uint8"),
        ((samples.permute(0, 2, 3, 1), train.permute(0, 2, 3, 1)), "movedim"), ((samples, train[:3]), "3 item"),
        (((samples + 1) / 2, train), "one scale"), ((samples, 127.5 * train + 127.5), "one scale"),
        ((lines, lines), "first"), ((samples / 0, train), "samples"), ((samples, train, train > 0), "held_out"),
        ((samples, train, samples / 2 + 0.5), "held_out lie in"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=named):
            judge(*given)


def test_time_warps_are_those_of_dynamic_time_warping() -> None:
    pytest.importorskip("dtaidistance")
    a, b = items(4, (2, 20), 1).double(), items(4, (2, 20), 2).double()
    for x, y, found in zip(a, b, warped(a, b), strict=True):
        cost = np.full((21, 21), np.inf)
        cost[0, 0] = 0
        for i in range(20):
            for j in range(max(0, i - 1), min(20, i + 2)):  # a window of 2: at most one step apart
                step = float((x[:, i] - y[:, j]).square().sum())
                cost[i + 1, j + 1] = step + min(cost[i, j], cost[i, j + 1], cost[i + 1, j])
        assert float(found) == pytest.approx(cost[20, 20] ** 0.5, rel=1e-9)
    train, samples = items(60, (1, 60), 1), items(40, (1, 60), 2)
    samples[:10] = torch.nn.functional.interpolate(train[:10, :, 2:58], 60, mode="linear")
    found = judge(samples, train, match=warped).table["samples"]
    fresh, known = (items(n, (1, 60), n) + 9 * items(n, (1, 1), n + 1) for n in (40, 60))  # each at its own level
    assert judge(fresh, known, match=warped).table["samples"]["near-copies at best match"].value == 0
    assert found["near-copies at best match"].value > found["near-copies"].value


def write_pictures(folder: Path, x: Tensor) -> Path:
    folder.mkdir()
    for i, picture in enumerate((40 * x + 128).clamp(0, 255).byte().permute(0, 2, 3, 1).numpy()):
        Image.fromarray(picture).save(folder / f"{i:03}.png")
    return folder


def test_the_command_writes_a_page_and_numbers_and_holds_a_release_back(tmp_path: Path, capsys) -> None:
    train, held_out, samples = (items(40, (3, 16, 16), seed) for seed in (1, 2, 3))
    samples[:10] = train[:10]
    paths = [str(write_pictures(tmp_path / name, x)) for name, x in (("s", samples), ("t", train), ("h", held_out))]
    command = ["audit", "--samples", paths[0], "--train", paths[1], "--out", str(tmp_path / "out")]
    (tmp_path / "s" / "read me.txt").touch()
    assert main([*command, "--held-out", paths[2], "--fail-above", "0.2"]) == 3
    assert main([*command, "--fail-above", "0.25"]) == 0
    page, found = ((tmp_path / "out" / f"audit.{kind}").read_text() for kind in ("html", "json"))
    assert json.loads(found)["table"]["samples"]["near-copies"]["value"] == 0.25
    assert "25.0%" in page and page.count("data:image/png") == 3 and 'src="http' not in page and "1 other files" in page
    write_pictures(tmp_path / "grey", samples[:, :1].expand(-1, 3, -1, -1))
    assert main([*command[:1], "--samples", str(tmp_path / "grey"), *command[3:]]) == 0
    assert "pictures of one set are grey" in (tmp_path / "out" / "audit.html").read_text()
    capsys.readouterr()

    (tmp_path / "s" / "007.png").write_bytes(b"no picture")
    Image.new("RGB", (9, 16)).save(tmp_path / "t" / "008.png")
    np.savez(tmp_path / "two.npz", a=np.zeros(3), b=np.zeros(3))
    (tmp_path / "empty").mkdir()
    wrong = {paths[0]: "007.png", paths[1]: "008.png", "no": "no"}
    for path, named in (wrong | {tmp_path / "two.npz": "arrays a, b", tmp_path / "empty": "holds no picture"}).items():
        assert main(["audit", "--samples", str(path), "--train", paths[2], "--out", str(tmp_path / "none")]) == 2
        assert named in capsys.readouterr().err and not (tmp_path / "none").exists()
    pictures = read_items(tmp_path / "h")
    assert pictures.dtype == torch.uint8
    rows, last = pictures.flatten(1), pictures.permute(0, 2, 3, 1)
    swapped = (last.numpy().astype(">i4"), pictures.int()), (pictures[:, 0], pictures[:, :1])
    for saved, read in ((last, pictures), (rows[..., None], rows[:, None]), *swapped):
        np.save(tmp_path / "one.npy", saved)
        assert torch.equal(read_items(tmp_path / "one.npy"), read)
    np.savez(tmp_path / "named.npz", labels=np.zeros(3), items=last)
    assert torch.equal(read_items(tmp_path / "named.npz"), pictures)


def test_the_pages_null_is_never_the_samples_themselves(monkeypatch) -> None:
    train, held_out, samples = (items(40, (2,), seed) for seed in (1, 2, 3))
    asked, compare = [], report.compare
    monkeypatch.setattr(report, "compare", lambda *given, null: asked.append(null) or compare(*given, null=null))
    for known in ((train,), (train, held_out)):
        report.audit_page(judge(samples, *known), samples, train)
    assert asked == ["train, each against the others", "held-out"]


def test_points_and_signals_get_their_page_too(tmp_path: Path) -> None:
    for shape, figures in (((2,), 2), ((1, 32), 3)):
        train, held_out, samples = (items(40, shape, seed) for seed in (1, 2, 3))
        samples[:10] = train[:10]
        for name, x in (("s", samples), ("t", train), ("h", held_out)):
            np.savez(tmp_path / f"{name}.npz", x)
        paths = [str(tmp_path / f"{name}.npz") for name in "sth"]
        command = ["audit", "--samples", paths[0], "--train", paths[1], "--held-out", paths[2]]
        assert main([*command, "--out", str(tmp_path / "out"), "--fail-above", "0.2"]) == 3
        assert (tmp_path / "out" / "audit.html").read_text().count("data:image/png;base64,") == figures

"""What is refused at the edges says what was given and what would be right."""

from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from draws import normal
from PIL import Image
from torch import nn

from memlib import Schedule, banded, gradient_norm_at, log_snr_interval, uniform, with_floor
from memlib.audit import audit
from memlib.lab import Experiment, data
from memlib.lab.files import write_between
from memlib.lab.hypotheses import decide
from memlib.lab.own import read_items
from memlib.lab.plans import read_plan
from memlib.lab.spectrum import memorization_spectrum
from memlib.metrics import fidelity, membership, nearest_neighbours, share_below
from memlib.metrics.generalisation import kid
from memlib.rivals import published
from memlib.viz.explore import draw_snr

ITEMS = normal(12, 6)
CALLS = {
    "edges, 100": partial(banded, 1000, [200, 100], [0.3, 0.3, 0.4]),
    "floor = 2": partial(with_floor, uniform(10), 2.0),
    "rival = 'P3'": partial(published, Schedule.linear(100), "P3"),
    "NaN": partial(membership, torch.full((2, 3), torch.nan), torch.ones(2, 3)),
    "grids": partial(membership, torch.ones(2, 3), torch.ones(1, 3)),
    "3 item": partial(kid, ITEMS[:3], ITEMS),
    "1 item": partial(fidelity, ITEMS[:1], ITEMS + 1, ITEMS),
    "k = 0": partial(nearest_neighbours, ITEMS, ITEMS, 0),
    "ratio, NaN": partial(share_below, torch.tensor([0.5, torch.nan])),
    "timesteps, another schedule": partial(Experiment, log_snr_interval(Schedule.cosine(), -2, 2), "spiral"),
    "loss_weight, another schedule": partial(
        Experiment, uniform(), "spiral", loss_weight=published(Schedule.cosine(), "P2")
    ),
    "features holds 1": partial(audit, ITEMS, ITEMS, generator=torch.Generator(), features=[ITEMS]),
    "0 controls": partial(memorization_spectrum, []),
    "'square', linear": partial(draw_snr, "square"),
    "Identity": partial(gradient_norm_at, nn.Identity(), ITEMS, Schedule.linear(), [5], generator=torch.Generator()),
}


@pytest.mark.parametrize("words", CALLS)
def test_values_that_mean_nothing(words: str) -> None:
    with pytest.raises((TypeError, ValueError)) as error:
        CALLS[words]()
    assert all(word in str(error.value) for word in words.split(", "))


def test_files_that_hold_something_else(tmp_path: Path) -> None:
    np.savez(tmp_path / "two.npz", a=ITEMS, b=ITEMS)
    np.save(tmp_path / "wide.npy", normal(9, 3, 8, 8).numpy())
    np.save(tmp_path / "deep.npy", np.full((9, 8, 8), 60_000, np.uint16))
    (tmp_path / "empty").mkdir()
    (tmp_path / "page.md").write_text("no marks")
    Image.new("RGB", (4, 4)).save(tmp_path / "small.png")
    for call, words in (
        (partial(read_items, tmp_path / "two.npz"), "arrays a, b; need exactly one"),
        (partial(data.from_file, tmp_path / "two.npz"), "arrays a, b; need one, or one called items"),
        (partial(read_items, tmp_path / "empty"), "holds no picture"),
        (partial(data.from_file, tmp_path / "wide.npy", image_size=4), "say image_size = 8"),
        (partial(data.from_file, tmp_path / "deep.npy"), "need 8 bits"),
        (partial(data.from_folder, tmp_path, image_size=8), "4 x 4; need at least image_size = 8"),
        (partial(write_between, tmp_path / "page.md", ("<!-- a -->", "<!-- b -->"), "text"), "lacks the marks"),
    ):
        with pytest.raises(ValueError, match=words):
            call()


def test_a_random_design_without_enough_runs_is_not_run() -> None:
    assert [f.verdict for f in decide([], [read_plan("mixture4_random")])] == ["not run"]

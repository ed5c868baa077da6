"""The zone that geometry predicts."""

import pytest
import torch

from memlib.lab import data, geometry
from memlib.lab.plans import read_plan
from memlib.schedules import Schedule

SCHEDULE = Schedule.linear(1000)
SPLITS = range(200, 204)


@pytest.mark.parametrize("name", ["mixture4_zone", "mixture64_zone"])
def test_plans_hold_the_zone_that_is_predicted(name):
    plan = read_plan(name)
    assert list(geometry.predicted_zone(plan.controls["uniform"], SPLITS)) == plan.content["zone"]


def test_the_zone_moves_with_the_scale_of_the_data():
    """Distances twice as large are hidden by twice the noise."""
    ends = []
    for scale in (1.0, 2.0):
        pulls = []
        for seed in SPLITS:
            own, generator = data.load("mixture16", 32, seed=seed), torch.Generator().manual_seed(seed)
            pulls.append(geometry.pull(scale * own.train, scale * own.reference, SCHEDULE, generator))
        ends.append(geometry.zone(torch.stack(pulls).mean(0)))
    for t, moved in zip(*ends, strict=True):
        assert abs(SCHEDULE.sigma[moved] / SCHEDULE.sigma[t] - 2) < 0.2


def test_the_zone_of_the_mixture_is_where_the_records_have_it():
    """t = 75 to 274 adds near-copies (mixture_random): more than half of the predicted zone lies there."""
    low, high = geometry.predicted_zone(read_plan("mixture_random").controls["uniform"], SPLITS)
    assert (min(high, 275) - max(low, 75)) / (high - low) > 0.9


def test_nothing_is_pulled_by_training_items_that_no_other_item_can_feel():
    generator = torch.Generator().manual_seed(0)
    items = torch.randn(8, 16, generator=generator)
    pulls = geometry.pull(items, 1000 + torch.randn(64, 16, generator=generator), Schedule.linear(100), generator)
    assert pulls[:8].max() == 0

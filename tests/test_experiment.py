"""A run is a function of its description: stored, resumed to the same bits, and keyed by what decides its numbers."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn.utils import parameters_to_vector

from memlib import Schedule, gaussian_interval, published, sample, uniform
from memlib.lab import data, experiment
from memlib.lab import runs as made
from memlib.lab.experiment import Experiment, Network
from memlib.lab.runs import Result, run, run_fleet
from memlib.lab.sweep import sweep
from memlib.training import TrainConfig, train

SMALL = Experiment(
    uniform(100), "spiral", n_train=8, network=Network(width=16), training=TrainConfig(steps=40, batch_size=8),
    n_samples=6, sampler_steps=5,
)  # fmt: skip
COURSE = (7, 20, 39)
pytestmark = pytest.mark.usefixtures("own_runs")


def weights(result: Result, step: int | None = None) -> torch.Tensor:
    return parameters_to_vector(result.denoiser(step=step).parameters())


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.suffix != ".lock")


def test_a_run_is_stored_read_and_sampled_again_and_holds_the_loss_of_every_band(own_runs):
    told = []
    first = run(SMALL, on_step=told.append)
    assert told == list(range(1, 41))
    again = run(replace(SMALL, label="named"), on_step=told.append)
    assert len(told) == 40, "it trained again"
    assert again.path == first.path and again.experiment.label == "named"
    assert torch.equal(first.samples, again.samples)
    assert files(own_runs) == [first.path.name] == [SMALL.key(SMALL.load_data().sha256) + ".pt"]
    result = Result.load(first.path)
    samples = sample(result.denoiser(), result.experiment.build_schedule(), (2,), 6, seed=0, steps=5)
    assert torch.equal(samples, result.samples) and result.history["step"][-1] == 40
    assert all(len(reading) == made.BANDS for reading in result.history["loss"])
    assert all(value > 0 for reading in result.history["loss"] for value in reading if value is not None)


def test_a_run_is_its_parts_put_together():
    own = replace(SMALL, seed=5, course=COURSE, loss_weight=gaussian_interval(100, 0, 50))
    result, dataset, generator = run(own), own.load_data(), torch.Generator().manual_seed(5)
    network, schedule = own.network.build((2,), seed=5), own.build_schedule()
    more = {"generator": generator, "loss_weight": own.loss_weight.effective_weight()}
    for step in train(network, dataset.train, schedule, own.timesteps, own.training, **more):
        if step.step in (*COURSE, 40):
            assert torch.equal(weights(result, step.step), parameters_to_vector(step.ema.parameters()))
    assert torch.equal(weights(result), parameters_to_vector(step.ema.parameters()))
    assert torch.equal(result.samples, made.draw(step.ema, own, dataset)) and result.steps == (*COURSE, 40)
    assert torch.equal(result.samples_at(40), result.samples)
    assert not torch.allclose(result.samples_at(7, n=3), result.samples[:3])
    with pytest.raises(ValueError, match="step = 8 is not stored"):
        result.denoiser(step=8)


def test_a_shipped_run_is_read_for_its_key_only_and_made_again_if_damaged(own_runs, tmp_path, monkeypatch):
    monkeypatch.setattr(made, "SHIPPED", tmp_path / "networks")
    made.SHIPPED.mkdir()
    first = run(SMALL)
    made.ship(own_runs)
    first.path.unlink()
    (kept,) = sweep([replace(SMALL, label="named")], shipped=True, workers=1)
    assert kept.path == made.SHIPPED / first.path.name and kept.experiment.label == "named" and not first.path.exists()
    assert kept.samples.dtype == torch.float32 and torch.equal(kept.samples, kept.samples_at(40).half().float())
    torch.testing.assert_close(kept.samples, first.samples, atol=0, rtol=0.01)
    assert made.find_shipped(replace(SMALL, seed=1)) is None
    kept.path.write_bytes(kept.path.read_bytes()[:-9])
    with pytest.warns(UserWarning, match=r"is damaged.*restore it with git"):
        (again,) = sweep([SMALL], shipped=True, workers=1)
    assert again.path == first.path and torch.equal(again.samples, first.samples) and kept.path.exists()


def test_a_seed_gives_the_same_first_weights_and_leaves_torchs_generator_alone():
    before = torch.random.get_rng_state()
    a, b, other = (parameters_to_vector(Network(8).build((2,), seed).parameters()) for seed in (1, 1, 2))
    assert torch.equal(a, b) and not torch.equal(a, other)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert not torch.equal(a, parameters_to_vector(Network(8).build((2,)).parameters()))


@pytest.mark.parametrize(("dataset", "clipped"), [("emoji", True), ("spiral", False)])
def test_an_experiments_sampler_is_taken_and_only_pictures_are_clipped_to_their_range(dataset, clipped):
    own = replace(SMALL, dataset=dataset)
    by = {kind: made.draw(lambda x, t: -x, replace(own, sampler=kind), own.load_data()) for kind in ("ddim", "ddpm")}
    assert not torch.equal(*by.values()) and (by["ddim"].abs().max() <= 1) == clipped


def kill(at: int) -> Callable[[int], None]:
    """As a real kill, it leaves everything where it is: it is no Exception."""

    def on_step(step: int) -> None:
        if step == at:
            raise KeyboardInterrupt

    return on_step


EXACT = replace(SMALL, training=replace(SMALL.training, precision="float32"), course=COURSE)
FLEET = [EXACT, replace(EXACT, seed=1), replace(EXACT, timesteps=gaussian_interval(100, 0, 50))]


@pytest.mark.parametrize("at", [3, 21, 39, "while files are written"])
@pytest.mark.parametrize("own", [FLEET[:1], FLEET], ids=["alone", "fleet"])
def test_cut_off_and_resumed_it_ends_with_the_same_bits(own, at, tmp_path, monkeypatch):
    whole = run_fleet(own)
    monkeypatch.setenv("MEMLIB_RUNS", str(tmp_path / "other"))
    monkeypatch.setattr(made, "CHECKPOINT_SECONDS", 0)
    with pytest.raises(KeyboardInterrupt), monkeypatch.context() as patch:
        if isinstance(at, str):
            written, write = [], made._write
            patch.setattr(made, "_write", lambda path, content: (
                written.append(path), kill(2 if len(own) > 1 else 1)(sum(p.suffix == ".pt" for p in written)),
                write(path, content),
            ))  # fmt: skip
        run_fleet(own, on_step=lambda step: kill(at)(step))
    told = []
    resumed = run_fleet(own, on_step=told.append)
    assert told[0] > 1, "it began anew"
    for ours, theirs in zip(resumed, whole, strict=True):
        assert torch.equal(ours.samples, theirs.samples) and ours.steps == theirs.steps == (*COURSE, 40)
        assert all(torch.equal(weights(ours, step), weights(theirs, step)) for step in ours.steps)
        assert ours.history["loss"] == theirs.history["loss"] and ours.history["step"] == theirs.history["step"]
    assert files(tmp_path / "other") == sorted(result.path.name for result in resumed)


def test_a_fleet_stores_each_run_once_and_trains_what_is_not_stored(own_runs):
    told, few = [], run(FLEET[1])
    results = run_fleet([*FLEET, replace(FLEET[0], label="twice")], on_step=told.append)
    assert told == list(range(1, 41))
    assert [result.experiment for result in results[:3]] == FLEET and results[3].experiment.label == "twice"
    assert [result.history["fleet"] for result in results] == [2, 1, 2, 2], "what was stored was trained again"
    assert torch.equal(results[1].samples, few.samples) and len(files(own_runs)) == 3
    run_fleet(FLEET, on_step=told.append)
    assert len(told) == 40


def test_a_checkpoint_of_other_runs_or_another_device_is_ignored(tmp_path, monkeypatch):
    alone = run(FLEET[0])
    monkeypatch.setenv("MEMLIB_RUNS", str(tmp_path / "other"))
    monkeypatch.setattr(made, "CHECKPOINT_SECONDS", 0)
    with pytest.raises(KeyboardInterrupt):
        run_fleet(FLEET, on_step=kill(21))
    (path,) = (tmp_path / "other").glob("*.checkpoint")
    assert torch.equal(run(FLEET[0]).samples, alone.samples)
    made._write(path, made._read(path) | {"device": "cuda"})
    told = []
    run_fleet(FLEET, on_step=told.append)
    assert told[0] == 1


def test_all_take_the_locks_of_a_fleet_in_one_order(tmp_path, monkeypatch):
    """Else each of two who ask for the same runs could hold the lock that the other waits for."""
    taken, lock = [], made.FileLock
    monkeypatch.setattr(made, "FileLock", lambda path: (taken.append(path.name), lock(path))[1])
    for i, fleet in enumerate((FLEET, FLEET[::-1])):
        monkeypatch.setenv("MEMLIB_RUNS", str(tmp_path / str(i)))
        run_fleet(fleet)
    assert taken[:3] == taken[3:] and len(set(taken)) == 3
    with pytest.raises(ValueError, match=r"experiments differ in .*schedule"):
        run_fleet([SMALL, replace(SMALL, schedule="cosine")])


def test_every_field_but_the_label_changes_the_key(monkeypatch):
    changed = {
        "timesteps": gaussian_interval(100, 0, 50), "dataset": "moons", "n_train": 9, "image_size": 64, "seed": 1,
        "schedule": "cosine", "network": Network(width=24), "training": TrainConfig(steps=41),
        "loss_weight": gaussian_interval(100, 0, 50), "n_samples": 7, "sampler_steps": 6, "sampler": "ddpm",
        "course": (3,), "ambient": 7,
    }  # fmt: skip
    keys = [SMALL.key("content"), *(replace(SMALL, **{name: value}).key("content") for name, value in changed.items())]
    keys += [SMALL.key("other content"), *(replace(SMALL, timesteps=uniform(T)).key("content") for T in (500, 1000))]
    assert replace(SMALL, label="x").key("content") == keys[0]
    monkeypatch.setattr(experiment, "VERSION", 0)
    keys.append(SMALL.key("content"))
    assert len(set(keys)) == len(keys)
    assert {*changed, "T"} == set(replace(SMALL, ambient=7).to_dict()) == {*SMALL.to_dict(), "ambient"}


def test_a_description_goes_through_json_and_refuses_what_makes_no_run():
    rich = replace(SMALL, loss_weight=gaussian_interval(100, 3, 40), timesteps=gaussian_interval(100, 3, 40), ambient=3)
    assert Experiment.from_dict(rich.to_dict()) == rich
    for bad in ({"epochs": 3}, {"training": {"epochs": 3}}, {"network": {"epochs": 3}}):
        with pytest.raises(TypeError, match="epochs"):
            Experiment.from_dict(rich.to_dict() | bad)
    bad_values = {
        "schedule": "quadratic", "n_train": 1, "seed": -1, "timesteps": [0.5, 0.5], "sampler_steps": 101,
        "loss_weight": uniform(7), "course": (41,), "dataset": "cats", "sampler": "euler", "ambient": 100,
        "network": type("Own", (Network,), {})(), "training": {},
    }  # fmt: skip
    for name, value in bad_values.items():
        with pytest.raises((TypeError, ValueError), match="cats" if name == "dataset" else name):
            replace(SMALL, **{name: value})
    with pytest.raises(ValueError, match="dataset has 5"):  # by its name it would be split anew
        replace(SMALL, dataset=data.load("spiral", 5))
    foreign = published(Schedule.cosine(100), "P2")  # its recipe says another p(t) here
    for name in ("timesteps", "loss_weight"):
        with pytest.raises(ValueError, match=f"{name}.*another schedule"):
            replace(SMALL, **{name: foreign})
    with pytest.raises(ValueError, match="width"):  # at once, not in a worker
        replace(SMALL, dataset="emoji", network=Network(12))


def test_numpys_numbers_and_lists_are_as_good_as_pythons():
    training = replace(SMALL.training, steps=np.int64(2), learning_rate=np.float32(0.5))
    numpys = replace(SMALL, seed=np.int64(3), training=training, network=Network(width=16, multipliers=[1, 2]))
    plain = replace(SMALL, seed=3, training=replace(training, steps=2, learning_rate=0.5), network=Network(16, (1, 2)))
    assert numpys.to_dict() == plain.to_dict() and numpys.alike() == plain.alike()
    assert run(numpys).path == run(plain).path


def test_a_run_that_fails_late_keeps_its_checkpoint_unless_it_diverged(own_runs, monkeypatch):
    monkeypatch.setattr(made, "CHECKPOINT_SECONDS", 0)
    for own, error in ((SMALL, MemoryError), (replace(SMALL, seed=1), FloatingPointError)):
        with monkeypatch.context() as patch, pytest.raises(error):
            patch.setattr(made, "draw", lambda *_, error=error: (_ for _ in ()).throw(error))
            run(own)
        told = []
        assert len([*own_runs.glob("*.checkpoint")]) == (error is MemoryError)
        run(own, on_step=told.append)
        assert (told[0] > 1) == (error is MemoryError)


def test_a_run_gives_torchs_number_of_threads_back():
    before, seen = torch.get_num_threads(), set()
    torch.set_num_threads(2)
    try:
        run(SMALL, on_step=lambda step: seen.add(torch.get_num_threads()))
        assert (seen, torch.get_num_threads()) == ({1}, 2)
    finally:
        torch.set_num_threads(before)


def test_a_missing_or_foreign_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere"):
        Result.load(tmp_path / "nowhere")
    torch.save({"own": 1}, tmp_path / "own.pt")
    with pytest.raises(ValueError, match=r"own\.pt holds no run"):
        Result.load(tmp_path / "own.pt")
    assert (tmp_path / "own.pt").exists()

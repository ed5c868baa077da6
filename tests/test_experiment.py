"""A run is a function of its description: cached, resumed to the same bits, refused by name where it makes none."""

import json
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch.nn.utils import parameters_to_vector

from memlib import gaussian_interval, sample, uniform
from memlib.lab import experiment as module
from memlib.lab import runs as made
from memlib.lab.experiment import Experiment, Network
from memlib.lab.profiles import PROFILES, profile
from memlib.lab.runs import Result, run, run_fleet
from memlib.training import TrainConfig, train

SMALL = Experiment(
    uniform(100),
    "spiral",
    n_train=8,
    network=Network(width=16),
    training=TrainConfig(steps=120, batch_size=8),
    n_samples=6,
    sampler_steps=5,
)


@pytest.fixture(autouse=True)
def runs(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("MEMLIB_RUNS", str(tmp_path))
    return tmp_path


def weights(result: Result) -> torch.Tensor:
    return torch.cat([p.flatten() for p in result.denoiser().parameters()])


def test_a_run_is_kept_and_read_again(runs):
    told = []
    first = run(SMALL, on_step=told.append)
    assert told == list(range(1, 121))
    again = run(replace(SMALL, label="named"), on_step=told.append)
    assert len(told) == 120, "it trained again"
    assert again.folder == first.folder and again.experiment.label == "named"
    assert torch.equal(first.samples, again.samples)
    assert sorted(p.name for p in runs.iterdir()) == [first.folder.name, first.folder.name + ".lock"]


def test_loaded_and_sampled_in_three_lines():
    folder = run(SMALL).folder
    result = Result.load(folder)
    samples = sample(result.denoiser(), result.experiment.build_schedule(), (2,), 6, seed=0, steps=5)
    assert torch.equal(samples, result.samples)


def test_history_reads_every_band():
    history = run(SMALL).history
    assert history["step"][-1] == 120
    assert all(len(reading) == made.BANDS for reading in history["loss"])
    assert all(value > 0 for reading in history["loss"] for value in reading if value is not None)


def test_a_run_is_its_parts_put_together():
    experiment = replace(SMALL, seed=5)
    result, dataset, generator = run(experiment), experiment.load_data(), torch.Generator().manual_seed(5)
    network = experiment.network.build((2,), seed=5)
    schedule = experiment.build_schedule()
    *_, last = train(network, dataset.train, schedule, experiment.timesteps, experiment.training, generator=generator)
    assert torch.equal(weights(result), torch.cat([p.flatten() for p in last.ema.parameters()]))
    assert torch.equal(result.samples, made.draw(last.ema, experiment, dataset))


def test_a_seed_gives_the_same_first_weights_and_leaves_torchs_generator_alone():
    before = torch.random.get_rng_state()
    a, b, other = (parameters_to_vector(Network(8).build((2,), seed).parameters()) for seed in (1, 1, 2))
    assert torch.equal(a, b) and not torch.equal(a, other)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert not torch.equal(a, parameters_to_vector(Network(8).build((2,)).parameters()))


@pytest.mark.parametrize(("dataset", "clipped"), [("emoji", True), ("spiral", False)])
def test_only_pictures_are_clipped_to_their_range(dataset, clipped):
    experiment = replace(SMALL, dataset=dataset)
    samples = made.draw(lambda x, t: -x, experiment, experiment.load_data())
    assert (samples.abs().max() <= 1) == clipped


class Killed(BaseException):
    """Not an Exception: as a kill, it leaves everything where it is."""


def kill(at: int | str) -> Callable[[int], None]:
    def on_step(step: int) -> None:
        if step == at:
            raise Killed

    return on_step


@pytest.mark.parametrize("at", [3, 61, 119])
def test_cut_off_and_resumed_ends_with_the_same_bits(at, tmp_path, monkeypatch):
    whole = run(SMALL)
    monkeypatch.setenv("MEMLIB_RUNS", str(tmp_path / "other"))
    monkeypatch.setattr(made, "CHECKPOINT_SECONDS", 0)

    with pytest.raises(Killed):
        run(SMALL, on_step=kill(at))
    told = []
    resumed = run(SMALL, on_step=told.append)
    assert at > 2 and told[0] > 1, "it began anew"
    assert torch.equal(weights(resumed), weights(whole))
    assert torch.equal(resumed.samples, whole.samples)
    assert resumed.history["loss"] == whole.history["loss"]


EXACT = replace(SMALL, training=replace(SMALL.training, precision="float32"))  # in which rounding stays small
FLEET = [EXACT, replace(EXACT, seed=1), replace(EXACT, timesteps=gaussian_interval(100, 0, 50))]


def test_a_fleet_keeps_each_run_as_if_it_had_been_alone(runs, tmp_path, monkeypatch):
    told, few = [], run(FLEET[1])
    results = run_fleet([*FLEET, replace(FLEET[0], label="twice")], on_step=told.append)
    assert told == list(range(1, 121))
    assert [result.experiment for result in results[:3]] == FLEET and results[3].experiment.label == "twice"
    assert [result.history["fleet"] for result in results] == [2, 1, 2, 2], "what was kept was trained again"
    assert torch.equal(results[1].samples, few.samples)
    assert len(list(runs.glob("*.lock"))) == len(list(runs.iterdir())) / 2 == 3
    run_fleet(FLEET, on_step=told.append)
    assert len(told) == 120
    monkeypatch.setenv("MEMLIB_RUNS", str(tmp_path / "other"))
    for result in results:
        alone = run(result.experiment)
        assert result.folder.name == alone.folder.name
        assert result.history["step"] == alone.history["step"]
        torch.testing.assert_close(result.samples, alone.samples, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("at", [3, 61, 119, "while folders are renamed"])
def test_a_fleet_cut_off_and_resumed_ends_with_the_same_bits(at, tmp_path, monkeypatch):
    whole = run_fleet(FLEET)
    monkeypatch.setenv("MEMLIB_RUNS", str(tmp_path / "other"))
    monkeypatch.setattr(made, "CHECKPOINT_SECONDS", 0)

    with pytest.raises(Killed), monkeypatch.context() as patch:
        if isinstance(at, str):
            names = iter(["first"])
            rename = made.download.os.replace
            folder = lambda source, target: rename(source, target) if next(names, None) else kill(at)(at)  # noqa: E731
            patch.setattr(made.download, "os", SimpleNamespace(replace=folder))
        run_fleet(FLEET, on_step=kill(at))
    told = []
    resumed = run_fleet(FLEET, on_step=told.append)
    assert told[:1] != [1] and bool(told) != isinstance(at, str), "it began anew"
    for ours, theirs in zip(resumed, whole, strict=True):
        assert torch.equal(weights(ours), weights(theirs))
        assert torch.equal(ours.samples, theirs.samples)
        assert ours.history["loss"] == theirs.history["loss"]


def test_from_a_fleets_checkpoint_no_run_alone_goes_on(tmp_path, monkeypatch):
    alone = [run(experiment) for experiment in FLEET]
    monkeypatch.setenv("MEMLIB_RUNS", str(tmp_path / "other"))
    monkeypatch.setattr(made, "CHECKPOINT_SECONDS", 0)

    with pytest.raises(Killed):
        run_fleet(FLEET, on_step=kill(61))
    assert [torch.equal(run(e).samples, old.samples) for e, old in zip(FLEET, alone, strict=True)] == [True] * 3


def test_all_take_the_locks_of_a_fleet_in_one_order(tmp_path, monkeypatch):
    """Else each of two who ask for the same runs could hold the lock that the other waits for."""
    obtain, taken = made.download.obtain, []
    monkeypatch.setattr(
        made.download,
        "obtain",
        lambda folder, *rest, **named: (taken.append(folder.name), obtain(folder, *rest, **named)),
    )
    orders = []
    for i, fleet in enumerate((FLEET, FLEET[::-1])):
        monkeypatch.setenv("MEMLIB_RUNS", str(tmp_path / str(i)))
        run_fleet(fleet)
        orders.append(taken[:3])
        taken.clear()
    assert orders[0] == orders[1] and len(set(orders[0])) == 3


def test_a_fleet_of_runs_that_are_not_alike_is_refused():
    with pytest.raises(ValueError, match=r"experiments differ in .*schedule"):
        run_fleet([SMALL, replace(SMALL, schedule="cosine")])


def test_a_damaged_run_is_named_and_made_again():
    first = run(SMALL)
    path = first.folder / "weights.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"weights\.safetensors"):
        run(SMALL)
    assert torch.equal(weights(run(SMALL)), weights(first))


def test_reading_a_run_that_is_gone_leaves_one_that_is_being_made_alone():
    result = run(SMALL)
    result.folder.rename(result.folder.with_suffix(".part"))
    (result.folder.with_suffix(".part") / made.CHECKPOINT).touch()
    with pytest.raises(FileNotFoundError, match="holds no finished run"):
        Result.load(result.folder)
    with pytest.raises(ValueError, match="was damaged"):
        result.denoiser()
    assert (result.folder.with_suffix(".part") / made.CHECKPOINT).exists()


def test_every_field_but_the_label_changes_the_key():
    changed = {
        "timesteps": gaussian_interval(100, 0, 50),
        "dataset": "moons",
        "n_train": 9,
        "image_size": 64,
        "seed": 1,
        "schedule": "cosine",
        "network": Network(width=24),
        "training": TrainConfig(steps=121),
        "loss_weight": torch.ones(100),
        "n_samples": 7,
        "sampler_steps": 6,
    }
    dataset = SMALL.load_data()
    keys = [SMALL.key(dataset)] + [replace(SMALL, **{name: value}).key(dataset) for name, value in changed.items()]
    assert len(set(keys)) == len(keys)
    assert replace(SMALL, label="x").key(dataset) == SMALL.key(dataset)
    assert set(changed) | {"label"} == set(SMALL.to_dict())


def test_description_goes_through_json_and_refuses_unknown_keys():
    rich = replace(SMALL, loss_weight=torch.rand(100, dtype=torch.float64), timesteps=gaussian_interval(100, 3, 40))
    plain = json.loads(json.dumps(rich.to_dict()))
    dataset = rich.load_data()
    assert Experiment.from_dict(plain).key(dataset) == rich.key(dataset)
    for broken in (plain | {"epochs": 3}, plain | {"training": {"epochs": 3}}, plain | {"network": {"epochs": 3}}):
        with pytest.raises(ValueError, match=r"unknown .*epochs.*known are"):
            Experiment.from_dict(broken)
    with pytest.raises(ValueError, match=r"plain lacks the keys \['dataset', 'timesteps'\]"):
        Experiment.from_dict({})


@pytest.mark.parametrize(
    ("field", "value", "error"),
    [
        ("dataset", "cats", ValueError),
        ("schedule", "quadratic", ValueError),
        ("n_train", 1, ValueError),
        ("seed", -1, ValueError),
        ("n_samples", 2.5, TypeError),
        ("timesteps", [0.5, 0.5], TypeError),
    ],
)
def test_bad_descriptions_name_the_field(field, value, error):
    with pytest.raises(error, match=field):
        replace(SMALL, **{field: value})


def test_profiles_are_named():
    assert set(PROFILES) == {"smoke", "quick", "recorded", "paper"}
    with pytest.raises(ValueError, match=r"'fast'.*smoke.*quick.*paper"):
        profile("fast")


def test_missing_run_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere"):
        Result.load(tmp_path / "nowhere")


@pytest.mark.parametrize("name", ["experiment.json", "SHA256SUMS"])
def test_a_folder_that_memlib_did_not_make_is_left_alone(name, tmp_path):
    for own in (name, "thesis.txt"):
        (tmp_path / own).write_text("{}")
    with pytest.raises(FileNotFoundError, match="holds no finished run"):
        Result.load(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {name, "thesis.txt"}


@pytest.mark.parametrize("name", ["schedules", "experiment", "runs"])
def test_code_hash_sees_code_and_not_its_comments(name, tmp_path):
    own = Path(module.__file__).parent
    for path in own.glob("*.py"):
        shutil.copy(path, tmp_path)
    before, path = module.code_sha256(), tmp_path / f"{name}.py"
    source = path.read_text()
    assert module.code_sha256(tmp_path) == before
    path.write_text('"""Another docstring."""\n# a comment\n' + source.partition('"""\n')[2])
    assert module.code_sha256(tmp_path) == before
    path.write_text(source + "\nother = 1\n")
    assert module.code_sha256(tmp_path) != before


def test_the_key_changes_with_the_code_the_training_items_and_the_precision(monkeypatch):
    dataset = SMALL.load_data()
    keys = [SMALL.key(dataset), SMALL.key(replace(dataset, train=dataset.held_out))]
    for bfloat16 in (False, True):
        monkeypatch.setattr("memlib.training.has_bfloat16", lambda device, has=bfloat16: has)
        keys.append(SMALL.key(dataset))
        assert SMALL.key(dataset) in keys[:1] or keys[-1] != keys[0]
    monkeypatch.setattr(module, "code_sha256", lambda: "of other code")
    keys.append(SMALL.key(dataset))
    assert len(set(keys)) == 4, "one of the two precisions is this machine's own"


def test_numpys_numbers_and_lists_are_as_good_as_pythons():
    training = replace(SMALL.training, steps=np.int64(2), learning_rate=np.float32(0.5))
    numpys = replace(SMALL, seed=np.int64(3), training=training, network=Network(width=16, multipliers=[1, 2]))
    plain = replace(SMALL, seed=3, training=replace(training, steps=2, learning_rate=0.5), network=Network(16, (1, 2)))
    assert numpys.to_dict() == plain.to_dict()
    assert numpys.alike() == plain.alike() and hash(numpys.alike())
    assert torch.equal(run(numpys).samples, run(plain).samples)


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"sampler_steps": 101}, "sampler_steps = 101; need at most the 100 timesteps"),
        ({"loss_weight": torch.ones(7)}, "loss_weight has 7 values; need one for each of 100 timesteps"),
        ({"image_size": 48}, "image_size = 48; choose one of"),
        ({"timesteps": uniform(10), "sampler_steps": 5}, "T = 10"),
    ],
)
def test_what_makes_no_run_is_refused_before_it_is_trained(changed, says):
    with pytest.raises(ValueError, match=re.escape(says)):
        replace(SMALL, **changed)


def test_a_run_that_fails_late_keeps_its_checkpoint_unless_it_diverged(runs, monkeypatch):
    monkeypatch.setattr(made, "CHECKPOINT_SECONDS", 0)
    for error, kept in ((MemoryError, True), (FloatingPointError, False)):

        def fail(*_, error=error):
            raise error("here")

        with monkeypatch.context() as patched:
            patched.setattr(made, "draw", fail)
            with pytest.raises(error, match="here"):
                run(SMALL)
        assert len([*runs.glob("*.part/checkpoint")]) == kept
        told = []
        run(SMALL, on_step=told.append)
        assert (told[0] > 1) == kept
        shutil.rmtree(runs)


def test_a_run_gives_torchs_number_of_threads_back():
    before, seen = torch.get_num_threads(), set()
    torch.set_num_threads(2)
    try:
        run(SMALL, on_step=lambda step: seen.add(torch.get_num_threads()))
        assert (seen, torch.get_num_threads()) == ({1}, 2)
    finally:
        torch.set_num_threads(before)

"""The page computes what memlib computes: its numbers in a real browser beside Python's."""

from __future__ import annotations

from itertools import islice, product

import numpy as np
import pytest
import torch
from browsing import BROWSER
from draws import seeded

import memlib
from memlib import MLP, ExactDenoiser, Schedule, TrainConfig, ddim, metrics, train
from memlib.lab import made
from memlib.timesteps import TAILS
from memlib.training import draw
from memlib.viz.explore.playground import SETTINGS, script
from memlib.viz.style import MEANINGS, looks

pytestmark = BROWSER
SCHEDULE = Schedule.linear()
CONFIG = TrainConfig(
    500, SETTINGS["batch"], SETTINGS["learningRate"], SETTINGS["warmup"], ema_decay=SETTINGS["emaDecay"],
    grad_clip=SETTINGS["gradClip"], precision="float32",
)  # fmt: skip
BELLS = {"gaussianInterval": [(0, 500), (-500, 1500), (800, 1400), (480, 520)], "logSnrBell": [(-2.3, 7.1), (0, 4)]}


def close(ours, theirs, tolerance: float = 1e-5) -> None:
    np.testing.assert_allclose(np.asarray(ours, dtype=float), np.asarray(theirs), rtol=0, atol=tolerance)


@pytest.mark.parametrize("T", SETTINGS["sizes"])
def test_each_schedule_is_that_of_memlib(compute, T) -> None:
    axis = SETTINGS["axes"]["position"]
    both = "const { alphaBar, logSnr } = scheduleNamed(...f); return [[...alphaBar], [...logSnr]]"
    for name in SETTINGS["schedules"]:
        (ours, log_snr), theirs = compute(both, [name, T]), getattr(Schedule, name)(T)
        np.testing.assert_allclose(ours, theirs.alpha_bar, rtol=1e-9, atol=0)
        close(log_snr, theirs.log_snr, 1e-9)
        assert axis["bottom"] < theirs.log_snr.min() and theirs.log_snr.max() < axis["top"], "nothing of it is cut"


def test_each_p_t_is_that_of_memlib(compute) -> None:
    z = 1.959963984540054

    def bell(low: float, high: float) -> memlib.TimestepDistribution:
        centre, width = (low + high) / 2, (high - low) / 2 / z
        return memlib.from_log_snr(SCHEDULE, lambda x: (-0.5 * ((x - centre) / width) ** 2).exp())

    python = {"gaussianInterval": lambda *ends: memlib.gaussian_interval(1000, *ends), "logSnrBell": bell}
    for name, cases in BELLS.items():
        for ends in cases:
            p = python[name](*ends)
            close(compute(f"return [...{name}(s, ...f)]", ends), p.pmf, 1e-5 * p.pmf.max())
            _, dense = p.log_snr_density(SCHEDULE)
            close(compute(f"return [...logSnrDensity({name}(s, ...f), s)]", ends), dense, 1e-5 * dense.max())
            theirs = [SCHEDULE.log_snr[t].item() for t in reversed(p.interval())]
            assert compute(f"return interval({name}(s, ...f), s)", ends) == pytest.approx(theirs)
    for ends, tails in product(BELLS["gaussianInterval"], TAILS):
        p = memlib.gaussian_interval(1000, *ends, tails=tails).pmf
        close(compute("return [...gaussianInterval(s, ...f)]", [*ends, tails]), p, 1e-5 * p.max())
    weights = {
        "minSnr": memlib.min_snr_weight(SCHEDULE),
        "notch": 1 - 0.95 * (SCHEDULE.log_snr.abs() < 2.4).double(),
        "uShape": (4 * (2 * torch.sigmoid(-SCHEDULE.log_snr / 2) - 1)).cosh(),
        "uniform": torch.ones(1000),
    }
    for name, weight in weights.items():
        close(compute(f"return [...{name}(s)]"), memlib.from_weights(weight).pmf, 1e-8)


def test_curves_denoiser_sampler_and_measures_are_those_of_memlib(compute) -> None:
    for name in ("spiral", "moons", "rings"):
        curve = made.CURVES[name]((torch.arange(1024, dtype=torch.float64) + 0.5) / 1024)
        curve = (curve - curve.mean(0)) / (curve - curve.mean(0)).square().mean().sqrt()
        close(compute("return makePoints(f, 0, 16, 0).curve", name), curve, 1e-9)
        made_here = compute(f"return [...makePoints('{name}', 3, 16, 0.05).train]")
        train_points = torch.tensor(made_here).double().view(16, 2)
        assert torch.cdist(train_points, curve).amin(1).max() < 0.25, "points lie about the curve"
        exact, noise = ExactDenoiser(train_points, SCHEDULE), torch.randn(32, 2, generator=seeded(1)).double()
        f = {"train": train_points.flatten().tolist(), "x": noise.flatten().tolist()}
        for t in (0, 30, 250, 999):
            at = torch.full((32,), t)
            weights = compute(f"return [...posterior(f.train, f.x[0], f.x[1], s.alphaBar[{t}])]", f)
            close(weights, exact.weights(noise, at)[0])
            close(compute(f"return exactDenoiser(f.train, s)(f.x, {t})", f), exact(noise, at).flatten())
        for steps in (16, 40):
            frames = list(ddim(exact, SCHEDULE, noise, steps=steps))
            ours = compute(f"return ddim(exactDenoiser(f.train, s), s, f.x, {steps}).map((x) => [...x])", f)
            close(ours, torch.stack([frame.x.flatten() for frame in frames]))
            assert compute(f"return timestepList(1000, {steps})") == [frame.t for frame in frames]
        f["x"] = frames[-1].x.flatten().tolist()
        for threshold, times in product((0.1, 1 / 3), (1, 2)):  # points that coincide count once
            theirs = metrics.memorized_fraction(frames[-1].x, train_points.repeat(times, 1), threshold).value
            close(compute(f"return nearCopies(f.x, Array({times}).fill(f.train).flat(), {threshold})", f), theirs)
        off = torch.cdist(frames[-1].x, curve).amin(1).mean()
        close(compute(f"return offCurve(f.x, makePoints('{name}', 0, 16, 0).curve)", f), off)


@pytest.mark.parametrize(("depth", "steps"), [(1, 1), (1, 500), (3, 20)])
def test_training_with_the_same_weights_and_draws_gives_the_same_weights(compute, depth, steps) -> None:
    points = torch.tensor(compute("return [...makePoints('spiral', 0, 16, 0.05).train]")).double().view(16, 2)
    model = MLP(2, SETTINGS["width"], depth, SETTINGS["frequencies"]).double()
    even, generator = memlib.uniform(), seeded(5)
    first = torch.nn.utils.parameters_to_vector(model.parameters()).tolist()
    draws = [[x.flatten().tolist() for x in draw(points, even, CONFIG, generator)] for _ in range(steps)]
    step = next(islice(train(model, points, SCHEDULE, even, CONFIG, generator=seeded(5)), steps - 1, None))
    x = torch.randn(10, 2, generator=seeded(2)).double()
    f = {"settings": SETTINGS | {"depth": depth}, "first": first, "draws": draws, "x": x.flatten().tolist()}
    f |= {"points": points.flatten().tolist(), "t": [0, 3, 40, 200, 999] * 2}
    losses, weights, averages, out = compute(
        """const n = new Network(f.settings); n.weights.set(f.first); n.average.set(f.first);
        const losses = f.draws.map(([index, t, eps]) => n.learn(f.points, s.alphaBar, index, t, eps));
        return [losses, [...n.weights], [...n.average], [...n.forward(f.x, f.t, 10).slice(0, 20)]]""",
        f,
    )
    tolerance = 1e-5 if steps == 1 else 1e-3
    close(losses[-1], step.loss, tolerance)
    for ours, network in ((weights, step.model), (averages, step.ema)):
        close(ours, torch.nn.utils.parameters_to_vector(network.parameters()).detach(), tolerance)
    with torch.no_grad():
        close(out, step.ema(x, torch.tensor(f["t"])).flatten(), tolerance)


def test_constants_have_one_source() -> None:
    assert SETTINGS["noise"] == made.NOISE and SETTINGS["frequencies"] == MLP().frequencies.numel()
    colours = {name: MEANINGS[name].colour for name in ("train", "held out", "sample")}
    assert SETTINGS["colours"] == colours | {name: look.colour for name, look in looks("AB").items()}


def test_a_worker_trains_200_steps_a_second(browser) -> None:
    """By the clock, the best of many steps, so that other work on the machine counts little; and as a ratio to a plain
    product of matrices (128, 64) and (64, 64), so that a slower machine passes, too."""
    source = f"""{script("maths", "network")}
        const [s, r, n] = [scheduleNamed("linear", 1000), randomFrom(0), new Network(SETTINGS)];
        const {{ train }} = makePoints("spiral", 0, 16, 0.05);
        n.initialise(r);
        const [index, t] = [16, 1000].map((m) => Int32Array.from({{ length: 128 }}, () => m * r.uniform()));
        const [a, b, c, eps] = [8192, 4096, 8192, 256].map((size) => r.normals(size));
        const plain = () => c.forEach((_, i) => {{
            for (let k = c[i] = 0; k < 64; k++) c[i] += a[(i >> 6) * 64 + k] * b[(i & 63) * 64 + k];
        }});
        const best = [Infinity, Infinity];
        for (let round = 0; round < 400; round++)
            [() => n.learn(train, s.alphaBar, index, t, eps), plain].forEach((work, k) => {{
                const begun = performance.now();
                work();
                best[k] = Math.min(best[k], performance.now() - begun);
            }});
        postMessage(best);"""
    ask = """(source) => new Promise((done) => {
        const worker = new Worker(URL.createObjectURL(new Blob([source])));
        worker.onmessage = ({ data }) => done(data); })"""
    step, plain = browser.new_page().evaluate(ask, source)
    print(f"{1000 / step:.0f} steps a second; a step is {step / plain:.1f} plain products")
    assert step < 4 * plain

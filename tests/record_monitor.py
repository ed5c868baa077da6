"""Record what the monitor counted in runs that copy and in runs that do not: python -m tests.record_monitor NAME SEED.

Ten seeds from SEED on of one of SYSTEMS, with few items, which are copied, and with 1,024, which are not. Others stay.
`copying` is where the near-copies of 1,024 samples by DDIM-50, read every so many steps, pass 5 % beyond those of 2,048
fresh items."""

import json
import sys
from pathlib import Path

import numpy as np
import torch
from scipy.optimize import isotonic_regression
from torch.nn.utils import vector_to_parameters

from memlib import Schedule, TrainConfig, sample, uniform
from memlib.lab import data
from memlib.lab.experiment import Network
from memlib.lab.fleet import train_fleet
from memlib.metrics import neighbour_ratio
from memlib.monitor import COPYING, Monitor

FILE = Path(__file__).parent / "golden" / "monitor.json"
SYSTEMS = {  # training items that are copied, held-out items, steps between readings of the truth, budget
    "spiral": (16, 2048, 60, TrainConfig(720, 512, learning_rate=0.002, ema_decay=0.995)),
    "mixture16": (32, 512, 100, TrainConfig(1500, 256, learning_rate=0.003, ema_decay=0.995, precision="float32")),
}
SCHEDULE = Schedule.linear()


def passes(steps: list[int], beyond: list[float]) -> float | None:
    rising = isotonic_regression(beyond).x
    if rising[-1] < COPYING:
        return None
    j = int((rising >= COPYING).argmax())
    return float(np.interp(COPYING, rising[j - 1 : j + 1], steps[j - 1 : j + 1]))


def record(name: str, n_train: int, seeds: range, until: int) -> list[dict]:
    _, n_held_out, every, config = SYSTEMS[name]
    sets = [data.load(name, n_train, n_held_out=n_held_out, n_fresh=2048, seed=seed) for seed in seeds]
    shape = tuple(sets[0].train.shape[1:])
    models = [Network(width=128).build(shape, seed) for seed in seeds]
    monitors = [Monitor(x.train, x.held_out, SCHEDULE) for x in sets]
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]
    weights: dict[int, torch.Tensor] = {}
    x0s, controls = [x.train for x in sets], [uniform()] * len(seeds)
    for step in train_fleet(models, x0s, SCHEDULE, controls, config, generators=generators):
        for monitor, t, losses, ema in zip(monitors, step.t, step.losses, step.emas, strict=True):
            monitor.update(t, losses)
            if monitor.due():
                monitor.read(ema)
        if step.step % every == 0 and step.step <= until:
            weights[step.step] = step.averages.clone()
    rows, network = [], Network(width=128).build(shape, 0)
    for k, (x, monitor) in enumerate(zip(sets, monitors, strict=True)):
        beyond, null = [], float((neighbour_ratio(x.fresh, x.train) < 1 / 3).double().mean())
        for averages in weights.values():
            vector_to_parameters(averages[k], network.parameters())
            drawn = sample(network, SCHEDULE, shape, 1024, seed=7, batch_size=1024)
            beyond.append((float((neighbour_ratio(drawn, x.train) < 1 / 3).double().mean()) - null) / (1 - null))
        truth = passes([*weights], beyond) if weights else None
        steps = [reading.step for reading in monitor.readings]
        row = {"dataset": name, "n_train": n_train, "seed": seeds[k], "copying": truth and round(truth), "steps": steps}
        rows.append(row | {"near": monitor.near, "null": vars(monitor.null), "samples": monitor.samples})
        print(rows[-1], [round(x, 3) for x in beyond], flush=True)
    return rows


if __name__ == "__main__":
    torch.set_num_threads(1)
    name, seeds = sys.argv[1], range(int(sys.argv[2]), int(sys.argv[2]) + 10)
    rows = [row for row in json.loads(FILE.read_text()) if row["dataset"] != name or row["seed"] not in seeds]
    rows += record(name, SYSTEMS[name][0], seeds, SYSTEMS[name][3].steps) + record(name, 1024, seeds, 0)
    FILE.write_text("[\n" + ",\n".join(json.dumps(row) for row in rows) + "\n]\n")

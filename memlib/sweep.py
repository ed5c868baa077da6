"""Many experiments, several processes: results as they come."""

from __future__ import annotations

import multiprocessing
import os
import queue
import traceback
from collections.abc import Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait

from tqdm.auto import tqdm

from .experiment import Experiment, Result, run

_progress = None  # in a worker: the queue on which it says how many steps it has done


class SweepError(RuntimeError):
    """Some runs failed; the message names each and holds its traceback. All other results had been yielded."""


def sweep(
    experiments: Iterable[Experiment], *, device: str = "cpu", workers: int | None = None, progress: bool = True
) -> Iterator[Result]:
    """Run all `experiments`, yield each Result as it is finished, and show one bar over all their training steps.

    On the CPU in as many processes, of one thread each, as there are cores (or `workers`); on a GPU one after another.
    One failed run does not lose the others: SweepError at the end names it. In a script, call this under
    `if __name__ == "__main__":`, since the processes are spawned.
    """
    todo = list(experiments)
    if workers is None:
        workers = (
            1
            if device != "cpu"
            else len(os.sched_getaffinity(0))
            if hasattr(os, "sched_getaffinity")
            else os.cpu_count()
        )
    total = sum(experiment.training.steps for experiment in todo)
    with tqdm(total=total, desc=f"training {len(todo)} networks", unit="step", disable=not progress) as bar:
        failures = yield from (_spread if min(workers, len(todo)) > 1 else _in_turn)(todo, device, workers, bar)
    if failures:
        raise SweepError(f"{len(failures)} of {len(todo)} runs failed:\n" + "\n".join(failures))


def _in_turn(todo, device, workers, bar) -> Iterator[Result]:
    failures = []
    for experiment in todo:
        start = bar.n
        try:
            yield run(experiment, device=device, on_step=lambda step, start=start: bar.update(start + step - bar.n))
        except Exception:
            failures.append(f"{experiment.label or experiment.dataset}: {traceback.format_exc()}")
        bar.update(start + experiment.training.steps - bar.n)
    return failures


def _spread(todo, device, workers, bar) -> Iterator[Result]:
    context = multiprocessing.get_context("spawn")
    steps, done, failures = context.Queue(), [0] * len(todo), []
    pool = ProcessPoolExecutor(min(workers, len(todo)), context, initializer=_start, initargs=(steps,))
    try:
        futures = {pool.submit(_work, i, experiment.to_dict(), device): i for i, experiment in enumerate(todo)}
        pending = set(futures)
        while pending:
            finished, pending = wait(pending, timeout=0.5, return_when=FIRST_COMPLETED)
            while True:
                try:
                    i, step = steps.get_nowait()
                except queue.Empty:
                    break
                done[i] = max(done[i], step)
            for future in finished:
                i = futures[future]
                done[i] = todo[i].training.steps
                try:
                    yield Result.load(future.result())
                except Exception:
                    failures.append(f"{todo[i].label or todo[i].dataset}: {traceback.format_exc()}")
            bar.update(sum(done) - bar.n)
    finally:
        pool.shutdown(cancel_futures=True)
    return failures


def _start(steps) -> None:
    global _progress
    _progress = steps


def _work(i: int, experiment: dict, device: str) -> str:
    every = max(1, experiment["training"]["steps"] // 200)
    tell = lambda step: step % every or _progress.put((i, step))  # noqa: E731
    return str(run(Experiment.from_dict(experiment), device=device, on_step=tell).folder)

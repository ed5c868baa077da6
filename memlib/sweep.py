"""Many experiments, on the cores of this machine or on a cluster: results as they come."""

from __future__ import annotations

import multiprocessing
import os
import queue
import threading
import traceback
from collections.abc import Callable, Iterable, Iterator, MutableSequence, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing
from dataclasses import replace
from functools import partial
from operator import setitem
from typing import Any

from tqdm.auto import tqdm

from .experiment import Experiment, Result, run, runs_folder

DEATHS = 3  # local processes that one run may take down before it is given up

Finished = Iterator[tuple[int, Callable[[], str]]]  # which run, and what returns its folder or raises as the run did

_alone = threading.Lock()  # one run at a time in a process: networks are initialised from torch's global generator
_steps: Any = {}  # in a local process: the steps done, a number per run, in memory that all processes share


class SweepError(RuntimeError):
    """Some runs failed; the message names each and holds its traceback. All other results had been yielded."""


def sweep(
    experiments: Iterable[Experiment],
    client: Any = None,
    *,
    device: str = "cpu",
    workers: int | None = None,
    progress: bool = True,
) -> Iterator[Result]:
    """Run all `experiments`, yield each Result as it is finished, and show one bar over all their training steps.

    Without a client: on the CPU in as many processes, of one thread each, as there are cores (or `workers`); on a GPU
    one after another. In a script, call this under `if __name__ == "__main__":`, since the processes are spawned.

    With a `dask.distributed.Client`: as one task each on its workers. They need memlib, and must share the caller's
    folder of runs (`MEMLIB_RUNS`, else `runs/` of the clone) and, where it is set, `MEMLIB_DATA`, at the same paths.
    A worker trains one network at a time; start it with one thread. The bar moves as runs end.

    A run whose process or worker is killed goes on elsewhere from its last checkpoint; the other runs do not notice.
    One failed run does not lose the others: SweepError at the end names it, and so a run that took down three
    processes, or more workers than the cluster allows (KilledWorker). Raises ValueError for `workers` with a client.
    """
    if client is not None and workers is not None:
        raise ValueError(f"workers = {workers} counts local processes, but the runs go to the client's workers")
    todo = list(experiments)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    workers = min(len(todo), workers if workers is not None else cores if device == "cpu" else 1)
    total = sum(experiment.training.steps for experiment in todo)
    failures: list[str] = []
    with tqdm(total=total, desc=f"training {len(todo)} networks", unit="step", disable=not progress) as bar:
        bar.set_postfix(failed=0)
        if client is not None:
            finished = _on_cluster(todo, device, client, bar)
        else:
            finished = _on_cores(todo, device, workers, bar) if workers > 1 else _in_turn(todo, device, bar)
        with closing(finished):
            for i, outcome in finished:
                try:
                    result = replace(Result.load(outcome()), experiment=todo[i])  # with this call's label
                except Exception as error:
                    failures.append(f"{todo[i].label or todo[i].dataset}: {traceback.format_exc()}")
                    error.__traceback__ = None  # it would keep this frame alive, and with it a future
                    bar.set_postfix(failed=len(failures))
                else:
                    yield result
    if failures:
        raise SweepError(f"{len(failures)} of {len(todo)} runs failed:\n" + "\n".join(failures))


def _in_turn(todo: Sequence[Experiment], device: str, bar: tqdm) -> Finished:
    for i, experiment in enumerate(todo):
        start = bar.n

        def outcome(experiment: Experiment = experiment, start: int = start) -> str:
            return str(run(experiment, device=device, on_step=lambda step: bar.update(start + step - bar.n)).folder)

        yield i, outcome
        bar.update(start + experiment.training.steps - bar.n)


def _on_cores(todo: Sequence[Experiment], device: str, workers: int, bar: tqdm) -> Finished:
    """A thread per core hands run after run to a process of its own: one that dies takes no other run with it."""
    context = multiprocessing.get_context("spawn")
    steps = context.RawArray("q", len(todo))
    pool_of_one = partial(ProcessPoolExecutor, 1, context, initializer=_start, initargs=(steps,))
    idle: queue.SimpleQueue[ProcessPoolExecutor] = queue.SimpleQueue()
    for _ in range(workers):
        idle.put(pool_of_one())

    def attend(*task: Any) -> str:
        pool = idle.get()
        try:
            for _ in range(DEATHS):
                try:
                    return pool.submit(_work, *task).result()
                except BrokenProcessPool:
                    pool.shutdown()
                    pool = pool_of_one()
            raise RuntimeError(f"its process died {DEATHS} times: killed, perhaps for want of memory, or crashed")
        finally:
            idle.put(pool)

    threads = ThreadPoolExecutor(workers)
    try:
        futures = {task[0]: threads.submit(attend, *task) for task in _tasks(todo, device)}
        yield from _as_they_finish(futures, todo, steps, bar)
    finally:
        threads.shutdown(cancel_futures=True)
        while not idle.empty():
            idle.get().shutdown()


def _on_cluster(todo: Sequence[Experiment], device: str, client: Any, bar: tqdm) -> Finished:
    """Dask itself gives the task of a lost worker to another one; `retries` would train again what had diverged."""
    futures = {task[0]: client.submit(_work, *task, pure=False) for task in _tasks(todo, device)}
    try:
        yield from _as_they_finish(futures, todo, [0] * len(todo), bar)
    finally:
        if futures:  # the caller wants no more
            client.cancel(list(futures.values()))


def _as_they_finish(
    futures: dict[int, Any], todo: Sequence[Experiment], steps: MutableSequence[int], bar: tqdm
) -> Finished:
    """Empty `futures`, of concurrent.futures or of Dask; `steps`, a count for each run, is shown every half second."""
    finished: queue.SimpleQueue[int] = queue.SimpleQueue()
    for i in futures:
        futures[i].add_done_callback(lambda _, i=i: finished.put(i))
    while futures:
        try:
            i = finished.get(timeout=0.5)
        except queue.Empty:
            bar.update(sum(steps) - bar.n)
            continue
        steps[i] = todo[i].training.steps
        bar.update(sum(steps) - bar.n)
        yield i, futures.pop(i).result  # not kept: Dask makes again what is wanted still and was lost with a worker


def _tasks(todo: Sequence[Experiment], device: str) -> Iterator[tuple[int, dict[str, Any], str, dict[str, str]]]:
    """The arguments of `_work`; the folders are named, since a worker may have been started elsewhere."""
    folders = {"MEMLIB_RUNS": os.path.abspath(runs_folder())}
    if data := os.environ.get("MEMLIB_DATA"):
        folders["MEMLIB_DATA"] = os.path.abspath(data)
    for i, experiment in enumerate(todo):
        yield i, experiment.to_dict(), device, folders


def _start(steps: MutableSequence[int]) -> None:
    global _steps
    _steps = steps
    threading.Thread(target=_end_with, args=(multiprocessing.parent_process(),), daemon=True).start()


def _end_with(parent: Any) -> None:
    """Of a sweep that was killed no process goes on: it would wait for more work for ever."""
    parent.join()
    os._exit(1)


def _work(i: int, experiment: dict[str, Any], device: str, folders: dict[str, str]) -> str:
    with _alone:
        os.environ.update(folders)
        return str(run(Experiment.from_dict(experiment), device=device, on_step=partial(setitem, _steps, i)).folder)

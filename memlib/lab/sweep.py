"""Many experiments, on the cores of this machine or on a cluster: results as they come."""

from __future__ import annotations

import math
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
from typing import Any

import torch
from tqdm.auto import tqdm

from memlib.checks import check_count
from memlib.lab.data import kind_of
from memlib.lab.experiment import Experiment
from memlib.lab.runs import Result, run_fleet, runs_folder

DEATHS = 3  # local processes that one run may take down before it is given up

FLEET = {"cpu": 8, "cuda": 16}  # networks trained together where that is faster (tests/benchmarks/RESULTS.md)

Group = tuple[int, ...]  # runs that are trained together, by their place in the sweep
Steps = MutableSequence[int]  # done, a number for each run
Finished = Iterator[tuple[Group, Callable[[], list[str]]]]  # and what returns their folders or raises as they did

_alone = threading.Lock()  # one fleet at a time in a process: networks are initialised from torch's global generator
_steps: Any = {}  # in a local process: the Steps of its sweep, in memory that all processes share


class SweepError(RuntimeError):
    """Some runs failed; the message names each and holds its traceback. All other results had been yielded."""


def sweep(
    experiments: Iterable[Experiment],
    client: Any = None,
    *,
    device: str = "cpu",
    workers: int | None = None,
    fleet: int | None = None,
    progress: bool = True,
) -> Iterator[Result]:
    """Run all `experiments`, yield each Result as it is finished, and show one bar over all their training steps.

    Without a client: on the CPU in as many processes, of one thread each, as there are cores (or `workers`); on a GPU
    one after another. In a script, call this under `if __name__ == "__main__":`, since the processes are spawned.

    With a `dask.distributed.Client`: as tasks on its workers. They need memlib, and must share the caller's folder of
    runs (`MEMLIB_RUNS`, else `runs/` of the clone) and, where it is set, `MEMLIB_DATA`, at the same paths. A worker
    trains one network or fleet at a time; start it with one thread. The bar moves as runs end.

    Runs that are alike are trained up to `fleet` at once (`run_fleet`), by default where that is faster: points and
    signals, and on a GPU images too, but each alone on a cluster, whose size is not known. 1 trains each alone.

    A run whose process or worker is killed goes on elsewhere from its last checkpoint; the other runs do not notice.
    One failed run does not lose the others: a fleet that failed is run again one by one, SweepError at the end names
    what failed then, and so a run that took down three processes, or more workers than the cluster allows
    (KilledWorker). Raises ValueError for `workers` with a client, and for `workers` or a `fleet` below 1.
    """
    if client is not None and workers is not None:
        raise ValueError(f"workers = {workers} counts local processes, but the runs go to the client's workers")
    for name, value in {"workers": workers, "fleet": fleet}.items():
        if value is not None:
            check_count(value, name, 1)
    todo = list(experiments)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    kind = torch.device(device).type
    workers = min(len(todo), workers if workers is not None else cores if kind == "cpu" else 1)
    waiting = _groups(todo, kind, 1 if client is not None and fleet is None else fleet, max(1, workers))
    steps = multiprocessing.get_context("spawn").RawArray("q", len(todo))
    total = sum(experiment.training.steps for experiment in todo)
    failures: list[str] = []
    with tqdm(total=total, desc=f"training {len(todo)} networks", unit="step", disable=not progress) as bar:
        bar.set_postfix(failed=0)
        while waiting:
            groups, waiting = waiting, []
            if client is not None:
                finished = _on_cluster(todo, groups, device, steps, bar, client)
            elif workers > 1:
                finished = _on_cores(todo, groups, device, steps, bar, workers)
            else:
                finished = _in_turn(todo, groups, device, steps, bar)
            with closing(finished):
                for group, outcome in finished:
                    try:
                        kept = [Result.load(folder) for folder in outcome()]
                    except Exception as error:
                        if len(group) > 1:
                            waiting += [(i,) for i in group]
                            _tell(steps, group, 0)
                            continue
                        first = todo[group[0]]
                        failures.append(f"{first.label or first.dataset}: {traceback.format_exc()}")
                        error.__traceback__ = None  # it would keep this frame alive, and with it a future
                        bar.set_postfix(failed=len(failures))
                    else:
                        for i, result in zip(group, kept, strict=True):
                            yield replace(result, experiment=todo[i])  # with this call's label
    if failures:
        raise SweepError(f"{len(failures)} of {len(todo)} runs failed:\n" + "\n".join(failures))


def _groups(todo: Sequence[Experiment], kind: str, fleet: int | None, workers: int) -> list[Group]:
    """Those alike together, in groups of about equal size, as many as keep all workers, on this kind of device, busy to
    the end."""
    alike: dict[tuple, list[int]] = {}
    for i, experiment in enumerate(todo):
        alike.setdefault(experiment.alike(), []).append(i)
    groups = []
    for runs in alike.values():
        slower = kind == "cpu" and kind_of(todo[runs[0]].dataset) == "image"
        most = fleet or (1 if slower else FLEET.get(kind, 1))
        count = workers * math.ceil(len(runs) / (most * workers))
        groups += [tuple(runs[k::count]) for k in range(min(count, len(runs)))]
    return sorted(groups)


def _in_turn(todo: Sequence[Experiment], groups: Sequence[Group], device: str, steps: Steps, bar: tqdm) -> Finished:
    for group in groups:

        def outcome(group: Group = group) -> list[str]:
            def tell(step: int) -> None:
                _tell(steps, group, step)
                bar.update(sum(steps) - bar.n)

            return [str(r.folder) for r in run_fleet([todo[i] for i in group], device=device, on_step=tell)]

        yield group, outcome
        _tell(steps, group, todo[group[0]].training.steps)
        bar.update(sum(steps) - bar.n)


def _on_cores(
    todo: Sequence[Experiment], groups: Sequence[Group], device: str, steps: Steps, bar: tqdm, workers: int
) -> Finished:
    """A thread per core hands group after group to a process of its own: one that dies takes no other run with it."""
    context = multiprocessing.get_context("spawn")
    pool_of_one = partial(ProcessPoolExecutor, 1, context, initializer=_start, initargs=(steps,))
    idle: queue.SimpleQueue[ProcessPoolExecutor] = queue.SimpleQueue()
    for _ in range(workers):
        idle.put(pool_of_one())

    def attend(*task: Any) -> list[str]:
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
        futures = {task[0]: threads.submit(attend, *task) for task in _tasks(todo, groups, device)}
        yield from _as_they_finish(futures, todo, steps, bar)
    finally:
        threads.shutdown(cancel_futures=True)
        while not idle.empty():
            idle.get().shutdown()


def _on_cluster(
    todo: Sequence[Experiment], groups: Sequence[Group], device: str, steps: Steps, bar: tqdm, client: Any
) -> Finished:
    """Dask itself gives the task of a lost worker to another one; `retries` would train again what had diverged."""
    futures = {task[0]: client.submit(_work, *task, pure=False) for task in _tasks(todo, groups, device)}
    try:
        yield from _as_they_finish(futures, todo, steps, bar)
    finally:
        if futures:  # the caller wants no more
            client.cancel(list(futures.values()))


def _as_they_finish(futures: dict[Group, Any], todo: Sequence[Experiment], steps: Steps, bar: tqdm) -> Finished:
    """Empty `futures`, of concurrent.futures or of Dask; the steps done are shown every half second."""
    finished: queue.SimpleQueue[Group] = queue.SimpleQueue()
    for group in futures:
        futures[group].add_done_callback(lambda _, group=group: finished.put(group))
    while futures:
        try:
            group = finished.get(timeout=0.5)
        except queue.Empty:
            bar.update(sum(steps) - bar.n)
            continue
        _tell(steps, group, todo[group[0]].training.steps)
        bar.update(sum(steps) - bar.n)
        yield group, futures.pop(group).result  # not kept: Dask makes again what is wanted still and was lost


def _tasks(
    todo: Sequence[Experiment], groups: Sequence[Group], device: str
) -> Iterator[tuple[Group, list[dict[str, Any]], str, dict[str, str]]]:
    """The arguments of `_work`; the folders are named, since a worker may have been started elsewhere."""
    folders = {"MEMLIB_RUNS": os.path.abspath(runs_folder())}
    if data := os.environ.get("MEMLIB_DATA"):
        folders["MEMLIB_DATA"] = os.path.abspath(data)
    for group in groups:
        yield group, [todo[i].to_dict() for i in group], device, folders


def _start(steps: Steps) -> None:
    global _steps
    _steps = steps
    threading.Thread(target=_end_with, args=(multiprocessing.parent_process(),), daemon=True).start()


def _end_with(parent: Any) -> None:
    """Of a sweep that was killed no process goes on: it would wait for more work for ever."""
    parent.join()
    os._exit(1)


def _work(group: Group, experiments: list[dict[str, Any]], device: str, folders: dict[str, str]) -> list[str]:
    with _alone:
        os.environ.update(folders)
        todo = [Experiment.from_dict(experiment) for experiment in experiments]
        return [str(r.folder) for r in run_fleet(todo, device=device, on_step=partial(_tell, _steps, group))]


def _tell(steps: Steps, group: Group, step: int) -> None:
    for i in group:
        steps[i] = step

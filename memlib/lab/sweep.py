"""Many experiments, on the cores of this machine or on a cluster: results as they come, by dask.distributed."""

import logging
import math
import os
import queue
import sys
import tempfile
import time
import traceback
import uuid
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from tqdm.auto import tqdm

from memlib.checks import check_device
from memlib.lab.data import kind_of
from memlib.lab.experiment import Experiment
from memlib.lab.files import folder_from
from memlib.lab.runs import Result, find_shipped, run_fleet, runs_folder

FLEET = {"cpu": 8, "cuda": 16}  # networks trained together where that is faster (tests/benchmarks/RESULTS.md)
TELL_SECONDS = 0.5  # between a worker's words on how far it is

Group = list[int]  # runs that are trained together, by their place in the sweep
Tell = Callable[[Sequence[int], int], None]  # a group has done so many steps
Finished = Generator[tuple[Group, Callable[[], list[str]]], None, None]  # and what returns its files or raises


class SweepError(RuntimeError):
    """Some runs failed; the message names each and holds its traceback. All other results had been yielded."""


def sweep(
    experiments: Iterable[Experiment], client: Any = None, *, device: str = "cpu", workers: int | None = None,
    fleet: int | None = None, progress: bool = True, shipped: bool = False,
) -> Iterator[Result]:  # fmt: skip
    """Run all `experiments`, yield each Result as it is finished, and show one bar over all their training steps.

    The runs go to the workers of `client`, a `dask.distributed.Client`, of one thread each, that have memlib and, at
    the same paths, the caller's folder of runs and MEMLIB_DATA. Without a client they go to `workers` on this machine,
    by default one per core, for a GPU one. A single one is this process; several are processes of their own, so that a
    script must call `sweep` under `if __name__ == "__main__":`. Runs that are alike are trained up to `fleet` at once
    (`run_fleet`), by default where that is faster; on a client, whose size is not known, each alone. With `shipped`,
    those that come with memlib (`runs.SHIPPED`) are read from there.

    If a worker is killed, its run goes on elsewhere from the last checkpoint; if the sweep is killed, its workers exit.
    One failed run does not lose the others: a fleet that failed is run again one by one, and SweepError at the end
    names each run that failed then, or that took down too many workers (KilledWorker)."""
    todo, kind = list(experiments), device.partition(":")[0]
    if shipped:
        found = [find_shipped(own) for own in todo]
        yield from filter(None, found)
        todo = [own for own, result in zip(todo, found, strict=True) if result is None]
    if not workers and kind == "cpu":
        from dask.system import CPU_COUNT  # here, as a machine with a GPU may lack dask, and does without

        workers = CPU_COUNT
    workers = max(1, min(len(todo), workers or 1))
    if client is None and todo:  # what would fail in each run fails now
        check_device(device)
        runs_folder().mkdir(parents=True, exist_ok=True)
    groups = _groups(todo, kind, 1 if client is not None and fleet is None else fleet, workers)
    done, failures = [0] * len(todo), []
    with ExitStack() as stack:
        total = sum(own.training.steps for own in todo)
        hidden = not progress or not todo
        bar = stack.enter_context(tqdm(total=total, desc=f"{len(todo)} runs", unit="step", disable=hidden))

        def tell(group: Sequence[int], step: int) -> None:
            for i in group:
                done[i] = step
            bar.update(sum(done) - bar.n)

        if client is None and workers > 1 and len(groups) > 1:
            client = stack.enter_context(_local(min(workers, len(groups))))
        way = _in_turn if client is None else partial(_on_client, client)
        bar.set_postfix(failed=0)
        while groups:
            again: list[Group] = []
            for group, outcome in stack.enter_context(closing(way(todo, groups, device, tell))):
                try:
                    made = [Result.load(path) for path in outcome()]
                except Exception as error:
                    if len(group) > 1:
                        again += [[i] for i in group]
                        tell(group, 0)
                        continue
                    failures.append(f"{todo[group[0]].label or todo[group[0]].dataset}: {traceback.format_exc()}")
                    error.__traceback__ = None  # it would keep this frame alive, and with it a future
                    bar.set_postfix(failed=len(failures))
                    made = []
                tell(group, todo[group[0]].training.steps)
                for i, result in zip(group, made, strict=False):
                    yield replace(result, experiment=todo[i])  # with this call's label
            groups = again
    if failures:
        raise SweepError(f"{len(failures)} of {len(todo)} runs failed:\n" + "\n".join(failures))


def _groups(todo: Sequence[Experiment], kind: str, fleet: int | None, workers: int) -> list[Group]:
    """Those alike together, in groups of about equal size that keep all workers busy to the end."""
    alike: dict[tuple, list[int]] = {}
    for i, experiment in enumerate(todo):
        alike.setdefault(experiment.alike(), []).append(i)
    groups = []
    for runs in alike.values():
        slower = kind == "cpu" and kind_of(todo[runs[0]].dataset) == "image"
        most = max(1, fleet or (1 if slower else FLEET.get(kind, 1)))
        count = workers * math.ceil(len(runs) / (most * workers))
        groups += [runs[k::count] for k in range(min(count, len(runs)))]
    return sorted(groups)


def _in_turn(todo: Sequence[Experiment], groups: Sequence[Group], device: str, tell: Tell) -> Finished:
    for group in groups:
        yield group, partial(_paths, [todo[i] for i in group], device, partial(tell, group))


def _on_client(client: Any, todo: Sequence[Experiment], groups: Sequence[Group], device: str, tell: Tell) -> Finished:
    """Dask itself gives the task of a lost worker to another one; `retries` would train again what had diverged."""
    folders = {"MEMLIB_RUNS": runs_folder(), "MEMLIB_DATA": folder_from("MEMLIB_DATA")}
    environment = {name: str(folder) for name, folder in folders.items() if folder}
    events: queue.SimpleQueue = queue.SimpleQueue()  # a future that is done, or a group and its steps
    topic, futures = f"memlib-{uuid.uuid4()}", {}
    client.subscribe_topic(topic, lambda event: events.put(event[1]))
    try:
        for group in groups:
            plain = [todo[i].to_dict() for i in group]
            future = client.submit(_work, topic, group, plain, device, environment, pure=False)
            futures[future] = group
            future.add_done_callback(events.put)
        while futures:
            event = events.get()
            if isinstance(event, tuple | list):
                tell(*event)
            else:
                yield futures.pop(event), event.result
    finally:
        client.unsubscribe_topic(topic)
        client.cancel(list(futures))  # the caller wants no more


def _work(topic: str, group: Group, plain: list[dict[str, Any]], device: str, environment: dict[str, str]) -> list[str]:
    """On a worker: run one fleet; the paths of its files."""
    from distributed import get_worker

    os.environ.update(environment)
    told = 0.0

    def on_step(step: int) -> None:
        nonlocal told
        if time.monotonic() - told > TELL_SECONDS:
            told = time.monotonic()
            get_worker().log_event(topic, (group, step))

    return _paths([Experiment.from_dict(own) for own in plain], device, on_step)


def _paths(runs: list[Experiment], device: str, on_step: Callable[[int], None]) -> list[str]:
    return [str(result.path) for result in run_fleet(runs, device=device, on_step=on_step)]


@contextmanager
def _local(workers: int) -> Iterator[Any]:
    """A client of so many single-threaded processes on this machine. Each imports the caller's script: without the main
    guard, it would start a sweep of its own."""
    from dask import config
    from distributed import Client, LocalCluster
    from distributed.utils import get_mp_context

    main = vars(sys.modules["__main__"])
    script = Path(main.get("__file__") or "")
    if not script.is_file():
        main.pop("__file__", None)  # "<stdin>", which a worker would look for
    elif "__main__" not in script.read_text(encoding="utf-8", errors="ignore"):
        raise RuntimeError(f'{script}: call sweep under `if __name__ == "__main__":`')
    given: dict[str, Any] = {"threads_per_worker": 1, "memory_limit": None, "silence_logs": logging.CRITICAL}
    given |= {"dashboard_address": "127.0.0.1:0", "scheduler_kwargs": {"dashboard": False}}
    forks = sys.platform == "linux" and len(os.fsencode(tempfile.gettempdir())) < 70  # it has a socket there
    own = {"worker.profile.enabled": False, "worker.multiprocessing-method": "forkserver" if forks else "spawn"}
    with config.set({f"distributed.{name}": value for name, value in own.items()}):
        if forks:  # from one process that has imported all that is slow
            get_mp_context().set_forkserver_preload(["distributed", "memlib.lab.sweep", "torch._dynamo"])
        with LocalCluster(n_workers=workers, **given) as cluster, Client(cluster) as client:
            yield client

"""The few commands: `python -m memlib reproduce`, `refresh`, `data`, `sweep`, `results`, `claims`.

Exit status: 0 done, 1 a notebook or a run failed, 2 bad input.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from tqdm import tqdm

from memlib import notebooks as batch
from memlib.devices import check_device
from memlib.lab.claims import judge_claims, verdict_table, write_verdicts
from memlib.lab.data import load
from memlib.lab.plans import key, read_plan
from memlib.lab.profiles import PROFILES, profile
from memlib.lab.records import RESULTS, Line, read, record, summary
from memlib.lab.sweep import SweepError


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m memlib", description="Run notebooks and sweeps, judge claims.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    reproduce = commands.add_parser("reproduce", help="run the notebooks and write a report over them")
    refresh = commands.add_parser("refresh", help="execute the notebooks in place, with their own parameters")
    reproduce.add_argument("--profile", default="quick", metavar="NAME", help=f"{', '.join(PROFILES)} (default: quick)")
    for command in (reproduce, refresh):
        command.add_argument("--notebook", action="append", default=[], metavar="NAME", help="only this; repeatable")
    reproduce.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="a parameter; repeatable")
    reproduce.add_argument("--out", type=Path, default=batch.ROOT / "results", metavar="DIR", help="default: results")
    reproduce.set_defaults(command=_reproduce)
    refresh.set_defaults(command=_refresh)

    data = commands.add_parser("data", help="fetch a data set and check it")
    data.add_argument("name")
    data.set_defaults(command=_data)

    sweep = commands.add_parser("sweep", help="run what a plan holds and record it, but for what is recorded already")
    sweep.add_argument("--plan", action="append", required=True, metavar="PLAN", help="a name in data/plans, or a file")
    sweep.add_argument(
        "--profile", default="recorded", metavar="NAME", help="the budget of each run (default: recorded)"
    )
    sweep.add_argument("--workers", type=int, metavar="N", help="processes (default: one for each core)")
    sweep.add_argument(
        "--fleet", type=int, metavar="K", help="networks trained at once (default: several where that is faster)"
    )
    sweep.add_argument("--device", default="cpu", metavar="NAME", help="cpu (the default) or cuda")
    results = commands.add_parser("results", help="print the recorded runs, the mean over seeds for each control")
    claims = commands.add_parser("claims", help="print the verdict for each claim, from the recorded runs")
    claims.add_argument("--write", action="store_true", help="put the table into README.md")
    for command, function in ((sweep, _sweep), (results, _results), (claims, _claims)):
        command.add_argument("--out", type=Path, default=RESULTS, metavar="DIR", help="default: data/results")
        command.set_defaults(command=function)

    options = parser.parse_args(arguments)
    try:
        return options.command(options)
    except SweepError as e:
        print(f"memlib: {e}", file=sys.stderr)
        return 1
    except (ValueError, OSError) as e:
        print(f"memlib: {e}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130


def _reproduce(options: argparse.Namespace) -> int:
    profile(options.profile)  # refused before any notebook is started
    notebooks = batch.find_notebooks(options.notebook)
    parameters = batch.parse_settings(options.set, notebooks) | {"profile": options.profile}
    status = _tell(batch.reproduce(notebooks, parameters, options.out))
    print(f"report: {options.out / 'index.html'}")
    return status


def _refresh(options: argparse.Namespace) -> int:
    return _tell(batch.refresh(batch.find_notebooks(options.notebook)))


def _data(options: argparse.Namespace) -> int:
    found = load(options.name)
    sizes = ", ".join(f"{len(getattr(found, part))} {part}" for part in ("train", "held_out", "fresh"))
    print(f"{found.name}: {sizes}, each {tuple(found.train.shape[1:])}")
    print(f"licence: {found.licence}\nsource: {found.source}")
    return 0


def _sweep(options: argparse.Namespace) -> int:
    try:
        check_device(options.device)
    except RuntimeError as error:
        raise ValueError(error) from error
    configs = {key(config): config for plan in options.plan for config in read_plan(plan, options.profile)}
    for line in record(
        configs.values(), out=options.out, workers=options.workers, fleet=options.fleet, device=options.device
    ):
        tqdm.write(f"{line['key']}  {line['config'].get('dataset', 'splice'):10}  {line['seconds']:7.1f} s")
    return 0


def _results(options: argparse.Namespace) -> int:
    print(summary(_recorded(options.out)).to_string())
    return 0


def _claims(options: argparse.Namespace) -> int:
    verdicts = judge_claims(_recorded(options.out))
    if options.write:
        write_verdicts(verdicts, batch.ROOT / "README.md")
    print(verdict_table(verdicts))
    return 0


def _recorded(folder: Path) -> list[Line]:
    if not (lines := read(folder)):
        raise ValueError(f"nothing is recorded in {folder} yet: run `python -m memlib sweep --plan NAME`")
    return lines


def _tell(outcomes: Iterable[batch.Outcome]) -> int:
    """A line for each notebook as it comes, and in the end what went wrong; 1 if anything did."""
    failed = []
    for outcome in outcomes:
        print(f"{outcome.seconds:7.1f} s  {outcome.name}{'  FAILED' if outcome.error else ''}", flush=True)
        failed += [outcome] if outcome.error else []
    for outcome in failed:
        print(f"{outcome.name} failed: {outcome.error}\n    as far as it came: {outcome.path}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())

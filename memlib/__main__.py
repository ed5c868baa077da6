"""The few commands: `python -m memlib reproduce`, `refresh`, `data`. Exit: 0 done, 1 a notebook failed, 2 bad input."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from . import batch
from .data import load
from .profiles import PROFILES, profile


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m memlib", description="Run the notebooks, fetch the data.")
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

    options = parser.parse_args(arguments)
    try:
        return options.command(options)
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

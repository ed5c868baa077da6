"""The commands: `python -m memlib reproduce`, `refresh`, `data`, `sweep`, `results`, `claims`.

Each imports only what it needs. Exit status: 0 done, 1 a notebook or a run failed, 2 bad input or a missing package.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m memlib", description="Run notebooks and sweeps, judge claims.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(name: str, does: str) -> argparse.ArgumentParser:
        added = commands.add_parser(name, help=does, description=does)
        added.set_defaults(
            run=globals()[f"_{name}"], extra={"reproduce": "site", "refresh": "notebooks"}.get(name, "lab")
        )
        return added

    reproduce = command("reproduce", "run the notebooks and write the site over them (in a clone)")
    reproduce.add_argument("--profile", default="quick", metavar="NAME", help="smoke, quick (the default), paper")
    reproduce.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="a parameter; repeatable")
    reproduce.add_argument("--out", type=Path, metavar="DIR", help="default: results in the clone")
    refresh = command("refresh", "execute the committed notebooks in place, with their own parameters (in a clone)")
    for one in (reproduce, refresh):
        one.add_argument("--notebook", action="append", default=[], metavar="NAME", help="only this; repeatable")
    command("data", "fetch a data set and check it").add_argument("name")
    sweep = command("sweep", "run what a plan holds and record it, except what is recorded already")
    sweep.add_argument("--plan", action="append", required=True, metavar="PLAN", help="a plan's name, or a file")
    sweep.add_argument("--profile", default="recorded", metavar="NAME", help="the budget of a run (default: recorded)")
    sweep.add_argument("--workers", type=int, metavar="N", help="processes (default: one for each core)")
    sweep.add_argument("--fleet", type=int, metavar="K", help="networks trained at once (default: what is fastest)")
    sweep.add_argument("--device", default="cpu", metavar="NAME", help="cpu (the default) or cuda")
    results = command("results", "print the recorded runs, the mean over seeds for each control")
    claims = command("claims", "print the verdict for each claim, from the recorded runs")
    claims.add_argument("--write", action="store_true", help="put the table into the clone's README.md")
    for one in (sweep, results, claims):
        one.add_argument("--out", type=Path, metavar="DIR", help="default: the recorded runs of this package")

    options = parser.parse_args(arguments)
    for folder in ("MEMLIB_DATA", "MEMLIB_RUNS"):  # relative to where the command was given, in every process
        if os.environ.get(folder):
            os.environ[folder] = os.path.abspath(os.environ[folder])
    try:
        return options.run(options)
    except ModuleNotFoundError as e:
        print(f"memlib: {e}; install what is missing: pip install 'memlib[{options.extra}]'", file=sys.stderr)
        return 2
    except (ValueError, OSError) as e:
        print(f"memlib: {e}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130


def _reproduce(options: argparse.Namespace) -> int:
    if missing := [name for name in ("sphinx", "myst_nb", "furo", "latex2mathml") if not find_spec(name)]:
        raise ModuleNotFoundError(f"No module named {missing[0]!r}")  # now, not after an hour
    from memlib import notebooks
    from memlib.lab.profiles import profile

    profile(options.profile)
    paths = notebooks.find_notebooks(options.notebook)
    parameters = notebooks.parse_settings(options.set, paths) | {"profile": options.profile}
    return _tell(notebooks.reproduce(paths, parameters, options.out or notebooks.ROOT / "results"))


def _refresh(options: argparse.Namespace) -> int:
    from memlib import notebooks

    return _tell(notebooks.refresh(notebooks.find_notebooks(options.notebook)))


def _tell(outcomes: Iterable[Any]) -> int:
    """A line for each notebook as it comes, and in the end what went wrong; 1 if anything did."""
    failed = []
    for one in outcomes:
        print(f"{one.seconds:7.1f} s  {one.name:24} {'FAILED' if one.error else one.path}", flush=True)
        failed += [one] if one.error else []
    for one in failed:
        print(f"{one.name} failed: {one.error}\n    as far as it came: {one.path}", file=sys.stderr)
    return int(bool(failed))


def _data(options: argparse.Namespace) -> int:
    from memlib.lab.data import load

    found = load(options.name)
    sizes = ", ".join(f"{len(getattr(found, part))} {part}" for part in ("train", "held_out", "fresh"))
    print(f"{found.name}: {sizes}, each {tuple(found.train.shape[1:])}")
    print(f"licence: {found.licence}\nsource: {found.source}")
    return 0


def _sweep(options: argparse.Namespace) -> int:
    from tqdm import tqdm

    from memlib.devices import check_device
    from memlib.lab import plans, records
    from memlib.lab.sweep import SweepError

    try:
        check_device(options.device)
    except RuntimeError as e:
        raise ValueError(e) from e
    configs = {plans.key(config): config for plan in options.plan for config in plans.read_plan(plan, options.profile)}
    given = {"workers": options.workers, "fleet": options.fleet, "device": options.device}
    try:
        for line in records.record(configs.values(), out=options.out or records.RESULTS, **given):
            tqdm.write(f"{line['key']}  {line['config'].get('dataset', 'splice'):10}  {line['seconds']:7.1f} s")
    except SweepError as e:
        print(f"memlib: {e}", file=sys.stderr)
        return 1
    return 0


def _results(options: argparse.Namespace) -> int:
    from memlib.lab.records import summary

    print(summary(_recorded(options.out)).to_string())
    return 0


def _claims(options: argparse.Namespace) -> int:
    from memlib.lab.claims import judge_claims, verdict_table, write_verdicts

    verdicts = judge_claims(_recorded(options.out))
    if options.write:
        write_verdicts(verdicts, Path(__file__).resolve().parents[1] / "README.md")
    print(verdict_table(verdicts))
    return 0


def _recorded(folder: Path | None) -> list:
    from memlib.lab.records import RESULTS, read

    if not (lines := read(folder or RESULTS)):
        raise ValueError(f"nothing is recorded in {folder or RESULTS} yet: run `python -m memlib sweep --plan NAME`")
    return lines


if __name__ == "__main__":
    sys.exit(main())

"""The commands: `python -m memlib --help` lists them.

Each imports only what it needs. Exit status: 0 done, 1 a notebook or a run failed, 2 bad input or a missing package,
3 too many near-copies (`audit --fail-above`)."""

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m memlib", description="Run notebooks and sweeps, judge claims.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(does: Callable[[Any], int], words: str, extra: str = "lab") -> Callable[..., argparse.Action]:
        added = commands.add_parser(does.__name__[1:], help=words, description=words)
        added.set_defaults(run=does, extra=extra)
        return added.add_argument

    reproduce = command(_reproduce, "run the notebooks and write the site over them (in a clone)", "site")
    refresh = command(_refresh, "execute the committed notebooks in place (in a clone)", "notebooks")
    fetch = command(_data, "fetch a data set and check it, or show how your own is understood")
    sweep = command(_sweep, "run what a plan with predictions holds and record it, except what is recorded already")
    results = command(_results, "print the recorded runs, the mean over seeds for each control")
    claims = command(_claims, "print the verdict for each claim of the paper, from the recorded runs")
    hypotheses = command(_hypotheses, "print the verdict for each prediction, from the recorded runs")
    judged = command(_audit, "judge samples of any generator against its training set", "notebooks")
    for name, required in {"samples": True, "train": True, "held-out": False}.items():
        words = "a folder of pictures, an .npy or an .npz file"
        judged(f"--{name}", type=Path, required=required, metavar="PATH", help=words)
    judged("--features", metavar="NAME", help="a network of timm, whose features replace pixels")
    words = "exit with 3 if more are near-copies, also if moved or mirrored"
    judged("--fail-above", type=share, default=1.0, metavar="SHARE", help=words)
    judged("--out", type=Path, default=Path("audit"), metavar="DIR", help="for audit.html and audit.json")
    dial = command(_dial, "where to look and when to stop for a level of near-copies, from pilot runs")
    page = command(_page, "write the playground as one HTML file", "notebooks")
    gpu = command(_gpu, "test, measure and record what a GPU can within minutes; or merge what that made")
    for one in (reproduce, refresh):
        one("--notebook", action="append", default=[], metavar="NAME", help="only this; repeatable")
    reproduce("--profile", default="quick", metavar="NAME", help="smoke, quick (the default), paper")
    reproduce("--set", action="append", default=[], metavar="KEY=VALUE", help="a parameter; repeatable")
    reproduce("--out", type=Path, metavar="DIR", help="default: results in the clone")
    fetch("name", help="a name, or the path of a folder or file of your own")
    fetch("--image-size", type=_positive, metavar="N", help="pictures of N x N pixels; your own are cut and shrunk")
    fetch("--out", type=Path, metavar="FILE", help="a picture of it (default, of your own: memlib_data.png)")
    dial("--data", required=True, metavar="NAME", help="a data set")
    dial("--near-copies", type=float, required=True, metavar="SHARE", help="the level that is asked for, such as 0.02")
    dial("--fidelity", type=float, default=1.2, metavar="RATIO", help="at most so far off the data (default: 1.2)")
    dial("--image-size", type=_positive, metavar="N", help="cut and shrink pictures of your own to N x N (default: 32)")
    dial("--n", type=_positive, metavar="N", help="training items (default: the profile's)")
    dial("--profile", default="recorded", metavar="NAME", help="the budget of a pilot run (default: recorded)")
    sweep("--plan", action="append", required=True, metavar="PLAN", help="a plan's name, or a file")
    sweep("--fleet", type=_positive, default=24, metavar="K", help="networks trained at once (default: 24)")
    for one in (sweep, dial):
        one("--workers", type=_positive, metavar="N", help="processes (default: one for each core)")
        one("--device", default="cpu", metavar="NAME", help="cpu (the default) or cuda")
    page("--out", type=Path, default=Path("playground.html"), metavar="FILE", help="default: playground.html")
    claims("--write", action="store_true", help="put the table into the clone's README.md")
    gpu("--minutes", type=float, default=12.0, metavar="N", help="for all of it (default: 12)")
    gpu("--device", default="cuda", metavar="NAME", help="cuda (the default); cpu tries the command, at smoke size")
    gpu("--out", type=Path, default=Path("results"), metavar="DIR", help="for what comes back (default: results)")
    gpu("--merge", type=Path, metavar="DIR", help="add what came back to the recorded runs and benchmarks")
    hypotheses("--plan", action="append", metavar="PLAN", help="only this, such as a file of your own; repeatable")
    for one in (sweep, results, claims, hypotheses):
        one("--out", type=Path, metavar="DIR", help="default: the recorded runs of this package")

    options = parser.parse_args(arguments)
    for folder in {"MEMLIB_DATA", "MEMLIB_RUNS"} & set(os.environ):  # relative to where the command was given
        os.environ[folder] = os.environ[folder] and os.path.abspath(os.environ[folder])
    try:
        return options.run(options)
    except ModuleNotFoundError as e:
        print(f"memlib: {e}; install what is missing, in the clone: pip install '.[{options.extra}]'", file=sys.stderr)
        return 2
    except (TypeError, ValueError, OSError, RuntimeError) as e:  # RuntimeError: no such device, or runs that failed
        print(f"memlib: {e}", file=sys.stderr)
        return 1 if isinstance(e, RuntimeError) else 2
    except KeyboardInterrupt:
        print("memlib: stopped; what a sweep has finished is kept, and it goes on from there", file=sys.stderr)
        return 130


def _positive(text: str) -> int:
    if not text.isdecimal() or not int(text):
        raise argparse.ArgumentTypeError(f"{text!r}; need an integer of at least 1")
    return int(text)


def share(text: str) -> float:
    if not 0 <= float(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r}; need a share from 0 to less than 1, such as 0.01 for 1 %")
    return float(text)


def _reproduce(options: argparse.Namespace) -> int:
    import_module("furo")  # now, not after an hour
    from memlib import notebooks
    from memlib.lab.profiles import profile

    profile(options.profile)
    paths = notebooks.find_notebooks(options.notebook)
    parameters = notebooks.parse_settings(options.set, paths) | {"profile": options.profile}
    return notebooks.tell(notebooks.reproduce(paths, parameters, options.out or notebooks.ROOT / "results"))


def _refresh(options: argparse.Namespace) -> int:
    from memlib import notebooks

    return notebooks.tell(notebooks.refresh(notebooks.find_notebooks(options.notebook)))


def _data(options: argparse.Namespace) -> int:
    from memlib.lab import data

    name, own = data.named(options.name), not data.is_known(options.name)
    found = (data.from_file if own else data.load)(name, image_size=options.image_size)
    sizes = ", ".join(f"{len(getattr(found, part))} {part}" for part in ("train", "held_out", "fresh"))
    print(f"{found.name}: {sizes}, each {tuple(found.train.shape[1:])}")
    print(f"licence: {found.licence}\nsource: {found.source}")
    if own or options.out:
        low, high = found.value_range
        print("\n".join([f"kind: {found.kind}, values in [{low:.4g}, {high:.4g}]", *found.notes]))
        options.extra = "notebooks"  # which has what draws
        import matplotlib.pyplot as plt

        from memlib import viz

        path = (out := options.out or Path("memlib_data")).with_suffix(out.suffix or ".png")
        path.parent.mkdir(parents=True, exist_ok=True)
        viz.grid(found.train[:32], label="train")
        plt.gcf().savefig(path, dpi=150)
        plt.close()
        print(f"picture: {path}, of the first {min(32, len(found.train))} items for training")
    return 0


def _sweep(options: argparse.Namespace) -> int:
    from tqdm import tqdm

    from memlib.lab import courses
    from memlib.lab.plans import read_plan

    out, workers = options.out or courses.COURSES, options.workers or os.cpu_count() or 1
    for plan in list(map(read_plan, options.plan)):  # all are read before the first is run
        missing, _ = plan.missing(plan.seeds, {(x["key"], x["content"]) for x in courses.read(out)})
        seconds = courses.seconds_of(missing, options.device)
        print(f"{plan.name}: {len(missing)} runs, about {seconds / workers / 60:.0f} minutes on {workers} processes")
        for line in courses.record(plan, out=out, workers=workers, device=options.device, fleet=options.fleet):
            tqdm.write(f"{line['control']}, seed {line['seed']}: {line['course'][-1]['measures']['near-copies']:.1%}")
    return 0


def _dial(options: argparse.Namespace) -> int:
    from memlib.lab.data import kind_of
    from memlib.lab.dial import dial, pilot
    from memlib.lab.profiles import profile

    kind = {"points": "points", "signal": "signals", "image": "images"}[kind_of(options.data)]
    own = replace(getattr(profile(options.profile), kind), dataset=options.data, sampler="ddpm")
    own = replace(own, n_train=options.n or own.n_train, image_size=options.image_size or own.image_size)
    courses = pilot(own, device=options.device, workers=options.workers)  # run when `dial` has checked what is asked
    best, even = dial(courses, options.near_copies, options.fidelity)
    print(f"best: {best}\nuniform, stopped in time: {even or 'does not reach this fidelity'}")
    return 0


def _results(options: argparse.Namespace) -> int:
    from memlib.lab.courses import summary

    print(summary(_recorded(options)).to_string())
    return 0


def _claims(options: argparse.Namespace) -> int:
    from memlib.lab.claims import MARKS, claim_table
    from memlib.lab.files import ROOT, write_between
    from memlib.lab.hypotheses import decide

    text = claim_table(decide(_recorded(options)))
    print(text)
    if options.write:
        write_between(ROOT / "README.md", MARKS, text)
    return 0


def _hypotheses(options: argparse.Namespace) -> int:
    from memlib.lab.hypotheses import decide, finding_table
    from memlib.lab.plans import read_plan

    print(finding_table(decide(_recorded(options), options.plan and [read_plan(plan) for plan in options.plan])))
    return 0


def _recorded(options: argparse.Namespace) -> list:
    from memlib.lab.courses import COURSES, read

    if not (lines := read(options.out or COURSES)):
        raise ValueError(f"nothing is recorded in {options.out or COURSES}: run `python -m memlib sweep --plan NAME`")
    return lines


def _audit(options: argparse.Namespace) -> int:
    from memlib.viz.report import audit_files

    made = audit_files(options.samples, options.train, options.held_out, features=options.features, out=options.out)
    for row, own in made.table.items():
        print(f"{row:32} " + "   ".join(f"{name} {value:.3g}" for name, value in own.items()))
    print(*made.notes, options.out / "audit.html", sep="\n")
    shares = [value.value for name, value in made.table["samples"].items() if name.startswith("near-copies")]
    return 3 if max(shares) > options.fail_above else 0  # as they are, or at the best match of a shift


def _page(options: argparse.Namespace) -> int:
    from memlib.viz.explore.playground import page

    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(page(), encoding="utf-8")
    print(options.out)
    return 0


def _gpu(options: argparse.Namespace) -> int:
    from memlib.lab import gpu

    if options.merge:
        print(*gpu.merge(options.merge), sep="\n")
        return 0
    return gpu.run(options.minutes, options.out, options.device)


if __name__ == "__main__":
    sys.exit(main())

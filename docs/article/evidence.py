"""What an expression of the article may ask: words, numbers and tables, all from data/plans and data/results."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from memlib.lab import courses, data, hypotheses, made, plans, spectrum
from memlib.lab.experiment import Experiment
from memlib.lab.statistics import paired_difference
from memlib.metrics import Estimate

ALIKE, MATCHED = "H6, measured alike", "H6, at equal best fidelity"
WORDS = {  # for each data set, in the order in which the article names them
    "mixture16": "mixture",
    "ecg5000": "heartbeats",
    "emoji": "emoji",
    **{f"mixture{dim}": f"mixture in {dim} dimensions" for dim in (4, 64)},
    "ucr/FacesUCR": "outlines of faces",
    "ucr/DistalPhalanxOutlineCorrect": "outlines of finger bones",
    "pokemon": "Pok\N{LATIN SMALL LETTER E WITH ACUTE}mon",
    "flowers102": "flowers",
}


class Evidence:
    """Plans and records, read once. Each attribute and method is a name in an expression."""

    whole, alpha, reference_size = hypotheses.WHOLE, hypotheses.ALPHA, data.REFERENCE

    def __init__(self) -> None:
        self.plans = {path.stem: plans.read_plan(path) for path in sorted(plans.PLANS.glob("*.toml"))}
        self.random, self.dose = self.plans["mixture_random"], self.plans["mixture_dose"]
        self.lines, self.old = courses.read(), courses.read(courses.EXPLORATORY)
        self.of = {name: [x for x in self.lines if x["plan"] == name] for name in self.plans}
        self.findings = hypotheses.decide(self.lines, list(self.plans.values()))
        self.courses, self.table = courses.tidy(self.of["mixture_dose"]), _table(self.old)
        self.budget: dict[str, Any] = self.dose.content["experiment"]
        self.last: int = self.budget["training"]["steps"]
        self.batch8: int = self.plans["mixture_batch8"].content["experiment"]["training"]["batch_size"]
        self.margin: float = self.dose.content["predictions"][0]["margin"]
        self.low, self.high = self.dose.content["controls"]["zone x 2"]["edges"]
        planned = self.table[self.table.control == "interval -1000 to 1000"]
        self.usual_items = planned.groupby("dataset").n_train.min().tolist()
        self.schedule = self.dose.controls["uniform"].build_schedule()
        self.centres = made.mixture_centres(self.budget["dataset"])
        self.spectra = spectrum.recorded_spectra(self.lines, "mixture", "heartbeats")
        self.spectrum = self.spectra["mixture"]
        self.upper = self.spectrum.edges[-3]  # of a band above the zone
        # of each band the first step, and the interval
        self.bands = [*zip([0, *self.spectrum.edges], *self.spectrum.intervals, strict=True)]

    def holds(self, condition: Any) -> str:
        """Nothing, where the records bear out the sentences that follow; else the article cannot be built."""
        if not condition:
            raise ValueError("the records no longer say what is written here; rewrite the paragraph")
        return ""

    def the(self, name: str) -> str:
        """The name of a control of the second plan, set in italics."""
        if name not in self.dose.controls:
            raise ValueError(f"name = {name!r} is no control of {self.dose.name}")
        return f"_{name}_"

    def family(self, hypothesis: str, dataset: str = "mixture16") -> list[hypotheses.Finding]:
        return [f for f in self.findings if (f.hypothesis, f.dataset) == (hypothesis, dataset)]

    def finding(self, hypothesis: str, says: str, dataset: str = "mixture16") -> hypotheses.Finding:
        return next(f for f in self.family(hypothesis, dataset) if f.says.startswith(says))

    def effect(self, hypothesis: str, says: str, dataset: str = "mixture16") -> str:
        return number(self.finding(hypothesis, f"{says}:", dataset).effect)

    def tally(self, hypothesis: str, *datasets: str) -> str:
        """What became of the predictions of a hypothesis, by default on the mixture."""
        found = Counter(f.verdict for name in datasets or ["mixture16"] for f in self.family(hypothesis, name))
        total = sum(found.values())
        if len(found) == 1:
            return f"*{next(iter(found))}*" + ("" if total == 1 else " (both)" if total == 2 else f" (all {total})")
        *parts, end = (f"{n} *{verdict}*" for verdict, n in found.most_common())
        return f"of {total} predictions {', '.join(parts)} and {end}"

    def sets(self, hypothesis: str, *but: str) -> list[str]:
        """The data sets on which a hypothesis has findings, but these."""
        run = {f.dataset for f in self.findings if f.hypothesis == hypothesis and f.effect}
        return [name for name in WORDS if name in run and name not in but]

    def each(self, hypothesis: str, *but: str) -> str:
        """What became of it on each data set with findings, but these."""
        return ", ".join(f"{WORDS[name]} {self.tally(hypothesis, name)}" for name in self.sets(hypothesis, *but))

    def each_with_seeds(self, hypothesis: str) -> str:
        """The same, each data set with the least and the largest number of seeds of a prediction."""
        found = []
        for name in self.sets(hypothesis):
            seeds = sorted({f.seeds for f in self.family(hypothesis, name) if f.effect})
            count = " to ".join(f"{n}" for n in dict.fromkeys((seeds[0], seeds[-1])))
            found.append(f"{WORDS[name]} ({count} seeds) {self.tally(hypothesis, name)}")
        return ", ".join(found)

    def zone(self, name: str) -> tuple[int, int] | None:
        """The zone of the spectrum of a random design."""
        return self.spectra[name].zone

    def mean(self, control: str, measure: str = "near-copies", step: int | None = None) -> float:
        """Over seeds, in the runs of the second plan; at the last step if none is named."""
        rows = self.courses[(self.courses.control == control) & (self.courses.measure == measure)]
        return float(rows[rows.step == (step or self.last)].value.mean())

    def on_heartbeats(self, control: str, measure: str = "near-copies", plan: str = "heartbeats_claims") -> float:
        """Over seeds, in the runs of a plan on heartbeats, by default that of the claims, at the last step."""
        own = hypotheses.lines_of(self.plans[plan], self.lines)  # also runs that another plan asked for first
        last = [x["course"][-1]["measures"] for x in own if x["control"] == control]
        return float(np.mean([x[measure] for x in last]))

    def reference(self, name: str, measure: str) -> float:
        """Over seeds, of a set that no network made."""
        by_seed = {x["seed"]: x["references"][name][measure] for x in self.of["mixture_dose"]}
        return float(np.mean([*by_seed.values()]))

    def earlier(self, dataset: str, control: str, steps: int = 0, items: int = 0) -> float:
        """Near-copies over seeds in the exploratory runs, at the plans' steps and items where none are named."""
        rows = self.table[self.table.dataset == dataset]
        usual = rows[rows.control == "interval -1000 to 1000"].iloc[0]
        rows = rows[(rows.steps == (steps or usual.steps)) & (rows.n_train == (items or usual.n_train))]
        return float(rows[rows.control == control].memorized.mean())

    def pooled(self, control: str) -> tuple[Estimate, int]:
        """Near-copies less uniform's in the exploratory runs: all data sets, paired by seed, none degenerate."""
        rows = self.table[~self.table.broken & self.table.control.isin([control, "uniform"])]
        same = ["dataset", "seed", "steps", "n_train"]
        pairs = rows.pivot_table(index=same, columns="control", values="memorized").dropna()
        return paired_difference((pairs[control] - pairs["uniform"]).tolist())[0], len(pairs)

    def band_correlation(self, dataset: str, low: int, high: int) -> float:
        """Spearman's, over the drawn controls of the exploratory runs at the plans' budget, of near-copies with the
        share of p(t) in a band; none degenerate."""
        rows = self.table[(self.table.dataset == dataset) & ~self.table.broken & ~self.table.splice]
        usual = rows[rows.control == "interval -1000 to 1000"].iloc[0]
        rows = rows[(rows.steps == usual.steps) & (rows.n_train == usual.n_train)]
        own = {x["key"]: Experiment.from_dict(x["config"]) for x in self.old if x["key"] in set(rows.key)}
        rows = rows[[own[key].loss_weight is None for key in rows.key]]
        share = [float(own[key].timesteps.pmf[low:high].sum()) for key in rows.key]
        means = rows.assign(share=share).groupby("control")[["share", "memorized"]].mean()
        return float(stats.spearmanr(means.share, means.memorized).statistic)

    def rank_correlation(self, measure: str) -> float:
        """Over the controls of the second plan, of near-copies with another measure."""
        pairs = [(self.mean(name), self.mean(name, measure)) for name in self.dose.controls]
        return float(stats.spearmanr(pairs).statistic)

    @property
    def of_seeds(self) -> str:
        """R2 of seeds that were left out of the spectrum's fit."""
        return self.family("H0")[0].says.partition("seeds left out: ")[2].rstrip(")")

    @cached_property
    def predicted(self) -> dict[str, tuple[Estimate, float]]:
        """For the drawn controls of the second plan: near-copies as the first plan's fit has them, and as they were."""
        usual = self.dose.controls["uniform"].training
        drawn = {n: x for n, x in self.dose.controls.items() if x.loss_weight is None and x.training == usual}
        return {name: (self.spectrum.predict(x.timesteps, usual.steps), self.mean(name)) for name, x in drawn.items()}

    @property
    def agreement(self) -> float:
        return float(np.corrcoef([(guess.value, was) for guess, was in self.predicted.values()], rowvar=False)[0, 1])

    @property
    def inside(self) -> int:
        return sum(guess.low <= was <= guess.high for guess, was in self.predicted.values())

    @property
    def best(self) -> hypotheses.Finding:
        """Of H6, the one with the largest effect in favour of a control."""
        return min(self.family("H6"), key=lambda f: f.effect.value if f.effect else 0.0)

    def beyond_zero(self, sign: int) -> list[str]:
        """Of H6, the controls whose interval lies on one side of zero."""
        found = [(f.says.partition(":")[0], f.effect) for f in self.family("H6") if f.effect]
        return [self.the(name) for name, e in found if (e.low if sign > 0 else -e.high) > 0]

    def stop(self, plan: str = "mixture_matched") -> int:
        """After so many steps uniform sampling is met by the plan's controls."""
        return self.plans[plan].content["predictions"][0]["step"]

    def stopped(self, plan: str = "mixture_matched") -> float:
        """Near-copies under uniform sampling at the step at which it is met, over seeds."""
        step = self.stop(plan)
        met = [x for line in self.of[plan] if line["control"] == "uniform" for x in line["course"] if x["step"] == step]
        return float(np.mean([x["measures"]["near-copies"] for x in met]))

    def points(self, control: str, dataset: str = "mixture16") -> str:
        """How many points fewer near-copies a control makes at equal best fidelity."""
        found = self.finding(MATCHED, f"{control}:", dataset).effect
        return f"{-100 * found.value:.1f}" if found else "-"

    def itself(self, plan: str = "mixture_stopped") -> str:
        """By how many points uniform sampling differs from itself, compared as the plan compares controls."""
        own = self.plans[plan]
        asked = {**own.content, "predictions": [own.content["predictions"][0] | {"control": "uniform"}]}
        (found,) = hypotheses.decide(self.of[plan], [replace(own, content=asked)])
        return f"{100 * found.effect.value:.1f}" if found.effect else "-"

    @property
    def on_the_way(self) -> pd.DataFrame:
        """The courses of `mixture_matched` without their last readings, which have more samples."""
        return courses.tidy([{**x, "course": x["course"][:-1]} for x in self.of["mixture_matched"]])

    @property
    def weighted(self) -> dict[str, bool]:
        """For each loss weight that was drawn, too: whether it ends nearer to uniform than its drawn twin."""
        pairs = [(n, n.replace(", as weight", "")) for n in self.dose.controls if ", as weight" in n]
        distance = {n: abs(self.mean(n) - self.mean("uniform")) for n in self.dose.controls}
        return {a: distance[a] < distance[b] for a, b in pairs if b in distance}

    def share(self, control: str, low: int = 0, high: int = 0) -> float:
        """Of p(t), or of the loss weight, in a band, by default the zone."""
        own = self.dose.controls[control]
        return float((own.loss_weight or own.timesteps).pmf[low or self.low : high or self.high].sum())

    def by_items(self, *names: str) -> str:
        """Near-copies under uniform sampling by the number of items, where all have the last number of views of an item
        in the zone that all have; between readings, linear in log steps, as H5 is."""
        courses: dict[int, tuple[Any, Any]] = {}
        for plan in (self.plans[name] for name in names):
            low, high = plan.content["zone"]
            for control, own in plan.controls.items():
                if np.ptp(own.timesteps.pmf.numpy()) < 1e-9 and own.n_train not in courses:
                    runs = [x["course"] for x in hypotheses.lines_of(plan, self.lines) if x["control"] == control]
                    each = (high - low) / self.schedule.T * own.training.batch_size / own.n_train
                    copies = [[reading["measures"]["near-copies"] for reading in course] for course in runs]
                    courses[own.n_train] = [x["step"] * each for x in runs[0]], np.mean(copies, 0)
        last = min(views[-1] for views, _ in courses.values())
        found = {n: float(np.interp(np.log(last), np.log(x), y)) for n, (x, y) in sorted(courses.items())}
        return f"(at {last:.0f} views) " + ", ".join(f"{share:.1%} with $n = {n}$" for n, share in found.items())

    @property
    def many(self) -> list[float]:
        """Membership under each control that was trained on five hundred heartbeats."""
        names = [name for name, own in self.plans["heartbeats_500"].controls.items() if own.n_train == 500]
        return [self.on_heartbeats(name, "membership", "heartbeats_500") for name in names]

    def real(self, lines: list[Any]) -> list[Any]:
        """Those that were not made on the spot."""
        return [x for x in lines if x["config"]["dataset"] not in data.MADE]

    def seeds(self, plan: str) -> int:
        return len({x["seed"] for x in self.of[plan]})

    def hours(self, lines: list[Any]) -> str:
        return f"{sum(x['seconds'] for x in lines) / 3600:.1f}"

    def unclean(self, plan: str) -> int:
        """Runs made from a working tree with changes that no commit held."""
        return sum(x["commit"].endswith("+") for x in self.of[plan])


def _table(lines: list[Any]) -> pd.DataFrame:
    """A row per exploratory run: what it was, whether it is degenerate, and its near-copies at the last step."""
    rows = []
    for x in lines:
        config, last = x["config"], x["course"][-1]
        own = {"dataset": config["dataset"], "n_train": config["n_train"], "steps": last["step"]}
        own |= {"splice": "at" in x, "broken": last["degenerate"], "memorized": last["measures"]["near-copies"]}
        rows.append({name: x[name] for name in ("key", "control", "seed")} | own)
    return pd.DataFrame(rows)


def number(e: Estimate | None) -> str:
    return "not run" if e is None else f"{e:+.3f}".replace("-", "\N{MINUS SIGN}")

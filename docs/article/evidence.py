"""What an expression of the article may ask: words, numbers and tables, all from data/plans and data/results."""

from __future__ import annotations

import re
from collections import Counter
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from memlib.lab import claims, courses, data, hypotheses, made, plans, spectrum
from memlib.lab.experiment import Experiment
from memlib.lab.statistics import paired_difference
from memlib.metrics import Estimate


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

    def tally(self, hypothesis: str, dataset: str = "mixture16") -> str:
        """What became of the predictions of a hypothesis."""
        found = Counter(f.verdict for f in self.family(hypothesis, dataset))
        total = sum(found.values())
        if len(found) == 1:
            return f"*{next(iter(found))}*" + ("" if total == 1 else " (both)" if total == 2 else f" (all {total})")
        return f"of {total} predictions " + " and ".join(f"{n} *{verdict}*" for verdict, n in found.most_common())

    def three(self, hypothesis: str) -> str:
        """What became of it on each data set on which it was tested."""
        words = {"mixture16": "mixture", "ecg5000": "heartbeats", "emoji": "emoji"}
        return ", ".join(f"{words[d]} {self.tally(hypothesis, d)}" for d in words if self.family(hypothesis, d))

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

    def beyond_zero(self, sign: int) -> str:
        """Of H6, the controls whose interval lies on one side of zero."""
        found = [(f.says.partition(":")[0], f.effect) for f in self.family("H6") if f.effect]
        return "; ".join(self.the(name) for name, e in found if (e.low if sign > 0 else -e.high) > 0) or "none"

    def stop(self, plan: str = "mixture_stopped") -> int:
        """After so many steps uniform sampling is met by the plan's controls."""
        return self.plans[plan].content["predictions"][0]["step"]

    def stopped(self, plan: str = "mixture_stopped") -> float:
        """Near-copies under uniform sampling at the step at which it is met, over seeds."""
        step = self.stop(plan)
        met = [x for line in self.of[plan] if line["control"] == "uniform" for x in line["course"] if x["step"] == step]
        return float(np.mean([x["measures"]["near-copies"] for x in met]))

    def points(self, control: str, dataset: str = "mixture16") -> str:
        """How many points fewer near-copies a control makes where it is met."""
        found = self.finding("H6, measured alike", f"{control}:", dataset).effect
        return f"{-100 * found.value:.1f}" if found else "-"

    @property
    def on_the_way(self) -> pd.DataFrame:
        """The courses of `mixture_stopped` without their last readings, which have more samples."""
        return courses.tidy([{**x, "course": x["course"][:-1]} for x in self.of["mixture_stopped"]])

    @property
    def weighted(self) -> dict[str, bool]:
        """For each loss weight that was drawn, too: whether it ends nearer to uniform than its drawn twin."""
        pairs = [(n, n.replace(", as weight", "")) for n in self.dose.controls if ", as weight" in n]
        distance = {n: abs(self.mean(n) - self.mean("uniform")) for n in self.dose.controls}
        return {a: distance[a] < distance[b] for a, b in pairs if b in distance}

    def share(self, control: str) -> float:
        """Of p(t), or of the loss weight, in the zone."""
        own = self.dose.controls[control]
        return float((own.loss_weight or own.timesteps).pmf[self.low : self.high].sum())

    def seeds(self, plan: str) -> int:
        return len({x["seed"] for x in self.of[plan]})

    def hours(self, lines: list[Any]) -> str:
        return f"{sum(x['seconds'] for x in lines) / 3600:.1f}"

    def unclean(self, plan: str) -> int:
        """Runs made from a working tree with changes that no commit held."""
        return sum(x["commit"].endswith("+") for x in self.of[plan])

    def claim_table(self) -> str:
        """Each claim's verdict on each data set, at equal steps and in each other way in which it was judged."""
        found, rows = claims.claim_verdicts(self.findings), []
        for claim, statement in claims.CLAIMS.items():
            cells = []
            for ways in (found[claim].get(name, {"": "not run"}) for name in ("mixture16", "ecg5000", "emoji")):
                cells.append("; ".join(f"{how.lstrip(', ')}: {v}" if how else f"*{v}*" for how, v in ways.items()))
            rows.append([claim, statement, *cells])
        return table(["claim", "the abstract says", "mixture", "heartbeats", "emoji"], rows)

    def prediction_table(self, dataset: str, letter: str) -> str:
        """All predictions on one data set whose hypothesis begins with this letter."""
        rows = []
        for f in (f for f in self.findings if f.dataset == dataset and f.hypothesis[0] == letter):
            p = "" if f.p is None else "< .001" if f.p < 0.001 else f"{f.p:.3f}".removeprefix("0")
            verdict = f.verdict + (f" ({f.needed})" if f.needed else "")
            says = re.sub(r": R2.*|, at equal fidelity", "", f.says)
            first = not rows or f.hypothesis not in [row[0] for row in rows]
            rows.append([f.hypothesis if first else "", says, number(f.effect), p, f"{f.seeds}", verdict])
        return table(["", "predicted", "effect", "$p$ (Holm)", "seeds", "verdict"], rows)

    def zone_table(self) -> str:
        """For each set whose zone was predicted from geometry: the zone, and what came of each prediction."""
        rows = []
        for name, plan in self.plans.items():
            if name.endswith("_zone") and self.of[name]:
                (low, high), dataset = plan.content["zone"], plan.content["experiment"]["dataset"]
                cells = [f"{number(f.effect)}, *{f.verdict}*" for f in self.family("H8", dataset)]
                words = f"t = {low} to {high - 1}, {self.seeds(name)} seeds"
                rows.append([dataset.removeprefix("ucr/"), words, *cells])
        wider = f"twice it, less twice {self.low} to {self.high - 1}"
        return table(["data set", "predicted zone", "twice the zone", "half of it", wider], rows)

    def control_table(self) -> str:
        rows: list[list[str]] = []
        measures = ("closer to train", "fidelity", "energy", "membership")
        for name in [*self.dose.controls, *self.dose.splices]:
            guess = f"{self.predicted[name][0]:.2f}" if name in self.predicted else ""
            share = f"{self.share(name):.2f}" if name in self.dose.controls else ""
            means = [f"{self.mean(name, m):.2f}" for m in measures]
            rows.append([name, share, f"{self.mean(name):.3f}", guess, *means])
        words = {"fresh": "fresh real items", "copies": "the training items", "gaussian": "a Gaussian fitted to them"}
        for name, said in (words | {"mix": "mixes of two of them", "kernel": "a kernel density of them"}).items():
            copies, *others = (self.reference(name, m) for m in ("near-copies", *measures[:3]))
            rows.append([f"_{said}_", "", f"{copies:.3f}", "", *(f"{x:.2f}" for x in others), ""])
        return table(["control", "zone", "near-copies", "predicted", *measures], rows)


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


def table(head: list[str], rows: list[list[str]]) -> str:
    """As typst's cells."""
    cells = "".join(f"[{cell}], " for row in rows for cell in row)
    return f"data-table({len(head)}, ({''.join(f'[{x}], ' for x in head)}), ({cells}))"

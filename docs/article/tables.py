"""The tables of the article, as typst's cells."""

from __future__ import annotations

import re

from evidence import ALIKE, MATCHED, WORDS, Evidence, number

from memlib.lab import claims

LISTED = ("mixture16", "H"), ("ecg5000", "H"), ("mixture16", "C"), ("ecg5000", "C"), ("emoji", "C")  # a table for each


class Tables(Evidence):
    """Evidence that also writes tables. Each method is a name in an expression of the article."""

    def claim_table(self) -> str:
        """Each claim's verdict on each data set, at equal steps and in each other way in which it was judged."""
        found, rows = claims.claim_verdicts(self.findings), []
        for claim, statement in claims.CLAIMS.items():
            cells = []
            for ways in (found[claim].get(name, {"": "not run"}) for name in ("mixture16", "ecg5000", "emoji")):
                cells.append("; ".join(f"{how.lstrip(', ')}: {v}" if how else f"*{v}*" for how, v in ways.items()))
            rows.append([claim, statement, *cells])
        return table(["claim", "the abstract says", "mixture", "heartbeats", "emoji"], rows)

    def prediction_table(self, *wanted: str) -> str:
        """All predictions of a kind, a data set with "H" or "C" (of LISTED); else those that no such table has."""
        rows = []
        for f in self.findings:
            kind = f.dataset, f.hypothesis[0] if re.match(r"[HC]\d", f.hypothesis) else ""
            if (kind if kind in LISTED else ()) != wanted:
                continue
            name = f.hypothesis if wanted else f"{f.hypothesis} ({WORDS[f.dataset]})"
            p = "" if f.p is None else "< .001" if f.p < 0.001 else f"{f.p:.3f}".removeprefix("0")
            verdict = f.verdict + (f" ({f.needed})" if f.needed else "")
            says = re.sub(r": R2.*|, at equal fidelity", "", f.says)
            first = name not in [row[0] for row in rows]
            rows.append([name if first else "", says, number(f.effect), p, f"{f.seeds}", verdict])
        return table(["", "predicted", "effect", "$p$ (Holm)", "seeds", "verdict"], rows)

    def zone_table(self) -> str:
        """For each set whose zone was predicted from geometry: the zone, and what came of each prediction."""
        rows = []
        for name, plan in self.plans.items():
            if name.endswith("_zone") and self.of[name]:
                (low, high), dataset = plan.content["zone"], plan.content["experiment"]["dataset"]
                cells = [f"{number(f.effect)}, *{f.verdict}*" for f in self.family("H8", dataset)]
                words = f"t = {low} to {high - 1}, {self.seeds(name)} seeds"
                rows.append([WORDS[dataset], words, *cells])
        wider = f"twice it, less twice {self.low} to {self.high - 1}"
        return table(["data set", "predicted zone", "twice the zone", "half of it", wider], rows)

    def alike_table(self) -> str:
        """For each data set, and control, whether it copies less than uniform sampling that was stopped in time."""
        rows = []
        for dataset in dict.fromkeys([*self.sets(ALIKE), *self.sets(MATCHED)]):
            hypothesis = MATCHED if self.family(MATCHED, dataset) else ALIKE
            mine = (n for n, p in self.plans.items() if p.content["experiment"]["dataset"] == dataset)
            own = next(n for n in mine if self.plans[n].content["predictions"][0]["hypothesis"] == hypothesis)
            at = f"{'best of' if hypothesis == MATCHED else 'after'} {self.stop(own)} steps"
            head = [WORDS[dataset], f"{at}, {self.stopped(own):.1%} near-copies"]
            for f in self.family(hypothesis, dataset):
                rows.append([*head, f.says.partition(":")[0], number(f.effect), f"{f.seeds}", f"*{f.verdict}*"])
                head = ["", ""]
        return table(["data set", "uniform sampling, stopped", "control", "effect", "seeds", "verdict"], rows)

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


def table(head: list[str], rows: list[list[str]]) -> str:
    """As typst's cells."""
    cells = "".join(f"[{cell}], " for row in rows for cell in row)
    return f"data-table({len(head)}, ({''.join(f'[{x}], ' for x in head)}), ({cells}))"

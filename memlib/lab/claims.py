"""The paper's claims, each answered by the predictions of plans whose hypothesis bears its name."""

from collections.abc import Iterable, Sequence

from memlib.lab.hypotheses import Finding
from memlib.lab.made import MADE

TITLES = {"ecg5000": "heartbeats", "mixture16": "mixture"}  # what texts call these data sets
MARKS = "<!-- verdicts -->", "<!-- end of verdicts -->"  # in README.md, around the table
CLAIMS = {  # of the paper, by the hypothesis of the predictions that decide it; "later" has two meanings
    "C1": "Uniform sampling makes the denoising steps contribute unequally, because of SNR",
    "C2": "This imbalance biases training toward memorization",
    "C3": "The interval's width controls the trade-off of memorization and alignment",
    "C4, later = low noise": "Emphasis on later denoising steps reduces memorization",
    "C4, later = high noise": "Emphasis on later denoising steps reduces memorization",
    "C5, later = low noise": "... and improves alignment",
    "C5, later = high noise": "... and improves alignment",
    "C6": "It holds for images and for 1-D signals (C3 to C5)",
}


def claim_verdicts(findings: Iterable[Finding]) -> dict[str, dict[str, dict[str, str]]]:
    """Each claim of the paper -> data set -> how it was judged ("" or ", at equal fidelity", ...) -> its verdict."""
    groups: dict[tuple[str, str, str], list[str]] = {}
    for f in findings:
        for claim in filter(f.hypothesis.startswith, CLAIMS):
            groups.setdefault((claim, f.dataset, f.hypothesis.removeprefix(claim)), []).append(f.verdict)
    found: dict[str, dict[str, dict[str, str]]] = {claim: {} for claim in CLAIMS}
    for (claim, dataset, how), verdicts in groups.items():
        found[claim].setdefault(dataset, {})[how] = _together(verdicts)
    for dataset in sorted({dataset for own in found.values() for dataset in own} - set(MADE)):  # no points
        judged = (found[claim] for claim in CLAIMS if claim[:2] in ("C3", "C4", "C5"))
        words = {own.get(dataset, {}).get("", "not run") for own in judged}
        some, none = bool(words & {"reproduced", "partly"}), "not reproduced" in words
        word = words.pop() if len(words) == 1 else "partly" if some else "not reproduced" if none else "undecided"
        found["C6"][dataset] = {"": word}
    return found


def _together(verdicts: Sequence[str]) -> str:
    """Of a claim's predictions on one data set: all, some or none must be supported."""
    if "supported" in verdicts:
        return "reproduced" if set(verdicts) == {"supported"} else "partly"
    return "not reproduced" if "refuted" in verdicts else "undecided" if "undecided" in verdicts else "not run"


def claim_table(findings: Iterable[Finding]) -> str:
    """As a Markdown table: a row per claim, a column per data set."""
    found = claim_verdicts(findings)
    datasets = sorted({dataset for own in found.values() for dataset in own})
    shown = [TITLES.get(dataset, dataset) for dataset in datasets]
    lines = [f"| claim | the paper says | {' | '.join(shown)} |", "|---" * (2 + len(datasets)) + "|"]
    for claim, statement in CLAIMS.items():
        cells = []
        for ways in (found[claim].get(dataset, {}) for dataset in datasets):
            first, others = ways.get("", "-"), {how.lstrip(", "): verdict for how, verdict in ways.items() if how}
            by = {word: [how for how, verdict in others.items() if verdict == word] for word in others.values()}
            same = ", also ".join([first, *by.pop(first, [])])
            cells.append(same + "".join(f"; {', '.join(said)}: {word}" for word, said in by.items()))
        lines.append(f"| {claim} | {statement} | {' | '.join(cells)} |")
    return "\n".join(lines)

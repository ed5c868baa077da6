"""The paper's claims: from verdicts on predictions to one word per claim and data set."""

import pytest

from memlib.lab import claims, courses
from memlib.lab.files import ROOT
from memlib.lab.hypotheses import Finding, decide


def found(hypothesis: str, verdict: str, dataset: str = "ecg5000") -> Finding:
    return Finding(hypothesis, dataset, "", None, None, 8, 0, verdict)


@pytest.mark.parametrize(
    ("verdicts", "word"),
    [(("supported", "supported"), "reproduced"), (("supported", "refuted"), "partly"),
     (("supported", "undecided"), "partly"), (("refuted", "undecided"), "not reproduced"),
     (("refuted", "not run"), "not reproduced"), (("undecided", "not run"), "undecided"),
     (("not run", "not run"), "not run")],
)  # fmt: skip
def test_a_claim_needs_all_of_its_predictions(verdicts: tuple[str, ...], word: str) -> None:
    own = claims.claim_verdicts([found("C4, later = low noise", verdict) for verdict in verdicts])
    assert own["C4, later = low noise"] == {"ecg5000": {"": word}}
    assert own["C4, later = high noise"] == {}, "the other meaning of later is another claim"


def test_each_way_of_judging_and_each_data_set_has_a_word_of_its_own() -> None:
    findings = [found("C2", "supported"), found("C2, at equal fidelity", "refuted"), found("C2", "refuted", "emoji")]
    own = claims.claim_verdicts([*findings, found("H3", "supported")])
    words = {"": "reproduced", ", at equal fidelity": "not reproduced"}
    assert own["C2"] == {"ecg5000": words, "emoji": {"": "not reproduced"}}
    table = claims.claim_table([*findings, found("C2, new seeds", "supported")])
    (row,) = (line for line in table.splitlines() if line.startswith("| C2 "))
    assert row.endswith("| reproduced, also new seeds; at equal fidelity: not reproduced | not reproduced |")


@pytest.mark.parametrize(
    ("low", "high", "word"),
    [("supported", "supported", "reproduced"), ("refuted", "refuted", "not reproduced"),
     ("supported", "refuted", "partly")],
)  # fmt: skip
def test_c6_asks_for_all_of_c3_to_c5(low: str, high: str, word: str) -> None:
    names = [name for name in claims.CLAIMS if name[:2] in ("C3", "C4", "C5")]
    own = claims.claim_verdicts([found(name, high if "high" in name else low) for name in names])
    assert own["C6"]["ecg5000"] == {"": word}


def test_the_table_in_the_readme_is_what_the_records_say() -> None:
    page = (ROOT / "README.md").read_text(encoding="utf-8")
    shown = page.split(claims.MARKS[0])[1].split(claims.MARKS[1])[0].strip()
    assert shown == claims.claim_table(decide(courses.read())), "run `python -m memlib claims --write`"

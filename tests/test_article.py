"""The article is built from the records, no number in it is typed, and its references are whole."""

import ast
import importlib
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from memlib.lab import claims, courses, hypotheses

typst = pytest.importorskip("typst", reason="the article needs typst, of the dev extra")
ROOT = Path(__file__).parents[1]
ARTICLE = ROOT / "docs" / "article"
SOURCES = [(ARTICLE / name).read_text(encoding="utf-8") for name in ("article.typ", "letter.md")]
EXPRESSION = r"(?s)\{\{(.+?)\}\}"
# comments, expressions, formulas, citations, labels, the width of a picture, numbers of a list; then names with a digit
NO_TEXT = (r"(?m)^//.*", EXPRESSION, r"\$[^$]+\$", r"@\w+", r"<[\w-]+>", r'#picture\("\w+", \d+%', r"(?m)^\d\. ")
NAMES = r"\b[CH]\d\b|\bP2\b|ECG5000|\b1-D\b|arXiv 2601\.21348|\btwo(?: one)?-sided\b"
NUMBER = r"(?i)\S*\d\S*|\b(?:two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|\w+teen|twenty)\b"


def entries() -> dict[str, dict[str, str]]:
    """The fields of each reference, by its key."""
    text = (ROOT / "docs" / "references.bib").read_text(encoding="utf-8")
    found = re.findall(r"^@\w+\{(\w+), (.*)\}$", text, re.M)
    assert len(found) == len({key for key, _ in found}) == text.count("\n@"), "an entry is a line, and its key its own"
    return {key: dict(re.findall(r"(\w+) = \{([^}]*)\}", fields)) for key, fields in found}


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("article")
    here = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, ARTICLE / "build.py", out]
    done = subprocess.run(command, cwd=ROOT, env=here, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return out


@pytest.mark.parametrize("text", SOURCES, ids=["article", "letter"])
def test_no_number_is_typed(text: str) -> None:
    for expression in re.findall(EXPRESSION, text):  # nor does an expression hold nothing but a number
        assert any(isinstance(node, ast.Name) for node in ast.walk(ast.parse(expression.strip(), mode="eval")))
    for pattern in (*NO_TEXT, NAMES):
        text = re.sub(pattern, " ", text)
    assert re.findall(NUMBER, text) == []


def test_the_article_is_made_whole_and_says_what_the_records_say(built: Path) -> None:
    page, letter = (built / "article.html").read_text("utf-8"), (built / "letter.md").read_text("utf-8")
    assert (built / "article.pdf").read_bytes().startswith(b"%PDF") and page.count("<img") == page.count("alt=") == 4
    assert "{{" not in page + letter and not re.search(r'(src|href)="(?!data:|#|https:)', page)
    assert int(typst.query(built / "article.typ", "<end>", field="value", one=True, ignore_system_fonts=True)) <= 8
    plain = str.maketrans("\N{MINUS SIGN}\N{RIGHT SINGLE QUOTATION MARK}", "-'", "\N{HORIZONTAL ELLIPSIS}")
    text = re.sub(r"<[^>]+>", "", page).translate(plain)
    findings = hypotheses.decide(courses.read())
    appendix = page.partition("Appendix: every prediction")[2].partition("Appendix: every control")[0]
    assert appendix.count("<tr>") - appendix.count("<thead>") == len(findings)
    for finding in (x for x in findings if x.effect):
        assert re.search(re.escape(f"{finding.effect.value:+.3f}") + f".*?{finding.verdict}", text)
    for claim, found in claims.claim_verdicts(findings).items():
        words = [found[name][""] if name in found else "not run" for name in ("mixture16", "ecg5000", "emoji")]
        row = ".{0,60}?".join([re.escape((claim + claims.CLAIMS[claim]).replace(".", "")), *words])
        assert re.search(row, text.replace(".", ""), re.S), claim


def test_a_sentence_that_the_records_no_longer_bear_out_stops_the_build(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ARTICLE))
    holds = importlib.import_module("evidence").Evidence.holds
    assert holds(None, True) == ""
    with pytest.raises(ValueError, match="rewrite the paragraph"):
        holds(None, False)


def test_references_are_whole_and_all_that_is_cited_is_there() -> None:
    found = entries()
    assert len(found) >= 30
    cited = set(re.findall(r"@([a-z]+\d{4})", SOURCES[0]))
    linked = "".join(path.read_text("utf-8") for path in [*ROOT.glob("notebooks/*.ipynb"), *ROOT.glob("docs/*.md")])
    assert cited <= set(found), "none is missing"
    assert not [key for key in set(found) - cited if found[key]["url"] not in linked], "each is cited somewhere"
    for key, fields in found.items():
        assert {"title", "author", "year"} <= fields.keys() and key.endswith(fields["year"]), key
        assert {"url", "doi", "journal"} & fields.keys() and fields.get("eprint", "") in fields.get("url", ""), key


ON_ARXIV = r"\b(?:0[7-9]|[12]\d)(?:0[1-9]|1[0-2])\.\d{5}\b"


def words(path: Path, *kinds: str) -> str:
    """A page, or the cells of these kinds of a notebook."""
    text = path.read_text(encoding="utf-8")
    if path.suffix != ".ipynb":
        return text
    return "\n".join("".join(cell["source"]) for cell in json.loads(text)["cells"] if cell["cell_type"] in kinds)


def test_what_a_notebook_or_a_page_cites_is_in_the_references_and_linked() -> None:
    known = " ".join(fields.get("url", "") for fields in entries().values())
    for path in (*ROOT.glob("notebooks/[!.]*"), *ROOT.glob("docs/*.md")):
        new = [number for number in set(re.findall(ON_ARXIV, words(path, "markdown", "code"))) if number not in known]
        assert not new, f"{path.name}: check {new} at the source, then add an entry"
        text = words(path, "markdown")
        linked = re.findall(rf"arxiv\.org/abs/({ON_ARXIV})", text)
        assert set(re.findall(ON_ARXIV, text)) <= set(linked), f"{path.name}: each with its link"

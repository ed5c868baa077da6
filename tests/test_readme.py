"""The Python of the README and of the site's pages runs as printed, and what they name exists."""

import re
from pathlib import Path

import pytest

from memlib.lab import courses
from memlib.lab.hypotheses import decide
from memlib.lab.plans import read_plan
from memlib.viz.explore.playground import page

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
TEXTS = {path: path.read_text(encoding="utf-8") for path in PAGES if path.exists()}
BLOCKS = [
    (path.name, code)
    for path, text in TEXTS.items()
    if path.name not in ("recipes.md", "monitor.md")  # tests/test_recipes.py and test_monitor.py run these
    for code in re.findall(r"```python\n(.*?)```", text, re.S)
]


@pytest.mark.parametrize(("page", "code"), BLOCKS, ids=[name for name, _ in BLOCKS])
def test_code_runs_as_printed(page, code, own_runs, monkeypatch) -> None:
    monkeypatch.chdir(own_runs)
    names: dict[str, object] = {}
    exec(compile(code, page, "exec"), names)
    results = [names[name] for name in ("loss", "samples") if name in names]
    assert all(result.isfinite().all() for result in results)


@pytest.mark.parametrize("path", TEXTS, ids=lambda path: path.name)
def test_links_and_commands_lead_somewhere(path) -> None:
    links = re.findall(r"\]\((?!https?:)([^)#]+)(?:#[^)]*)?\)", TEXTS[path])
    generated = {"readme_picture.png"}  # which the site puts beside its pages
    assert not [link for link in links if not (path.parent / link).exists() and link not in generated]
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.M)
    assert set(re.findall(r"(?:`|^)make ([a-z][a-z-]+)", TEXTS[path], re.M)) <= set(targets)


def test_the_playground_that_the_readme_names_is_that_of_the_sources() -> None:
    assert (ROOT / "docs" / "playground.html").read_text("utf-8") == page(), "run make page"


def test_mondays_table_is_what_the_record_says() -> None:
    findings = decide(courses.read(), [read_plan("mixture_sides"), read_plan("mixture_ambient")])
    found = {f.says.partition(":")[0]: f for f in findings if f.says.endswith("at equal fidelity")}
    rows = re.findall(r"^\| `([^`]+)` \|.* \| ([^|]+) \| (\w+) \|$", TEXTS[ROOT / "docs" / "monday.md"], re.M)
    assert {name for name, _, _ in rows} == set(found)
    for name, effect, verdict in rows:
        mean, low, high = (f"{100 * x:+.1f}".replace("-", "\N{MINUS SIGN}") for x in vars(found[name].effect).values())
        assert (effect, verdict) == (f"{mean} [{low}, {high}]", found[name].verdict)

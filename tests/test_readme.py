"""The Python of the README and of the site's pages runs as printed, and what they name exists."""

import re
from pathlib import Path

import pytest

from memlib.lab import courses
from memlib.lab.hypotheses import decide
from memlib.lab.plans import FORMS, KNOWN, read_plan
from memlib.rivals import PUBLISHED
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
    assert all(result.isfinite().all() for result in map(names.get, {"loss", "samples"} & names.keys()))


@pytest.mark.parametrize("path", TEXTS, ids=lambda path: path.name)
def test_links_and_commands_lead_somewhere(path) -> None:
    links = re.findall(r"\]\((?!https?:)([^)#]+)(?:#[^)]*)?\)", TEXTS[path])
    generated = {"readme_picture.png"}  # which the site puts beside its pages
    assert not [link for link in links if not (path.parent / link).exists() and link not in generated]
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.M)
    assert set(re.findall(r"(?:`|^)make ([a-z][a-z-]+)", TEXTS[path], re.M)) <= set(targets)


def test_the_playground_that_the_readme_names_is_that_of_the_sources() -> None:
    assert (ROOT / "docs" / "playground.html").read_text("utf-8") == page(), "run make page"


def test_the_plan_that_the_page_shows_can_be_read_and_the_fields_of_a_prediction_are_all_named(tmp_path) -> None:
    page = TEXTS[ROOT / "docs" / "sweeps.md"]
    (path := tmp_path / "own.toml").write_text(re.findall(r"```toml\n(.*?)```", page, re.S)[0])
    assert len(read_plan(path).controls) == 7 and read_plan(path).seeds == range(8)
    named = {*PUBLISHED, *KNOWN, *(str(value) for values in KNOWN.values() for value in values)}
    named |= {field for must, may in FORMS.values() for field in must | may}
    assert not [name for name in named if f"`{name}`" not in page]


def test_mondays_table_is_what_the_record_says() -> None:
    findings = decide(courses.read(), [read_plan("mixture_sides"), read_plan("mixture_ambient")])
    found = {f.says.partition(":")[0]: f for f in findings if f.says.endswith("at equal fidelity")}
    rows = re.findall(r"^\| `([^`]+)` \|.* \| ([^|]+) \| (\w+) \|$", TEXTS[ROOT / "docs" / "monday.md"], re.M)
    assert {name for name, _, _ in rows} == set(found)
    for name, effect, verdict in rows:
        mean, low, high = (f"{100 * x:+.1f}".replace("-", "\N{MINUS SIGN}") for x in vars(found[name].effect).values())
        assert (effect, verdict) == (f"{mean} [{low}, {high}]", found[name].verdict)

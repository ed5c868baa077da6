"""The project's own files agree with one another, and keep the rules of the house."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import tomllib
from graphlib import TopologicalSorter
from importlib.metadata import distributions, packages_distributions
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
MODULES = sorted((ROOT / "memlib").rglob("*.py"))
CORE = ("schedules", "timesteps", "models", "training", "samplers")
# what each may import of memlib; imports point one way
ALLOWED: dict[str, set[str]] = {
    "kinds": set(),  # which all may import
    "schedules": set(),
    "timesteps": {"schedules"},
    "models": {"schedules"},
    "devices": set(),
    "training": {"devices", "schedules", "timesteps"},
    "fleet": {"devices", "schedules", "timesteps", "training"},
    "samplers": {"devices", "schedules"},
    "download": {"files"},
    "files": set(),
    "provenance": set(),
    "inference": {"metrics"},
    "report": {"files"},
    "batch": {"report", "files", "provenance"},
}
COMPUTES = {"data", "experiment", "explore", "fleet", "results", "runs", "sweep", "training"}
# needed at run time by name only: a kernel, the page a reader opens, the backend of pandas' and seaborn's frames
NOT_IMPORTED = {"ipykernel", "ipywidgets", "jupyterlab", "pandas"}


def parse(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def names(requirements: list[str]) -> set[str]:
    return {canonicalize_name(Requirement(line).name) for line in requirements}


def lines(name: str) -> list[str]:
    """The lines of a file of requirements, without comments, each with its hashes behind it."""
    text = (ROOT / name).read_text(encoding="utf-8").replace("\\\n", " ")
    return [line for line in text.splitlines() if line and not line.startswith("#")]


def constraints() -> dict[str, str]:
    pins = [Requirement(line) for line in lines("constraints.txt")]
    assert all(re.fullmatch(r"==[\w.]+", str(pin.specifier)) for pin in pins), "a pin is one exact version"
    versions = {canonicalize_name(pin.name): str(pin.specifier).removeprefix("==") for pin in pins}
    assert len(versions) == len(pins), "one version for every Python"
    return versions


def name_of(path: Path) -> str:
    """A module's name, of a package that of its folder."""
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


NAMES = {name_of(path): path for path in MODULES}


def imported(path: Path) -> set[str]:
    """The names of the modules that a file imports, whole, however it writes them."""
    found, package = set(), path.relative_to(ROOT).parent.parts
    for node in ast.walk(parse(path)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) + 1 - node.level] if node.level else ()
            module = ".".join((*base, node.module) if node.module else base)
            within = {f"{module}.{alias.name}" for alias in node.names}
            found |= {name if name in NAMES else module for name in within}
    return found


def top(names: set[str]) -> set[str]:
    return {name.partition(".")[0] for name in names}


def test_environment_agrees_with_pyproject() -> None:
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    *conda, pip = environment["dependencies"]
    assert conda == [f"python{PROJECT['requires-python']}", "pip"], "all else is said once, in pyproject.toml"
    assert pip == {"pip": ["-c constraints.txt", "-e .[dev]"]}
    assert environment["name"] == PROJECT["name"]


def test_pins_cover_what_is_asked_for_and_satisfy_it() -> None:
    pins = constraints()
    for line in PROJECT["dependencies"] + PROJECT["optional-dependencies"]["dev"]:
        asked = Requirement(line)
        pin = pins[canonicalize_name(asked.name)]
        assert asked.specifier.contains(pin), f"{asked} is pinned at {pin}"


def test_every_pin_but_that_of_torch_has_its_hashes() -> None:
    pins = []
    for line in lines("hashes.txt"):
        pin, *hashes = re.split(r"\s+--hash=", line)
        assert hashes and all(re.fullmatch(r"sha256:[0-9a-f]{64}", found) for found in hashes), pin
        pins.append(pin)
    assert pins == [line for line in lines("constraints.txt") if Requirement(line).name != "torch"]


def test_what_memlib_imports_is_declared_and_the_reverse() -> None:
    declared, distributions = names(PROJECT["dependencies"]), packages_distributions()
    used = top(set().union(*map(imported, MODULES))) & set(distributions) - {"memlib"}
    used = {canonicalize_name(name) for module in used for name in distributions[module]}
    assert used - declared == set(), "imported but not declared"
    assert declared - used - NOT_IMPORTED == set(), "declared but not imported"


def test_versions_agree() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["version"] == PROJECT["version"] and citation["license"] == PROJECT["license"] == "MIT"
    (paper,) = citation["references"]
    assert paper["identifiers"][0]["value"] == "arXiv:2601.21348"
    assert [author["family-names"] for author in paper["authors"]] == ["Vu", "Do", "Le", "Hoang", "Tan"]
    assert (ROOT / "LICENSE").read_text().startswith("MIT License")


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_module_keeps_the_rules(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert text.count("\n") <= 300
    assert not re.search(
        r"\bTODO|\bFIXME|pragma|torch\.load\(|pickle\.(load|dump)|torch\.manual_seed\(|np\.random\.seed\(", text
    )
    for node in ast.walk(parse(path)):
        assert not isinstance(node, ast.Assert), f"line {node.lineno}: raise a named error instead"
        assert not isinstance(node, ast.ExceptHandler) or node.type, f"line {node.lineno}: a bare except"


def test_no_line_is_left_uncounted() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["coverage"]
    assert settings["report"] == {"exclude_lines": []}
    assert not {"omit", "include", "exclude_also"} & set(settings["run"])


def test_imports_point_one_way() -> None:
    graph = {name: imported(path) for name, path in NAMES.items()}
    TopologicalSorter(graph).prepare()  # which names a circle
    within = {name: {m.removeprefix("memlib.") for m in modules if m in NAMES} for name, modules in graph.items()}
    for name, allowed in ALLOWED.items():
        assert top(within[f"memlib.{name}"]) - {"kinds"} <= allowed, name
    for name, modules in graph.items():
        if name.startswith("memlib.viz"):
            assert not top(within[name]) & COMPUTES, f"{name}: draws what it is given"
        if "ipywidgets" in modules:
            assert name.startswith("memlib.viz.explore"), "one place for widgets"


def test_core_is_thin() -> None:
    text = "\n".join((ROOT / "memlib" / f"{name}.py").read_text() for name in CORE)
    assert sum(bool(line.strip()) for line in text.splitlines()) <= 1000, "lines that are not blank"


def make(*arguments: str) -> str:
    return subprocess.run(["make", "-n", *arguments], cwd=ROOT, capture_output=True, text=True, check=True).stdout


def test_lab_listens_on_this_machine_only_and_keeps_its_token() -> None:
    command = make("lab")
    assert "--ip=127.0.0.1" in command
    assert not re.search(r"token|password|allow_remote|disable_check_xsrf", command)


def installs(*settings: str) -> list[list[str]]:
    """What `make setup` asks of pip, a list of arguments for each call."""
    calls = [line.split() for line in make("-B", "setup", *settings).splitlines()]
    return [call[call.index("install") + 1 :] for call in calls if "install" in call]


def test_setup_takes_all_but_torch_by_its_hash() -> None:
    hashed, torch, memlib = installs()
    assert hashed[-5:] == ["--require-hashes", "--only-binary", ":all:", "-r", "hashes.txt"], "nothing is built unseen"
    assert torch[-3:] == ["-c", "constraints.txt", "torch"] and "torch" in constraints()
    assert {"--no-deps", "--no-build-isolation"} <= set(memlib) and memlib[-2:] == ["-e", '".[dev]"']
    (build,) = tomllib.loads((ROOT / "pyproject.toml").read_text())["build-system"]["requires"]
    assert Requirement(build).specifier.contains(constraints()[Requirement(build).name]), "what memlib is built with"


def test_torch_comes_from_where_and_all_in_the_versions_that_one_asks_for() -> None:
    hashed, torch, memlib = installs("TORCH_INDEX=https://example.org/cpu")
    assert torch[-3:] == ["--index-url", "https://example.org/cpu", "torch"]
    assert all("--index-url" not in call for call in [hashed, memlib, *installs()])
    torch, memlib = installs("CONSTRAINTS=")
    assert not {"-c", "--no-deps", "--no-build-isolation"} & {*torch, *memlib}, "the newest, with what they need"
    torch, memlib = installs("CONSTRAINTS=build/oldest.txt")[-2:]
    assert torch[-3:] == ["-c", "build/oldest.txt", "torch"] and "--no-deps" not in memlib


def test_workflows_call_targets_that_exist() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.M))
    assert {"reproduce", "test", "lab", "bench", "notebooks", "clean", "distclean"} <= targets
    runs = []
    for path in (ROOT / ".github" / "workflows").glob("*.yml"):
        for job in yaml.safe_load(path.read_text())["jobs"].values():
            runs += [step["run"] for step in job["steps"] if "run" in step]
    runs.append((ROOT / ".ci" / "run").read_text())
    called = set(re.findall(r"^\s*(?:FAULTS=long )?(?:timeout \d+ )?make (?:--\S+ )*([a-z-]+)", "\n".join(runs), re.M))
    assert {"setup", "test", "lint", "coverage", "mutants"} == called <= targets
    assert re.search(r"^FAULTS=long .*make .*\btest\b", runs[-1], re.M), "with the long form of the faults"
    assert ".ci/run" in runs and os.access(ROOT / ".ci" / "run", os.X_OK)


def test_each_week_the_oldest_and_the_newest_versions_are_tested() -> None:
    jobs = yaml.safe_load((ROOT / ".github" / "workflows" / "weekly.yml").read_text())["jobs"]
    versions = jobs["versions"]
    assert {each["constraints"] for each in versions["strategy"]["matrix"]["include"]} == {"", "build/oldest.txt"}
    (test,) = (step["run"] for step in versions["steps"] if step.get("run", "").startswith("make test"))
    assert "CONSTRAINTS=${{ matrix.constraints }}" in test
    assert "--resolution lowest-direct -o build/oldest.txt" in make("-B", "build/oldest.txt")


def test_no_file_names_a_registry_host() -> None:
    listed = subprocess.run(["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True)
    files = [ROOT / name for name in listed.stdout.splitlines() if not name.endswith((".ipynb", ".npz", ".png"))]
    hosts = "|".join([r"pypi\.org", r"files\.pythonhosted", r"registry\.npmjs", r"download\.pytorch", r"anaconda\.org"])
    for path in (path for path in files if path.is_file() and path != Path(__file__)):
        found = re.search(hosts, path.read_text(encoding="utf-8", errors="replace"))
        assert not found, f"{path.relative_to(ROOT)}: {found}"


def test_installed_packages_have_the_licences_that_the_readme_tells() -> None:
    named = re.search(r"Licences of what is installed.*?\n\n", (ROOT / "README.md").read_text(encoding="utf-8"), re.S)[
        0
    ]
    permissive = re.compile(r"BSD|MIT|Apache|ISC|PSF|Python Software Foundation|CC0|Unlicense|Public Domain", re.I)
    for package in distributions():
        data = package.metadata
        if data["Name"].startswith("nvidia-"):
            continue  # of a CUDA build of torch, under NVIDIA's own licence
        classes = [text for text in data.get_all("Classifier", []) if text.startswith("License ::")]
        licence = data.get("License-Expression") or "; ".join(classes) or data.get("License") or ""
        if re.search(r"GPL|MPL|Mozilla", licence) or not permissive.search(licence):
            assert f"`{data['Name']}`" in named, f"{data['Name']}: {licence or 'no licence stated'}"

"""The project's own files agree with one another, and keep the rules of the house."""

import ast
import json
import os
import re
import subprocess
import sys
import tomllib
from importlib.metadata import distributions
from pathlib import Path

import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import memlib

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
MODULES = sorted((ROOT / "memlib").rglob("*.py"))
LAYERS = ("core", "lab", "viz", "commands")  # each imports only itself and those before it
LIBRARIES = {  # by extra, as they are imported; each layer has those of the ones before it
    "core": {"torch", "numpy", "scipy", "tqdm"},
    "lab": {"dask", "distributed", "filelock", "pandas", "PIL", "platformdirs", "pooch"},
    "viz": {"anywidget", "cycler", "ipywidgets", "matplotlib", "seaborn", "traitlets", "IPython"},
    "commands": {"jupyter_client", "nbclient", "nbformat", "papermill"},
}
HEAVY = {"IPython", "diffusers", "distributed", "ipywidgets", "matplotlib", "pandas", "scipy", "seaborn", "sklearn"}


def layer(path: Path) -> str:
    parts = path.relative_to(ROOT / "memlib").parts
    return parts[0] if parts[0] in LAYERS else "commands" if parts[0] in ("notebooks.py", "__main__.py") else "core"


def imported(path: Path) -> set[str]:
    """The full names that a file imports, wherever in the file; imports for type checkers do not count."""
    found: set[str] = set()
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            node.body = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: write the absolute name"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def count(paths) -> int:
    return sum(len(path.read_text(encoding="utf-8").splitlines()) for path in paths)


def test_modules_keep_the_rules_and_import_one_way() -> None:
    written = [x for kind in ("py", "js", "css", "html", "md") for x in ROOT.glob(f"[dmt]*/**/*.{kind}")]
    assert not [path for path in written if count([path]) > 300 and path.name != "playground.html"]
    for path in MODULES:
        text, own = path.read_text(encoding="utf-8"), LAYERS.index(layer(path))
        assert len(text.splitlines()) <= 250, path
        banned = r"\bTODO|\bFIXME|pragma|pickle\.(load|dump)|torch\.manual_seed\(|np\.random\.seed\("
        assert not (found := re.search(banned, text)), f"{path}: {found}"
        assert all("weights_only=True" in call for call in re.findall(r"torch\.load\([^\n]*", text)), path
        for node in ast.walk(ast.parse(text)):
            assert not isinstance(node, ast.Assert), f"{path}:{node.lineno}: raise a named error instead"
        allowed = set().union(*(LIBRARIES[name] for name in LAYERS[: own + 1])) | set(sys.stdlib_module_names)
        for name in imported(path):
            if name.startswith("memlib."):
                folder = name.split(".")[1]
                lower = LAYERS.index(folder if folder in LAYERS else "core") <= own
                assert lower or folder == "notebooks", f"{path}: {name}"
            elif name != "memlib":
                assert name.partition(".")[0] in allowed, f"{path}: {name} is no library of {LAYERS[own]}"


def test_the_house_is_small() -> None:
    lines = {name: count(path for path in MODULES if layer(path) == name) for name in LAYERS}
    # the aims are 1,500, 2,200 and, of tests, 7,000: never raise these (raised once, for refusals in the laboratory)
    assert lines["core"] <= 2404, lines
    assert lines["lab"] + lines["viz"] + lines["commands"] <= 4949, lines
    assert count((ROOT / "tests").rglob("*.py")) <= 9271
    readme = (ROOT / "README.md").read_bytes()
    assert len(readme.splitlines()) <= 120 and len(readme) <= 7 * 1024


def printed(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True).stdout


def test_importing_memlib_is_quick_and_loads_the_core_only() -> None:
    """A tenth of a second of the processor's time on top of torch's, which a busy machine does not stretch."""
    code = "import torch, time; start = time.process_time(); import memlib; print(time.process_time() - start)"
    assert any(float(printed(code)) < 0.1 for _ in range(5))
    modules = printed("import memlib, memlib.metrics, sys; print(*sys.modules)").split()
    assert not HEAVY & set(modules) and not [x for x in modules if re.match(r"memlib\.(lab|viz|notebooks)", x)]
    loaded = printed("from memlib.__main__ import main; import sys; main(['claims']); print(*sys.modules)").split()
    assert "pandas" in loaded and not {"papermill", "nbformat", "matplotlib", "ipywidgets"} & set(loaded)


def lines(name: str) -> list[str]:
    """The lines of a file of requirements, without comments, each followed by its hashes."""
    text = (ROOT / name).read_text(encoding="utf-8").replace("\\\n", " ")
    return [line for line in text.splitlines() if line and not line.startswith("#")]


def pins() -> dict[str, str]:
    found = [Requirement(line) for line in lines("constraints.txt")]
    assert all(re.fullmatch(r"==[\w.]+", str(pin.specifier)) for pin in found), "a pin is one exact version"
    return {canonicalize_name(pin.name): str(pin.specifier).removeprefix("==") for pin in found}


def test_pins_extras_and_environment_agree() -> None:
    extras = PROJECT["optional-dependencies"]
    assert {Requirement(line).name for line in PROJECT["dependencies"]} == LIBRARIES["core"]
    smaller = {"notebooks": "memlib[lab]", "site": "memlib[notebooks]", "dev": "memlib[site]"}
    assert {name: extras[name][0] for name in smaller} == smaller, "each extra holds the one before it"
    for asked in (Requirement(line) for some in (PROJECT["dependencies"], *extras.values()) for line in some):
        if asked.name != "memlib":
            assert asked.specifier.contains(pins()[canonicalize_name(asked.name)]), f"{asked}: run `make pins`"
    hashed = []
    for line in lines("hashes.txt"):
        pin, *hashes = re.split(r"\s+--hash=", line)
        assert hashes and all(re.fullmatch(r"sha256:[0-9a-f]{64}", found) for found in hashes), pin
        hashed.append(pin)
    assert hashed == [line for line in lines("constraints.txt") if Requirement(line).name != "torch"]
    *conda, pip = yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"]
    assert conda == [f"python{PROJECT['requires-python']}", "pip"]
    assert pip == {"pip": ["-c constraints.txt", "-e .[dev]"]}


def test_the_descriptions_of_the_software_agree() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    meta = json.loads((ROOT / "codemeta.json").read_text())
    assert citation["version"] == meta["version"] == memlib.__version__ == PROJECT["version"]
    assert citation["license"] == PROJECT["license"] == "MIT" == Path(meta["license"]).name
    (paper,) = citation["references"]
    assert paper["identifiers"][0]["value"] == "arXiv:2601.21348"
    assert paper["url"] == meta["referencePublication"] == PROJECT["urls"]["Paper"]
    assert [author["family-names"] for author in paper["authors"]] == ["Vu", "Do", "Le", "Hoang", "Tan"]


def make(*arguments: str) -> str:
    return subprocess.run(["make", "-n", *arguments], cwd=ROOT, capture_output=True, text=True, check=True).stdout


def test_lab_listens_on_this_machine_only_keeps_its_token_and_asks_nothing() -> None:
    command = make("lab")
    assert "--ip=127.0.0.1" in command and f'--LabApp.app_settings_dir="{ROOT}/docs/lab"' in command
    assert not re.search(r"token|password|allow_remote|disable_check_xsrf", command)
    assert '"fetchNews": "false"' in (ROOT / "docs" / "lab" / "overrides.json").read_text()


def test_reproduce_hands_over_names_with_spaces_undivided() -> None:
    settings = "plan=width out=$$PWD/a new"
    code = '\t@printf \'%s|\' "$$OUT" "$$SET"\n'
    makefile = re.sub(r"\t\$\(PY\) -m memlib reproduce .*\n", lambda _: code, (ROOT / "Makefile").read_text())
    arguments = ["make", "-s", "-f", "-", "-o", "LICENSE", "reproduce", "STAMP=LICENSE"]  # which nothing then remakes
    arguments += ["OUT=my results ü", f"SET={settings}"]
    done = subprocess.run(arguments, cwd=ROOT, input=makefile, capture_output=True, text=True, check=True)
    assert done.stdout == "my results ü|plan=width out=$PWD/a new|"
    assert '--out "$OUT"' in (command := make("reproduce", "SET=a=b c=d")) and '--set "$SET"' in command


def test_setup_takes_all_but_torch_by_its_hash() -> None:
    lines = [" ".join(line.split()) for line in make("-B", "setup").splitlines()]
    hashed, torch, _ = [line for line in lines if " install " in line]
    assert hashed.endswith("--require-hashes --only-binary :all: -r hashes.txt"), "nothing is built unseen"
    assert torch.endswith("-c constraints.txt torch") and "torch" in pins()


def test_workflows_call_targets_that_exist_and_try_the_oldest_and_the_newest_versions() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.M))
    jobs = {}
    for path in (ROOT / ".github" / "workflows").glob("*.yml"):
        jobs |= yaml.safe_load(path.read_text())["jobs"]
    runs = [step["run"] for job in jobs.values() for step in job["steps"] if "run" in step]
    script = (ROOT / ".ci" / "run").read_text()
    called = set(re.findall(r"^\s*(?:timeout \d+ )?make (?:--\S+ )*([a-z-]+)", "\n".join([*runs, script]), re.M))
    assert {"setup", "test", "lint", "coverage", "mutants", "test-faults", "book"} == called <= targets
    assert ".ci/run" in runs and os.access(ROOT / ".ci" / "run", os.X_OK)
    assert {x["constraints"] for x in jobs["versions"]["strategy"]["matrix"]["include"]} == {"", "build/oldest.txt"}
    assert "--resolution lowest-direct -o build/oldest.txt" in make("-B", "build/oldest.txt")


def test_no_file_names_a_registry_host() -> None:
    listed = subprocess.run(["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True)
    endings = (".ipynb", ".npz", ".png", ".woff2")
    files = [ROOT / name for name in listed.stdout.splitlines() if not name.endswith(endings)]
    hosts = "|".join([r"pypi\.org", r"files\.pythonhosted", r"registry\.npmjs", r"download\.pytorch", r"anaconda\.org"])
    for path in (path for path in files if path.is_file() and path != Path(__file__)):
        found = re.search(hosts, path.read_text(encoding="utf-8", errors="replace"))
        assert not found, f"{path.relative_to(ROOT)}: {found}"


def test_installed_packages_have_the_licences_that_the_site_tells() -> None:
    named = (ROOT / "docs" / "install.md").read_text(encoding="utf-8")
    permissive = re.compile(r"BSD|MIT|Apache|ISC|PSF|Python Software Foundation|CC0|Unlicense|Public Domain", re.I)
    for package in distributions(path=[x for x in sys.path if "_vendor" not in x]):  # not the copies in setuptools
        data = package.metadata
        if data["Name"].startswith(("nvidia-", "cuda-")):
            continue  # of a CUDA build of torch, under NVIDIA's own licence
        classes = [text for text in data.get_all("Classifier", []) if text.startswith("License ::")]
        licence = data.get("License-Expression") or "; ".join(classes) or data.get("License") or ""
        if re.search(r"GPL|MPL|Mozilla", licence) or not permissive.search(licence):
            assert f"`{data['Name']}`" in named, f"{data['Name']}: {licence or 'no licence stated'}"

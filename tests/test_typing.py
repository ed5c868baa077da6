"""Static types of the public interface: mypy, and pyright in strict mode, find the planted errors and no others."""

import json
import re
import subprocess
import sys
from pathlib import Path

EXAMPLES = Path(__file__).with_name("typing_examples.py")
WRONG = {i for i, line in enumerate(EXAMPLES.read_text(encoding="utf-8").splitlines(), 1) if line.endswith("# wrong")}


def check(*command: str) -> str:
    done = subprocess.run([sys.executable, "-m", *command, str(EXAMPLES)], cwd=EXAMPLES.parents[1], capture_output=True)
    return done.stdout.decode()


def test_mypy_finds_the_planted_errors_and_no_others() -> None:
    said = check("mypy")
    assert {int(line) for line in re.findall(r"typing_examples\.py:(\d+): error", said)} == WRONG, said


def test_pyright_finds_the_planted_errors_and_no_others() -> None:
    said = json.loads(check("basedpyright", "--pythonpath", sys.executable, "--level", "error", "--outputjson"))
    found = {each["range"]["start"]["line"] + 1: each["message"] for each in said["generalDiagnostics"]}
    assert found.keys() == WRONG, found

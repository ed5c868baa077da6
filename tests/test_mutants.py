"""The planted bugs are well-formed, and the tool distinguishes a bug that is caught from one that is not."""

import ast
import json

from mutate import ROOT, main, read_mutants

ALL = read_mutants()


def test_each_is_found_once_compiles_and_names_tests_and_they_are_spread_over_what_counts() -> None:
    for mutant in ALL:
        original = (ROOT / mutant.file).read_text(encoding="utf-8")
        assert ast.dump(ast.parse(mutant.source())) != ast.dump(ast.parse(original)), f"{mutant} changes nothing"
        assert mutant.tests and all((ROOT / test).is_file() for test in mutant.tests), mutant
    assert len({(mutant.file, mutant.name) for mutant in ALL}) == len(ALL) >= 50
    files = {mutant.file for mutant in ALL}
    core = {f"memlib/{name}.py" for name in ("schedules", "timesteps", "models", "training", "samplers")}
    assert core <= files and all(any(f.startswith(f"memlib/{x}/") for f in files) for x in ("metrics", "lab", "viz"))


def test_caught_missed_and_lost_bugs_are_named_and_the_working_tree_is_left_alone(tmp_path, capsys) -> None:
    test, path = tmp_path / "test_made.py", ROOT / "memlib" / "timesteps.py"
    test.write_text("import memlib\n\n\ndef test_it():\n    assert len(memlib.uniform(7).pmf) == 7\n")
    before = path.read_text()
    caught = ["caught", "def uniform(", "def uniform(T):\n    return from_weights([1.0])\n\n\ndef _other("]
    missed = ["missed", "def uniform(", "spare = 1\n\n\ndef uniform("]
    made = [caught, missed, ["lost", "no such text", ""]]
    sections = {"file": "memlib/timesteps.py", "tests": [str(test)], "mutants": made}
    file = tmp_path / "made.toml"
    file.write_text("\n".join(["[[files]]", *(f"{key} = {json.dumps(value)}" for key, value in sections.items())]))
    assert main(["--mutants", str(file)]) == 1
    said = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in said if "memlib/timesteps.py: " in line][:2] == ["killed", "SURVIVED"]
    assert any(line.startswith("TEXT GONE") and "lost" in line for line in said)
    assert "1 of 3 killed" in said[-1] and path.read_text() == before

    test.write_text("def test_it():\n    assert False\n")
    assert main(["--mutants", str(file), "--only", "caught"]) == 1
    assert "without a bug the tests do not pass" in capsys.readouterr().out

"""The planted bugs are well-formed."""

import ast

from mutate import ROOT, read_mutants

ALL = read_mutants()


def test_each_is_found_once_compiles_and_names_tests_and_they_are_spread_over_what_counts() -> None:
    for mutant in ALL:
        original = (ROOT / mutant.file).read_text(encoding="utf-8")
        assert ast.dump(ast.parse(mutant.source())) != ast.dump(ast.parse(original)), f"{mutant} changes nothing"
        assert mutant.tests and all((ROOT / test).is_file() for test in mutant.tests), mutant
    assert len({str(mutant) for mutant in ALL}) == len(ALL) >= 50
    files = {mutant.file for mutant in ALL}
    core = {f"memlib/{name}.py" for name in ("schedules", "timesteps", "models", "training", "samplers")}
    assert core <= files and all(any(f.startswith(f"memlib/{x}/") for f in files) for x in ("metrics", "lab", "viz"))

"""The benchmarks' own tools, and the command with its device."""

import pytest

from tests.benchmarks import __main__ as command
from tests.benchmarks import fleets, measure, parts, steps


def test_rounds_take_turns_and_a_ratio_is_that_of_each_round() -> None:
    order: list[str] = []
    taken, rate = measure.rounds({side: lambda side=side: order.append(side) for side in "ab"}, 3)
    assert "".join(order) == "ab" + "ab" + "ba" + "ab"
    assert {side: len(times) for side, times in taken.items()} == {"a": 3, "b": 3} and rate > 0
    assert measure.ratio([2.0, 30.0, 8.0], [1.0, 10.0, 2.0]) == 3


def test_the_sides_have_equally_many_parameters_and_their_own_samplers() -> None:
    shape = (8, *steps.SIGNALS[1:])
    sides = steps.everybody(shape, "cpu")
    sizes = [sum(p.numel() for p in side.network.parameters()) for side in sides]
    assert len(sides) == 3 and max(sizes) < 1.05 * min(sizes)
    for side in sides:
        side.network.forward = lambda x, t: x / 2  # quick
        assert (drawn := side.draw("cpu")).shape == shape and drawn.abs().max() <= 1, side.name


@pytest.mark.parametrize("name", ["neighbours", "denoiser", "evaluation"])
def test_a_benchmark_runs_on_the_cpu_by_name_and_few_rounds_are_not_written(name, capsys, monkeypatch) -> None:
    monkeypatch.setattr(parts, "PICTURES", 64)
    monkeypatch.setattr(parts, "EVALUATED", 16)
    before = command.RESULTS.read_bytes()
    assert command.main(["--repeats", "1", "--device", "cpu", name]) == 0
    said = capsys.readouterr().out
    assert "| --- |" in said and "on cpu" in said
    assert command.RESULTS.read_bytes() == before


def test_fleets_stand_beside_loops_and_an_ensemble_and_each_row_is_written_as_it_comes(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(fleets, "KINDS", ("points", "images"))
    monkeypatch.setattr(fleets, "SIZES", {"cpu": (2,)})
    page, pages = tmp_path / "page.md", []
    row = fleets.row
    monkeypatch.setattr(fleets, "row", lambda cells: (pages.append(page.read_text(encoding="utf-8")), row(cells))[1])
    assert command.main(["fleets", "--repeats", "1", "--out", str(page)]) == 0
    rows = [line.split(" | ") for line in page.read_text(encoding="utf-8").splitlines() if " | 2 | " in line]
    assert {row[0] for row in rows} == {"| points", "| images"} and "| points | 2 |" in pages[-1]
    assert all(float(row[i]) > 0 for row in rows for i in (3, 4, 6)) and {row[5] for row in rows} > {"-"}


def test_a_section_is_written_in_its_place_and_the_table_of_speed_follows(tmp_path, monkeypatch) -> None:
    results, page = tmp_path / "RESULTS.md", tmp_path / "support.md"
    results.write_text("# Results\n\n## old\n\nfast\n\n## neighbours\n\nslow\n\n## sliders\n\nsmooth\n")
    page.write_text("Speed\n<!-- speed -->\n<!-- end of speed -->\nmore\n")
    for name, path in {"RESULTS": results, "PAGE": page}.items():
        monkeypatch.setattr(command, name, path)
    lines = measure.table(["", "s", "time, of torch's"], [("memlib", "1.0", "7.77")])
    monkeypatch.setitem(command.BENCHMARKS, "neighbours", lambda repeats, device: iter(lines))
    assert command.main(["neighbours"]) == 0
    text = results.read_text()
    assert text.index("fast") < text.index("7.77") < text.index("smooth") and "slow" not in text
    assert "| `torch.cdist` and `topk` | 7.77 of its time |" in page.read_text()


def test_the_sites_table_of_speed_is_that_of_the_recorded_results() -> None:
    shown = command.PAGE.read_text(encoding="utf-8").partition(command.MARKS[0])[2].partition(command.MARKS[1])[0]
    assert shown.strip() == command.headlines(command.RESULTS.read_text(encoding="utf-8"))

"""The benchmarks' own tools, the command with its device, and what is promised of `import memlib`."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.benchmarks import __main__ as command
from tests.benchmarks import measure, neighbours, sampling
from tests.benchmarks.headlines import HEADLINES, MARKS, README, headlines
from tests.benchmarks.steps import SIGNALS, everybody, random_data

ROOT = Path(__file__).resolve().parents[1]
HEAVY = ("IPython", "diffusers", "distributed", "ipywidgets", "matplotlib", "pandas", "scipy", "seaborn", "sklearn")


def loaded_by(code: str) -> list[str]:
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    return done.stdout.split()


def test_importing_memlib_adds_a_fifth_of_a_second_to_torch() -> None:
    """Of the processor's time, which a busy machine does not stretch as it does the clock's; the best of three."""
    code = "import torch, time; start = time.process_time(); import memlib; print(time.process_time() - start)"
    assert min(float(loaded_by(code)[0]) for _ in range(3)) < 0.2


def test_heavy_packages_are_imported_only_where_they_are_used() -> None:
    modules = loaded_by("import memlib, memlib.metrics, sys; print(*sys.modules)")
    assert not set(HEAVY) & set(modules)


def test_rounds_take_turns_and_a_ratio_is_that_of_each_round() -> None:
    order: list[str] = []
    taken, rate = measure.rounds({side: lambda side=side: order.append(side) for side in "ab"}, 3)
    assert "".join(order) == "ab" + "ab" + "ba" + "ab"
    assert {side: len(times) for side, times in taken.items()} == {"a": 3, "b": 3} and rate > 0
    assert measure.ratio([2.0, 30.0, 8.0], [1.0, 10.0, 2.0]) == 3


def test_an_exponent_is_the_slope_in_logarithms() -> None:
    assert measure.exponent([10, 100, 1000], [3e-2, 3.0, 3e2]) == pytest.approx(2)
    assert measure.exponent([2, 4, 8], [5.0, 5.0, 5.0]) == pytest.approx(0)


def test_extra_memory_is_that_of_what_a_call_holds_at_once() -> None:
    code = "import torch; from tests.benchmarks.measure import extra_memory as e; print(e(lambda: torch.ones(2**25)))"
    assert float(loaded_by(code)[0]) == pytest.approx(128, abs=8)  # MB


def test_every_way_to_find_neighbours_finds_the_same() -> None:
    samples, train = neighbours._points(50, "cpu")
    expected = torch.cdist(samples.double(), train.double()).topk(neighbours.K, largest=False)
    for name, find in neighbours.SIDES.items():
        try:
            distances, indices = find(samples, train)
        except ImportError:  # a peer that need not be here
            continue
        assert torch.equal(indices.long(), expected.indices), name
        assert torch.allclose(distances.double(), expected.values, rtol=1e-4), name


def test_each_side_samples_with_its_own_sampler() -> None:
    shape = (8, *SIGNALS[1:])
    samplers = set()
    for side in everybody(shape, random_data(shape, "cpu"))[0]:
        side.network.forward = lambda x, t: x / 2  # quick
        samplers.add(draw := sampling._sampler(side))
        drawn = draw(side, "cpu")
        assert drawn.shape == shape and drawn.abs().max() <= 1, side.name
    assert len(samplers) >= 2  # diffusers is always here


@pytest.mark.parametrize("device", ["cpu", "cpu:0"])
def test_the_command_measures_on_the_device_it_is_given(device, capsys, monkeypatch) -> None:
    """With too few rounds to be written down."""
    before = command.RESULTS.read_bytes()
    seen = []
    monkeypatch.setitem(command.BENCHMARKS, "drawing", lambda repeats, device: iter([seen.append(device) or "!"]))
    assert command.main(["--repeats", "1", "--device", device, "drawing"]) == 0
    assert seen == [device] and f"on {device}" in capsys.readouterr().out
    assert command.RESULTS.read_bytes() == before


@pytest.mark.parametrize("name", ["neighbours", "denoiser"])
def test_a_benchmark_runs_on_the_cpu_by_name(name, capsys, monkeypatch) -> None:
    monkeypatch.setattr(sampling, "EXAMPLES", 64)
    monkeypatch.setattr(neighbours, "SIZE", 32)
    assert command.main(["--repeats", "1", "--device", "cpu", name]) == 0
    assert "| --- |" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--device", "abacus"], "abacus"),
        (["--device", "cuda"] if not torch.cuda.is_available() else ["--device", "cuda:99"], "cuda"),
        (["juggling"], "unknown juggling"),
        (["--repeats", "0"], "--repeats >= 1"),
    ],
)
def test_the_command_refuses_by_name(arguments, words, capsys) -> None:
    with pytest.raises(SystemExit):
        command.main(arguments)
    assert words in capsys.readouterr().err


def test_a_section_is_written_in_its_place_and_the_others_stay() -> None:
    page = command._with(
        "# old\n\n## training\n\nfast\n\n## sliders\n\nsmooth\n", "neighbours", "## neighbours\n\nnear"
    )
    order = [page.index(word) for word in ("fast", "near", "smooth")]
    assert order == sorted(order)


def test_the_readmes_table_of_speed_is_that_of_the_recorded_results() -> None:
    shown = README.read_text(encoding="utf-8").partition(MARKS[0])[2].partition(MARKS[1])[0]
    assert shown.strip() == headlines(command.RESULTS.read_text(encoding="utf-8")), (
        "python -m tests.benchmarks writes it"
    )


def test_a_headline_is_read_from_the_row_and_column_it_names() -> None:
    what, beside, words, section, first, column = HEADLINES[-1]
    page = command.RESULTS.read_text(encoding="utf-8")
    row = f"| {what} | {beside} | {words.format('7.77')} |"
    start = page.index(f"\n## {section}\n")
    line = next(line for line in page[start:].splitlines() if line.startswith(f"| {' | '.join(first)} |"))
    assert row in headlines(page.replace(line, " | ".join([*line.split(" | ")[:-1], "7.77 |"])))
    with pytest.raises(ValueError, match=f"no {column!r} of {first[0]!r} in the section {section!r}"):
        headlines(page[:start])

"""Every test, and every kernel a test starts, keeps its runs in a fresh folder: nobody's cache is read or filled."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import nbval.kernel
import pytest
import torch
from browsing import browser, compute, visit  # noqa: F401 (fixtures)

RUNS = pytest.StashKey[str]()
os.environ["MPLBACKEND"] = "module://matplotlib_inline.backend_inline"
os.environ["JUPYTER_PREFER_ENV_PATH"] = "1"
os.environ.setdefault("OMP_NUM_THREADS", "1")  # for kernels; here torch is loaded by now
torch.set_num_threads(1)

Manager = nbval.kernel.KernelManager


def manager_on_own_sockets(**arguments) -> Manager:
    """Sockets that are files of its own: two processes that start kernels side by side do take each other's ports."""
    return Manager(transport="ipc", ip=f"{tempfile.mkdtemp(dir=os.environ['MEMLIB_RUNS'])}/kernel", **arguments)


nbval.kernel.KernelManager = manager_on_own_sockets


def pytest_configure(config: pytest.Config) -> None:
    if not hasattr(config, "workerinput"):  # pytest-xdist's workers inherit the folder from here
        config.stash[RUNS] = os.environ["MEMLIB_RUNS"] = tempfile.mkdtemp(prefix="memlib-runs-")


def pytest_unconfigure(config: pytest.Config) -> None:
    if RUNS in config.stash:
        shutil.rmtree(config.stash[RUNS], ignore_errors=True)


@pytest.fixture
def own_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MEMLIB_RUNS", str(tmp_path))
    return tmp_path


@pytest.fixture(autouse=True)
def same_first_weights() -> None:
    """Networks of tests begin alike, whatever ran before."""
    torch.manual_seed(0)


@pytest.fixture
def fresh_style() -> Iterator[None]:
    """For tests of plots: the house's style, and what they drew closed behind them."""
    import matplotlib  # here, as most test files draw nothing
    import matplotlib.pyplot as plt

    from memlib import viz as plots

    plt.close("all")  # of other tests
    with matplotlib.rc_context():
        plots.use_style()
        yield
    plt.close("all")

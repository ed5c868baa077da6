"""What a result was made with, so that it can be made again."""

import json
import os
import platform
import subprocess
from functools import cache
from importlib.metadata import distribution, version
from pathlib import Path

import torch

from memlib import __version__
from memlib.lab.files import CLONE, ROOT


@cache
def provenance() -> dict[str, str]:
    """The commit (with a + for uncommitted changes), the versions and the hardware."""
    packages = f"memlib {__version__}, torch {torch.__version__}, numpy {version('numpy')}"
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else _processor()
    return {
        "commit": _commit(),
        "versions": f"Python {platform.python_version()}, {packages}",
        "hardware": f"{device}, {os.cpu_count()} cores, {platform.system()}",
    }


def uncommitted(path: Path) -> bool:
    """Whether a file of the clone differs from what is committed; what lies elsewhere does not."""
    if not CLONE or ROOT not in path.resolve().parents or not (ROOT / ".git").exists():
        return False
    command = ["git", "-C", str(ROOT), "status", "--porcelain", "--", str(path.resolve())]
    return bool(subprocess.run(command, capture_output=True, check=True).stdout)


def _commit() -> str:
    """The commit of the clone, or the one that pip installed from (PEP 610); "unknown" where neither is told."""
    command = ["git", "-C", str(ROOT), "describe", "--always", "--exclude=*", "--abbrev=12", "--dirty=+"]
    project = ROOT / "pyproject.toml"  # else the repository may be one into which memlib was copied or installed
    if (ROOT / ".git").exists() and project.is_file() and 'name = "memlib"' in project.read_text(encoding="utf-8"):
        try:
            return subprocess.check_output(command, stderr=subprocess.DEVNULL, text=True).strip()
        except (FileNotFoundError, subprocess.CalledProcessError):
            return "unknown"
    origin = json.loads(distribution("memlib").read_text("direct_url.json") or "{}")
    return origin.get("vcs_info", {}).get("commit_id", "unknown")[:12]


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []  # only Linux has it
    named = (line.split(": ", 1)[1] for line in lines if line.startswith("model name"))
    return next(named, platform.processor() or platform.machine())

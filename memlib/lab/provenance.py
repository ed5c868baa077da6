"""What a result was made with, so that it can be made again."""

from __future__ import annotations

import os
import platform
import subprocess
from functools import cache
from importlib.metadata import version
from pathlib import Path

import torch

ROOT = Path(__file__).resolve().parents[2]


@cache
def provenance() -> dict[str, str]:
    """What a result was made with: the commit (with a + for uncommitted changes), versions, hardware."""
    # torch's own version names the build ("+cpu", "+cu124"), which its package's may not
    packages = f"memlib {version('memlib')}, torch {torch.__version__}, numpy {version('numpy')}"
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else _processor()
    return {
        "commit": (_git("rev-parse", "--short=12", "HEAD") or "unknown")
        + ("+" if _git("status", "--porcelain") else ""),
        "versions": f"Python {platform.python_version()}, {packages}",
        "hardware": f"{device}, {os.cpu_count()} cores, {platform.system()}",
    }


def _git(*arguments: str) -> str:
    try:
        done = subprocess.run(["git", "-C", str(ROOT), *arguments], capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return ""
    return done.stdout.strip()


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.split(": ", 1)[1] for line in lines if line.startswith("model name")), platform.machine())

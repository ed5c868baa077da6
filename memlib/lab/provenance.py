"""What a result was made with, so that it can be made again."""

from __future__ import annotations

import json
import os
import platform
import subprocess
from functools import cache
from importlib.metadata import distribution, version
from pathlib import Path

import torch

from memlib.lab.files import CLONE, ROOT


@cache
def provenance() -> dict[str, str]:
    """The commit (with a + for uncommitted changes), the versions and the hardware."""
    packages = f"memlib {version('memlib')}, torch {torch.__version__}, numpy {version('numpy')}"
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else _processor()
    return {
        "commit": _commit(),
        "versions": f"Python {platform.python_version()}, {packages}",
        "hardware": f"{device}, {os.cpu_count()} cores, {platform.system()}",
    }


def _commit() -> str:
    """The clone's commit; without a clone, the one that pip installed (PEP 610); else "unknown"."""
    if not CLONE:
        installed = json.loads(distribution("memlib").read_text("direct_url.json") or "{}")
        return installed.get("vcs_info", {}).get("commit_id", "unknown")[:12]
    top, head = _git("rev-parse", "--show-toplevel"), _git("rev-parse", "--short=12", "HEAD")
    own = head and Path(top).resolve() == ROOT  # not that of another project around an unpacked archive
    return head + ("+" if _git("status", "--porcelain") else "") if own else "unknown"


def _git(*arguments: str) -> str:
    try:
        return subprocess.run(["git", "-C", str(ROOT), *arguments], capture_output=True, text=True).stdout.strip()
    except FileNotFoundError:
        return ""


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    named = (line.split(": ", 1)[1] for line in lines if line.startswith("model name"))
    return next(named, platform.processor() or platform.machine())

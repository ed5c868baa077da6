"""The playground: two small networks that train in the reader's browser. One script serves notebook, site and file."""

from __future__ import annotations

import json
import re
from functools import lru_cache
from pathlib import Path

import anywidget
import traitlets

FILES = Path(__file__).resolve().parents[1] / "page"
SETTINGS = json.loads((FILES / "settings.json").read_text(encoding="utf-8"))


def script(*names: str) -> str:
    """The modules of these names as one text, after the settings: a scope of its own, without import and export."""
    texts = [(FILES / f"{name}.js").read_text(encoding="utf-8") for name in names]
    joined = "\n".join([f"const SETTINGS = {json.dumps(SETTINGS)};", *texts])
    return re.sub(r"^import .*\n|^export (?=async|class|const|function)", "", joined, flags=re.M)

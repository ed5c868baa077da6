"""Rewrite the lines that memlib 0.2 recorded for the records of memlib 0.3: `python data/migrate_records.py FOLDER`.

A configuration becomes an Experiment's description, the key its `record_key`, and "old_key" keeps the earlier one. No
measure changes. Checksums are dropped, archives of samples are renamed. Migrated lines stay as they are.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from memlib.lab.experiment import VERSION, Experiment
from memlib.lab.files import write_atomically
from memlib.lab.plans import networks, record_key


def configuration(old: dict[str, Any]) -> dict[str, Any]:
    if "above" in old:
        return {"above": configuration(old["above"]), "below": configuration(old["below"]), "at": old["at"]}
    plain, looks = {name: value for name, value in old.items() if name != "weighted"}, recipe(old["timesteps"])
    looks = {"timesteps": {"name": "uniform"}, "loss_weight": looks} if old["weighted"] else {"timesteps": looks}
    return Experiment.from_dict(plain | looks).to_dict()


def recipe(old: Any) -> dict[str, Any]:
    if old == "uniform":
        return {"name": "uniform"}
    if "at" in old:
        return {"name": "interpolated", "at": old["at"], "weights": old["weights"]}
    name = "gaussian_interval" if "interval" in old else "log_snr_interval"
    low, high = old.get("interval") or old["log_snr"]
    return {"name": name, "low": low, "high": high} | {k: v for k, v in old.items() if k == "tails"}


def migrate(old: dict[str, Any]) -> dict[str, Any]:
    config, content = configuration(old["config"]), old["data_sha256"]
    made = ("seconds", "fleet", "device", "precision", "commit", "versions", "hardware")
    return {
        "key": record_key(config, content),
        "step": networks(config)[0]["training"]["steps"],
        "config": config,
        "content": content,
        "version": VERSION,
        "measures": old["metrics"],
        "references": old["floors"],
        "loss": old["loss"],
        **{name: old.get(name) for name in made},
        "old_key": old["key"],
    }


if __name__ == "__main__":
    for path in sorted(Path(sys.argv[1]).glob("*.jsonl")):
        lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        new = [line if "step" in line else migrate(line) for line in lines]
        write_atomically(path, "".join(json.dumps(line, allow_nan=False) + "\n" for line in new))
        for line in (line for line in new if "old_key" in line):
            samples = path.parent / "samples" / f"{line['old_key']}.npz"
            if samples.exists():
                samples.rename(samples.with_name(f"{line['key']}.npz"))

"""Build data/emoji.npz and data/emoji.json, once, from the npm package that carries the Twemoji pictures:

    npm pack emoji-datasource-twitter@16.0.0
    .venv/bin/python data/build_emoji.py emoji-datasource-twitter-16.0.0.tgz

Base emoji (no skin tones) of the thing-like categories, put on white, reduced from 64 to 32 pixels; of near-duplicates
and mirror images the first stays, so that copying one training picture cannot be mistaken for another.
"""

import base64
import hashlib
import io
import json
import sys
import tarfile
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from memlib.metrics import find_duplicates

CATEGORIES = ("Animals & Nature", "Food & Drink", "Activities", "Travel & Places", "Objects")
TOO_NEAR = 0.12  # root mean square difference per value, white = 1: below it two differ in a detail or a colour


def on_white(png: bytes) -> np.ndarray:
    """(32, 32, 3) uint8."""
    picture = Image.open(io.BytesIO(png)).convert("RGBA")
    white = Image.new("RGBA", picture.size, "white")
    return np.asarray(Image.alpha_composite(white, picture).convert("RGB").resize((32, 32), Image.Resampling.LANCZOS))


def main(package: Path) -> None:
    with tarfile.open(package) as tar:
        read = lambda name: tar.extractfile(f"package/{name}").read()  # noqa: E731
        entries = [e for e in json.loads(read("emoji.json")) if e["category"] in CATEGORIES and e["has_img_twitter"]]
        entries.sort(key=lambda e: e["sort_order"])
        images = np.stack([on_white(read(f"img/twitter/64/{e['image']}")) for e in entries])
        version = json.loads(read("package.json"))["version"]

    items = torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255
    dropped = set()
    for pair in sorted(find_duplicates(items, TOO_NEAR), key=lambda pair: pair[:2]):
        if pair[0] not in dropped:
            dropped.add(pair[1])
    kept = [i for i in range(len(images)) if i not in dropped]

    here = Path(__file__).parent
    np.savez_compressed(here / "emoji.npz", images=images[kept])
    record = {
        "package": f"emoji-datasource-twitter@{version}",
        "integrity": "sha512-" + base64.b64encode(hashlib.sha512(package.read_bytes()).digest()).decode(),
        "licence": "CC-BY 4.0, Twemoji graphics, Copyright Twitter, Inc and other contributors",
        "before": len(images),
        "kept": len(kept),
        "sha256": hashlib.sha256((here / "emoji.npz").read_bytes()).hexdigest(),
        "names": [entries[i]["short_name"] for i in kept],
    }
    (here / "emoji.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    print(f"{len(images)} pictures, {len(kept)} kept")


if __name__ == "__main__":
    main(Path(sys.argv[1]))

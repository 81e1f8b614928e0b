"""The messages: their numbers on the wire, and their coexistence with others of the same names."""

from __future__ import annotations

import subprocess
import sys

import pytest
from google.protobuf.descriptor_pool import Default
from http_processes import ELSEWHERE

from paddleinfer.shim.grpc.messages import METHODS, POOL, SERVICE, STREAM, message_class


def test_a_request_has_the_bytes_that_every_client_writes() -> None:
    fields = {
        "model_name": "0a 01 6d",
        "model_version": "12 01 31",
        "id": "1a 01 37",
        "parameters": "22 0e 0a 07 74 69 6d 65 6f 75 74 12 03 10 e8 07",
        "inputs": "2a 0f 0a 01 78 12 04 46 50 33 32 1a 02 01 03 2a 00",
        "outputs": "32 03 0a 01 79",
        "raw_input_contents": "3a 04 00 00 00 00",
    }
    written = bytes.fromhex(" ".join(fields.values()))
    request = message_class("ModelInferRequest").FromString(written)
    assert (request.model_name, request.model_version, request.id) == ("m", "1", "7")
    assert request.parameters["timeout"].int64_param == 1000
    (tensor,) = request.inputs
    assert (tensor.name, tensor.datatype, list(tensor.shape)) == ("x", "FP32", [1, 3])
    assert tensor.HasField("contents")
    assert [output.name for output in request.outputs] == ["y"]
    assert request.raw_input_contents == [bytes(4)]
    assert request.SerializeToString() == written


@pytest.mark.parametrize(
    ("message", "numbers"),
    [
        ("InferParameter", {"bool_param": 1, "int64_param": 2, "string_param": 3, "uint64_param": 5}),
        ("InferTensorContents", {"int_contents": 2, "fp32_contents": 6, "bytes_contents": 8}),
        ("ModelInferResponse", {"id": 3, "parameters": 4, "outputs": 5, "raw_output_contents": 6}),
        ("ModelStreamInferResponse", {"error_message": 1, "infer_response": 2}),
        ("ModelConfig", {"max_batch_size": 4, "instance_group": 7, "dynamic_batching": 11, "backend": 17}),
        ("ModelInstanceGroup", {"name": 1, "count": 2, "kind": 4}),
        ("ModelStatistics", {"execution_count": 5, "inference_stats": 6, "batch_stats": 7}),
        ("RepositoryIndexResponse.ModelIndex", {"name": 1, "version": 2, "state": 3, "reason": 4}),
    ],
)
def test_fields_are_numbered_as_tritons(message: str, numbers: dict[str, int]) -> None:
    fields = message_class(message).DESCRIPTOR.fields_by_name
    assert {name: fields[name].number for name in numbers} == numbers


def test_datatypes_of_a_configuration_are_numbered_as_tritons() -> None:
    values = POOL.FindEnumTypeByName("inference.DataType").values_by_name
    numbers = {"TYPE_BOOL": 1, "TYPE_INT8": 6, "TYPE_INT64": 9, "TYPE_FP32": 11, "TYPE_BF16": 14}
    assert {name: values[name].number for name in numbers} == numbers


def test_the_service_has_every_method() -> None:
    methods = POOL.FindServiceByName(SERVICE).methods_by_name
    assert set(methods) == {*METHODS, STREAM}
    assert methods[STREAM].client_streaming and methods[STREAM].server_streaming


def test_nothing_of_ours_is_in_the_default_pool() -> None:
    with pytest.raises(KeyError):
        Default().FindMessageTypeByName("inference.ModelInferRequest")


OURS = """
from paddleinfer.shim.grpc.messages import message_class
ours = message_class("ModelInferRequest")
"""
ANOTHERS = """
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
file = descriptor_pb2.FileDescriptorProto(name="grpc_service.proto", package="inference", syntax="proto3")
message = file.message_type.add(name="ModelInferRequest")
message.field.add(name="something_else", number=1, type=5, label=1)
file.service.add(name="GRPCInferenceService")
pool = descriptor_pool.Default()
pool.AddSerializedFile(file.SerializeToString())
theirs = message_factory.GetMessageClass(pool.FindMessageTypeByName("inference.ModelInferRequest"))
"""
BOTH_WORK = """
assert ours(model_name="m").SerializeToString() == b"\\x0a\\x01m"
assert theirs(something_else=7).SerializeToString() == b"\\x08\\x07"
"""


@pytest.mark.parametrize("code", [OURS + ANOTHERS, ANOTHERS + OURS], ids=["ours-first", "theirs-first"])
def test_anothers_messages_of_the_same_names_live_in_the_same_process(code: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", code + BOTH_WORK], capture_output=True, text=True, check=False, cwd=ELSEWHERE
    )
    assert done.returncode == 0, done.stderr

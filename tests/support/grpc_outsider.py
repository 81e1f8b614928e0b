"""A gRPC client that knows of a server only what its reflection tells, as grpcurl does."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import grpc
from engine_helpers import PATIENCE_S, rows
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass
from grpc_reflection.v1alpha.reflection_pb2 import ServerReflectionRequest, ServerReflectionResponse
from grpc_reflection.v1alpha.reflection_pb2_grpc import ServerReflectionStub

SERVICE = "inference.GRPCInferenceService"
INFER = f"/{SERVICE}/ModelInfer"


class Outsider:
    """Asks a server for its services and messages, and calls them."""

    def __init__(self, address: str) -> None:
        sizes = [("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1)]
        self.address = address
        self.channel = grpc.insecure_channel(address, sizes)
        self._reflection = ServerReflectionStub(self.channel)
        self._pool = DescriptorPool()
        self._known: set[str] = set()
        self._described: set[str] = set()

    def __enter__(self) -> Outsider:
        return self

    def __exit__(self, *_: object) -> None:
        self.channel.close()

    @property
    def services(self) -> list[str]:
        answer = self.reflect(ServerReflectionRequest(list_services=""))
        return sorted(service.name for service in answer.list_services_response.service)

    def reflect(self, question: ServerReflectionRequest) -> ServerReflectionResponse:
        (answer,) = self._reflection.ServerReflectionInfo(iter([question]), timeout=PATIENCE_S)
        return answer

    def service(self, name: str = SERVICE) -> Any:
        """Its description, asked for once."""
        if name not in self._described:
            self._learn(ServerReflectionRequest(file_containing_symbol=name))
            self._described.add(name)
        return self._pool.FindServiceByName(name)

    def message(self, name: str) -> Any:
        """The class of a message of the inference service's package."""
        self.service()
        return GetMessageClass(self._pool.FindMessageTypeByName(f"inference.{name}"))

    def _learn(self, question: ServerReflectionRequest) -> None:
        for text in self.reflect(question).file_descriptor_response.file_descriptor_proto:
            file = FileDescriptorProto.FromString(text)
            if file.name in self._known:
                continue
            self._known.add(file.name)
            for needed in file.dependency:
                self._learn(ServerReflectionRequest(file_by_filename=needed))
            self._pool.Add(file)

    def call(self, method: str, **fields: Any) -> Any:
        """One call of one message with these fields."""
        described = self.service().methods_by_name[method]
        request = GetMessageClass(described.input_type)(**fields)
        call = self.channel.unary_unary(
            f"/{SERVICE}/{method}",
            request_serializer=type(request).SerializeToString,
            response_deserializer=GetMessageClass(described.output_type).FromString,
        )
        return call(request, timeout=PATIENCE_S)

    def send(self, message: bytes, path: str = INFER) -> bytes:
        """Sends bytes as they are, in a call of one message; its answer's bytes."""
        answer: bytes = self.channel.unary_unary(path)(message, timeout=PATIENCE_S)
        return answer

    def row_request(self, *, raw: bytes | None = rows().tobytes(), **tensor: Any) -> bytes:
        """A request for one row of the model `m`, or one whose tensor has other fields or other bytes."""
        fields = {"name": "x", "datatype": "FP32", "shape": [1, 3], **tensor}
        message = self.message("ModelInferRequest")(
            model_name="m", inputs=[fields], raw_input_contents=[] if raw is None else [raw]
        )
        text: bytes = message.SerializeToString()
        return text

    def is_answered(self) -> bool:
        """Whether a good request is, by a model that doubles."""
        response = self.message("ModelInferResponse").FromString(self.send(self.row_request()))
        (raw,) = response.raw_output_contents
        return raw == (2 * rows()).tobytes()

    def stream(self, messages: Iterable[bytes]) -> Iterator[bytes]:
        """Sends them over one call, and gives what comes."""
        return self.channel.stream_stream(f"/{SERVICE}/ModelStreamInfer")(iter(messages), timeout=PATIENCE_S)

"""Paddle Serving's public examples of pipelines, changed in nothing but the import line, and their models."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

import paddleinfer
from paddleinfer.backends.paddle.installed import import_paddle
from paddleinfer.serving import Op, PipelineServer, RequestOp, ResponseOp, WebService
from paddleinfer.serving.formats.pipeline import PipelineRequest, PipelineResponse
from paddleinfer.serving.pipeline import ChannelDataErrcode, pipeline_service_pb2

WORDS = ("i", "am", "very", "sad", "happy", "not", "today")


class UciOp(Op):
    """The simple web service: rows with semicolons between, numbers with commas."""

    def init_op(self) -> None:
        self.separator = ","
        self.batch_separator = ";"

    def preprocess(self, input_dicts: Any, data_id: int, log_id: int) -> Any:
        ((_, input_dict),) = input_dicts.items()
        rows = [
            np.array([float(x.strip()) for x in row.split(self.separator)]).reshape(1, 13)
            for row in input_dict["x"].split(self.batch_separator)
        ]
        input_dict["x"] = np.concatenate(rows, axis=0)
        return input_dict, False, None, ""

    def postprocess(self, input_dicts: Any, fetch_dict: Any, data_id: int, log_id: int) -> Any:
        fetch_dict["price"] = str(fetch_dict["price"])
        return fetch_dict, None, ""


class UciService(WebService):
    def get_pipeline_response(self, read_op: RequestOp) -> Op:
        return UciOp(name="uci", input_ops=[read_op])


def uci_conf(model: Path, **op: Any) -> dict[str, Any]:
    """The example's ``config.yml``, on free ports."""
    local = {
        "model_config": str(model),
        "device_type": 0,
        "devices": "",
        "client_type": "local_predictor",
        "fetch_list": ["price"],
        "precision": "fp32",
    }
    return {
        "worker_num": 1,
        "http_port": 0,
        "dag": {"is_thread_op": False, "tracer": {"interval_s": 10}},
        "op": {"uci": {"concurrency": 1, "local_service_conf": local, **op}},
    }


# The ensemble of two models of sentiment


class ImdbRequestOp(RequestOp):
    def init_op(self) -> None:
        self.ids = {word: number for number, word in enumerate(WORDS, 1)}

    def unpack_request_package(self, request: PipelineRequest) -> Any:
        dictdata: dict[str, Any] = {}
        for idx, key in enumerate(request.key):
            if key != "words":
                continue
            ids = [self.ids.get(word, 0) for word in request.value[idx].split()]
            dictdata["words"] = np.array([ids + [0] * (8 - len(ids))], "int64")
            dictdata["length"] = np.array([[len(ids)]], "int64")
        log_id = None
        if request.logid is not None:
            log_id = request.logid
        return dictdata, log_id, None, ""


class BowOp(Op):
    def init_op(self) -> None:
        pass


class CnnOp(Op):
    def init_op(self) -> None:
        pass


class CombineOp(Op):
    def preprocess(self, input_data: Any, data_id: int, log_id: int) -> Any:
        combined_prediction = 0
        for data in input_data.values():
            combined_prediction += data["prediction"]
        return {"prediction": combined_prediction / 2}, False, None, ""


class ImdbResponseOp(ResponseOp):
    def pack_response_package(self, channeldata: Any) -> Any:
        resp = pipeline_service_pb2.Response()
        resp.err_no = channeldata.error_code
        if resp.err_no == ChannelDataErrcode.OK.value:
            for name, var in channeldata.parse().items():
                resp.value.append(repr(var))
                resp.key.append(name)
        else:
            resp.err_msg = channeldata.error_info
        return resp


def imdb_server(bow: Path, cnn: Path) -> PipelineServer:
    """As the example makes it, with its models in this process."""
    read_op = ImdbRequestOp()
    bow_op = BowOp("bow", input_ops=[read_op])
    cnn_op = CnnOp("cnn", input_ops=[read_op])
    combine_op = CombineOp("combine", input_ops=[bow_op, cnn_op])
    server = PipelineServer()
    server.set_response_op(ImdbResponseOp(input_ops=[combine_op]))
    local = {"client_type": "local_predictor", "fetch_list": ["prediction"]}
    each = {
        **{"concurrency": 1, "timeout": 60_000, "retry": 1},
        **{"batch_size": 1, "auto_batching_timeout": 2000},
    }
    server.prepare_server(
        yml_dict={
            "http_port": 0,
            "worker_num": 4,
            "build_dag_each_worker": False,
            "dag": {"is_thread_op": True, "retry": 1, "use_profile": False, "channel_size": 0},
            "op": {
                "bow": {**each, "local_service_conf": {**local, "model_config": str(bow)}},
                "cnn": {**each, "local_service_conf": {**local, "model_config": str(cnn)}},
                "combine": each,
            },
        }
    )
    return server


def make_sentiment(directory: Path, seed: int) -> Path:
    """Ids of at most eight words, and how many -> two probabilities."""
    paddle = import_paddle()
    paddle.seed(seed)

    class Sentiment(paddle.nn.Layer):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.words = paddle.nn.Embedding(len(WORDS) + 1, 4)
            self.out = paddle.nn.Linear(4, 2)

        def forward(self, words: Any, length: Any) -> Any:
            mean = self.words(words).sum(axis=1) / length.astype("float32")
            return paddle.nn.functional.softmax(self.out(mean))

    with paddle.utils.unique_name.guard():
        paddleinfer.export(
            Sentiment(),
            directory,
            inputs={"words": ("int64", (-1, 8)), "length": ("int64", (-1, 1))},
            format="json" if paddle.__version__.startswith("3") else "legacy",
        )
    (fetched,) = (tensor.name for tensor in paddleinfer.models.reader.load_spec(directory).outputs)
    feeds = "".join(
        f'feed_var {{\n  name: "{name}"\n  alias_name: "{name}"\n  feed_type: 0\n  shape: {width}\n}}\n'
        for name, width in (("words", 8), ("length", 1))
    )
    fetch = f'fetch_var {{\n  name: "{fetched}"\n  alias_name: "prediction"\n  shape: 2\n}}\n'
    (directory / "serving_server_conf.prototxt").write_text(feeds + fetch)
    return directory


# Small graphs over engines of functions


def number(fetch_dict: Any, name: str = "y") -> float:
    return float(fetch_dict[name][0, 0])


class RowOp(Op):
    """A number in "x" -> three times it -> its double."""

    def preprocess(self, input_dicts: Any, data_id: int, log_id: int) -> Any:
        ((_, given),) = input_dicts.items()
        return {"x": np.full((1, 3), float(given["x"]), "float32")}, False, None, ""

    def postprocess(self, input_dicts: Any, fetch_dict: Any, data_id: int, log_id: int) -> Any:
        return {"y": str(number(fetch_dict))}, None, ""


@contextmanager
def pipeline_of(
    last: Op,
    engines: Mapping[str, paddleinfer.Engine] | None = None,
    *,
    dag: Mapping[str, Any] | None = None,
    response_op: ResponseOp | None = None,
    name: str = "p",
    **ops: Any,
) -> Iterator[PipelineServer]:
    """A prepared pipeline that ends with this Op; its engines are closed with it."""
    server = PipelineServer(name)
    server.set_response_op(response_op or ResponseOp([last]))
    conf = {"http_port": 0, "dag": dict(dag or {}), "op": ops}
    try:
        server.prepare_server(yml_dict=conf, engines=engines)
        yield server
    finally:
        server.close()
        for engine in (engines or {}).values():
            engine.close()


def asked(server: PipelineServer, log_id: int = 0, **texts: str) -> PipelineResponse:
    """The response to texts by key."""
    return server.call(PipelineRequest(keys=list(texts), values=list(texts.values()), log_id=log_id))

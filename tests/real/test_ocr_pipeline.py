"""PaddleOCR's models in Paddle Serving's OCR pipeline, written as its public example is."""

from __future__ import annotations

import base64
import io
from typing import Any

import pytest
from engine_helpers import run_threads
from ocr_pages import DICTIONARY, PlainReader, encoded, page_of
from PIL import Image
from real_models import V4_DET, V4_REC, V5_DET, V5_REC, need
from starlette.testclient import TestClient

from paddleinfer.ocr.characters import characters_of
from paddleinfer.ocr.detection import boxes_of, det_input
from paddleinfer.ocr.lines import cut_line, read_line, rec_input
from paddleinfer.serving import Op, RequestOp, WebService

CLIENTS = 16
PAGES = [page_of(0), page_of(1, width=320), page_of(2), Image.new("RGB", (90, 60), "white")]


class DetOp(Op):
    """What postprocess needs of preprocess it keeps on itself, as the example does."""

    def preprocess(self, input_dicts: Any, data_id: int, log_id: int) -> Any:
        ((_, input_dict),) = input_dicts.items()
        self.raw_im = base64.b64decode(input_dict["image"].encode("utf8"))
        self.im = Image.open(io.BytesIO(self.raw_im)).convert("RGB")
        return {"x": det_input(self.im)}, False, None, ""

    def postprocess(self, input_dicts: Any, fetch_dict: Any, data_id: int, log_id: int) -> Any:
        (det_out,) = fetch_dict.values()
        return {"dt_boxes": boxes_of(det_out[0, 0], self.im.size), "image": self.raw_im}, None, ""


class RecOp(Op):
    """Mini-batches: a list of dicts, of one line each."""

    def init_op(self) -> None:
        self.characters = characters_of(need(self.name), DICTIONARY)

    def preprocess(self, input_dicts: Any, data_id: int, log_id: int) -> Any:
        ((_, input_dict),) = input_dicts.items()
        im = Image.open(io.BytesIO(input_dict["image"])).convert("RGB")
        self.dt_list = input_dict["dt_boxes"]
        if len(self.dt_list) == 0:
            return {}, True, None, ""
        return [{"x": rec_input(cut_line(im, box))} for box in self.dt_list], False, None, ""

    def postprocess(self, input_dicts: Any, fetch_data: Any, data_id: int, log_id: int) -> Any:
        results = []
        for place, box in enumerate(self.dt_list):
            (steps,) = fetch_data[place].values()
            text, score = read_line(steps[0], self.characters)
            if score >= 0.5:
                results.append([(text, score), box.tolist()])
        return {"result": str(results)}, None, ""


class OcrService(WebService):
    models: tuple[str, str]

    def get_pipeline_response(self, read_op: RequestOp) -> Op:
        det, rec = self.models
        return RecOp(name=rec, input_ops=[DetOp(name=det, input_ops=[read_op])])


@pytest.mark.parametrize(
    "models",
    [
        pytest.param((V5_DET, V5_REC), marks=pytest.mark.paddle3, id="v5"),
        pytest.param((V4_DET, V4_REC), marks=pytest.mark.real, id="v4"),
    ],
)
@pytest.mark.parametrize(
    "is_thread_op",
    [pytest.param(True, id="threads"), pytest.param(False, marks=pytest.mark.real, id="processes")],
)
def test_many_clients_of_the_example_read_what_the_plain_pipeline_reads(
    models: tuple[str, str], is_thread_op: bool
) -> None:
    plain = PlainReader(*models)
    expected = [plain(page) for page in PAGES]
    assert [len(lines) for lines in expected] == [3, 3, 3, 0]
    service = OcrService(name="ocr")
    service.models = models
    ops = {
        name: {
            "concurrency": concurrency,
            "local_service_conf": {
                "client_type": "local_predictor",
                "model_config": str(need(name)),
                "device_type": 0,
                "devices": "",
                "thread_num": 2,
                "ir_optim": True,
            },
        }
        for name, concurrency in zip(models, (6, 3), strict=True)
    }
    conf = {"http_port": 0, "worker_num": 20, "build_dag_each_worker": False, "op": ops}
    service.prepare_pipeline_config(yml_dict={**conf, "dag": {"is_thread_op": is_thread_op, "retry": 1}})

    with TestClient(service.get_app_instance()) as client:

        def ask(number: int) -> None:
            for place in range(number, number + 3):
                image = base64.b64encode(encoded(PAGES[place % len(PAGES)])).decode("utf8")
                result = client.post("/ocr/prediction", json={"key": ["image"], "value": [image]}).json()
                assert (result["err_no"], result["key"]) == (0, ["result"]), result
                texts = [item[0][0] for item in eval(result["value"][0])]
                assert texts == expected[place % len(PAGES)]

        run_threads(CLIENTS, ask)
    service.close()

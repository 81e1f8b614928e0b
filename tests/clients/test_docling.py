"""docling's stage of OCR for KServe v2, unmodified, on a scanned page, by the service that reads it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from client_servers import Addresses, started
from docling.backend.pypdfium2_backend import PyPdfiumDocumentBackend
from docling.datamodel.accelerator_options import AcceleratorOptions
from docling.datamodel.base_models import InputFormat, Page
from docling.datamodel.document import ConversionResult, InputDocument
from docling.datamodel.pipeline_options import KserveV2OcrOptions, OcrMode
from docling.models.stages.ocr.kserve_v2_ocr_model import KserveV2OcrModel
from PIL import Image, ImageDraw, ImageFont

REAL_MODELS = Path(__file__).resolve().parents[2] / "build/real-models"
LINES = ["invoice number 4223", "balance carried forward", "total amount due 8041"]


@pytest.fixture(scope="module")
def ocr(python: str) -> Iterator[Addresses]:
    models = [f"--model={name}={REAL_MODELS / f'PP-OCRv5_mobile_{name}'}" for name in ("det", "rec")]
    listen = ["--host=127.0.0.1", "--port=0", "--grpc-port=0"]
    with started(
        python, "-m", "paddleinfer.shim", *listen, *models, "--service=ocr=paddleinfer.ocr:Ocr"
    ) as all_of:
        yield all_of


def document_of(path: Path, lines: list[str]) -> InputDocument:
    """A scan: a PDF with a picture and no text."""
    page = Image.new("RGB", (800, 300), "white")
    for number, text in enumerate(lines):
        ImageDraw.Draw(page).text((40, 30 + 80 * number), text, "black", ImageFont.load_default(34))
    page.save(path)
    document = InputDocument(path_or_stream=path, format=InputFormat.PDF, backend=PyPdfiumDocumentBackend)
    assert document.valid
    return document


@pytest.mark.parametrize(
    ("transport", "binary"), [("http", True), ("http", False), ("grpc", True)], ids=["http", "json", "grpc"]
)
@pytest.mark.parametrize("lines", [LINES, []], ids=["page", "blank"])
def test_docling_reads_a_scanned_page(
    ocr: Addresses, tmp_path: Path, transport: str, binary: bool, lines: list[str]
) -> None:
    document = document_of(tmp_path / "scan.pdf", lines)
    url = ocr.grpc if transport == "grpc" else f"http://{ocr.http}"
    options = KserveV2OcrOptions(
        url=url,
        transport=transport,
        model_name="ocr",
        lang=["en"],
        mode=OcrMode.FULL_PAGE,
        use_binary_data=binary,
    )
    model = KserveV2OcrModel(True, None, options, AcceleratorOptions(), enable_remote_services=True)
    page = Page(page_no=1)
    page._backend = document._backend.load_page(0)
    page.size = page._backend.get_size()
    page.parsed_page = page._backend.get_segmented_page()
    result = ConversionResult(input=document)
    (read,) = model(result, [page])
    assert result.errors == []
    assert [cell.text for cell in read.cells] == lines
    for number, cell in enumerate(read.cells):
        box = cell.rect.to_bounding_box()
        assert abs(box.l - 38) < 8 and abs(box.t - (30 + 80 * number)) < 12 and cell.confidence > 0.9

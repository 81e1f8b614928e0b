"""What bench_paddleocr measures: pipelines of PaddleOCR's, each in a process of its own."""

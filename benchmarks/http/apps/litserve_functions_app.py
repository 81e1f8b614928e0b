"""LitServe with functions around the model, and its own batching; otherwise as litserve_app."""

from __future__ import annotations

from benchmarks.http.apps.functions import answer_of, row_of
from benchmarks.http.apps.litserve_app import Api, serve


class Labels(Api):
    """``{"x": row}`` -> ``{"label": number, "scores": row}``."""

    # Its annotations would be what FastAPI checks bodies against.
    def decode_request(self, request):  # type: ignore[no-untyped-def]
        """One row; rows are stacked by LitServe."""
        return row_of(request)[0]

    def encode_response(self, output):  # type: ignore[no-untyped-def]
        """What goes out as JSON."""
        return answer_of(output)


if __name__ == "__main__":
    serve(Labels)

"""LitServe: batching in its worker process, and the ZeroMQ queue that it has for more than 100 requests/s."""

from __future__ import annotations

import litserve
import numpy as np

from benchmarks.http.apps.behind import MAX_ROWS, WAIT_MS, Rows, load, port


class Api(litserve.LitAPI):
    """``{"x": row}`` -> ``{"y": row}``."""

    def setup(self, device: str) -> None:
        """In the worker."""
        self.run = load()

    # Its annotations would be what FastAPI checks bodies against.
    def decode_request(self, request):  # type: ignore[no-untyped-def]
        """One row; rows are stacked by LitServe."""
        return np.array(request["x"], np.float32)

    def predict(self, x: Rows) -> Rows:
        """A batch."""
        return self.run(x)

    def unbatch(self, output: Rows) -> list[Rows]:
        """Its rows."""
        return list(output)

    def encode_response(self, output):  # type: ignore[no-untyped-def]
        """What goes out as JSON."""
        return {"y": output.tolist()}


def serve(api: type[Api]) -> None:
    """Until the process is ended."""
    server = litserve.LitServer(
        api(max_batch_size=MAX_ROWS, batch_timeout=WAIT_MS / 1e3),
        accelerator="cpu",
        devices=1,
        workers_per_device=1,
        fast_queue=True,
    )
    server.run(
        host="127.0.0.1",
        port=port(),
        num_api_servers=1,
        generate_client_file=False,
        log_level="warning",
        access_log=False,
        loop="uvloop",
        http="httptools",
    )


if __name__ == "__main__":
    serve(Api)

"""The ceiling: a bare ASGI application that reads the body and gives back fixed bytes."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import uvicorn

from benchmarks.http.apps.behind import port


class Ceiling:
    """Path -> the answer, as long as that of the server it is compared with."""

    def __init__(self, answers: dict[str, Any]) -> None:
        self._answers = {
            path: (
                {
                    "type": "http.response.start",
                    "status": 200,
                    "headers": [(name.encode(), value.encode()) for name, value in answer["headers"]],
                },
                {"type": "http.response.body", "body": answer["body"].encode("latin-1")},
            )
            for path, answer in answers.items()
        }

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """One request."""
        start, body = self._answers[scope["path"]]
        while (await receive()).get("more_body"):
            pass
        await send(start)
        await send(body)


if __name__ == "__main__":
    uvicorn.run(
        Ceiling(json.loads(Path(os.environ["BENCH_ANSWERS"]).read_text())),
        host="127.0.0.1",
        port=port(),
        loop="uvloop",
        http="httptools",
        lifespan="off",
        ws="none",
        log_level="warning",
        access_log=False,
        server_header=False,
    )

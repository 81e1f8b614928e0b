"""A web service of one model: a client's feeds and fetches, the user's two functions, and an engine."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Any

from paddleinfer.engine.engine import Engine
from paddleinfer.errors import InvalidInput, PaddleInferError
from paddleinfer.sentences import shown
from paddleinfer.serve.engines import Engines
from paddleinfer.serve.request import Request
from paddleinfer.serve.service import Service
from paddleinfer.serving.formats.feeds import engine_inputs, wanted_names
from paddleinfer.serving.formats.pipeline import PipelineRequest, PipelineResponse
from paddleinfer.serving.pipeline.errors import CustomExceptionCode

__all__ = ["FeedService"]

Preprocess = Callable[[Any, Any], tuple[Any, Any, bool]]
Postprocess = Callable[..., Any]


class _NoFeeds(InvalidInput):
    """A request that is not of this form."""


class FeedService:
    """What is served under ``/{name}/prediction``: ``{"feed": […], "fetch": […]}`` -> ``{"result": …}``.

    Parameters
    ----------
    name
        Of the service.
    engine
        Of the model; it stays its giver's to close.
    preprocess, postprocess
        As of WebService. A ValueError of theirs is an answer, with its text.
    """

    def __init__(self, name: str, engine: Engine, preprocess: Preprocess, postprocess: Postprocess) -> None:
        self._name = name
        self._preprocess = preprocess
        self._postprocess = postprocess
        self.engines = {f"{name}.model": engine}
        """The one there is, by the name that the server has for it."""
        self._service = Service(self.engines, name=name, handle=self._handle)

    @property
    def service(self) -> Service:
        """The service that carries it."""
        return self._service

    def call(self, document: Mapping[str, Any]) -> dict[str, Any]:
        """The answer to a document, from any thread; of a refused one a sentence in the place of a result."""
        try:
            return self.write(self._service.call(self.read(document, self._name, "prediction")))
        except InvalidInput as error:
            return {"result": str(error)}

    async def answer(self, request: PipelineRequest, *, timeout: float | None = None) -> PipelineResponse:
        """A refusal: keys and values are of pipelines."""
        return PipelineResponse(
            CustomExceptionCode.NOT_IMPLEMENTED.value,
            f"{self._name} takes feeds and fetches over HTTP; a pipeline takes keys and values",
        )

    def read(self, document: Mapping[str, Any], name: str, method: str) -> dict[str, Any]:
        """A request, of its document.

        Raises
        ------
        InvalidInput
            It has no feed, or no fetch.
        """
        if not isinstance(document, Mapping):
            raise _NoFeeds(f'a request is a dict with "feed" and "fetch", not {shown(document)}')
        feed, fetch = document.get("feed"), document.get("fetch")
        if "fetch" not in document or not isinstance(fetch, (list, str)):
            raise _NoFeeds(f'"fetch" must be a list of the outputs\' names, not {shown(fetch)}')
        if not feed or not isinstance(feed, (list, dict)):
            raise _NoFeeds(f'"feed" must be a list of objects, one for each row, not {shown(feed)}')
        return {"feed": feed, "fetch": fetch}

    def write(self, answer: Any) -> dict[str, Any]:
        """The document of an answer."""
        return {"result": answer}

    def refusal(
        self, error: BaseException, status: int, sentence: str, *, is_real: bool
    ) -> tuple[int, dict[str, Any]]:
        """A sentence, in the place of a result; 200 only where the two functions gave it."""
        is_answer = isinstance(error, InvalidInput) and not isinstance(error, _NoFeeds)
        return HTTPStatus.OK if is_answer and not is_real else status, {"result": sentence}

    def close(self) -> None:
        """Takes no more requests, and lets accepted ones end."""
        self._service.close()

    def _handle(self, request: Request, engines: Engines) -> Any:
        document = request.value
        (name,) = engines
        engine = engines[name]
        try:
            feed, fetch, is_batch = self._preprocess(document["feed"], document["fetch"])
            if isinstance(feed, dict):
                feed = {key: value for key, value in feed.items() if key != "fetch"}
            if not feed:
                raise InvalidInput("preprocess gave nothing to run the model on")
            inputs = engine_inputs(feed, engine.inputs, batch=is_batch)
            outputs = engine.infer(inputs, outputs=wanted_names(fetch, engine.outputs))
            return self._postprocess(feed=document["feed"], fetch=fetch, fetch_map=outputs)
        except PaddleInferError:
            raise
        except ValueError as error:
            raise InvalidInput(str(error)) from error

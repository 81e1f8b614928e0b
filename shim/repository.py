"""Loading models on a client's word (Triton's model repository extension)."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from paddleinfer.errors import PaddleInferError

from .errors import RequestError, status_of
from .load_request import load_config
from .models import Models
from .service import ServiceOptions

__all__ = ["check_controlled", "load_model"]


def check_controlled(options: ServiceOptions) -> None:
    """Raises RequestError 403 where clients may not load and unload models."""
    if not options.repository_control:
        raise RequestError(
            HTTPStatus.FORBIDDEN, "models are loaded and unloaded only with --repository-control"
        )


async def load_model(models: Models, name: str, body: Mapping[str, Any]) -> None:
    """Loads a model, with the `parameters` of a request's body.

    Raises
    ------
    RequestError
        It could not be; the sentence says why.
    """
    try:
        model = models.get(name)
        await models.load(model, load_config(body, model))
    except (RequestError, PaddleInferError) as error:
        refused = error if isinstance(error, RequestError) else status_of(error)
        # Clients of Triton look for the first words.
        raise RequestError(refused.status, f"failed to load {name!r}: {refused.message}") from error

"""``/v2``: health and descriptions, as the Open Inference Protocol has them."""

from __future__ import annotations

from importlib import metadata
from typing import TYPE_CHECKING, Any

from fastapi import APIRouter

from assay.gateway.server.models import ModelView, Ready, ServerView, problem_responses
from assay.gateway.server.problems import Unavailable
from assay.gateway.upstream.base import UpstreamDown, check_name

if TYPE_CHECKING:
    from assay.gateway.server.gateway import Gateway

__all__ = ["meta_router"]


def meta_router(gateway: Gateway) -> APIRouter:
    """Return the endpoints that say what is here and whether it works."""
    router = APIRouter(prefix="/v2", tags=["inference protocol"])

    @router.get("")
    async def server() -> ServerView:
        """Describe the server."""
        return ServerView(
            name="assay",
            version=metadata.version("assay-ml"),
            extensions=["binary_tensor_data", "proof_of_work"],
        )

    _health(router, gateway)

    @router.get("/models/{model}", responses=problem_responses(404, 503))
    async def model_metadata(model: str) -> ModelView:
        """Describe a model."""
        return await _describe(gateway, model, None)

    @router.get("/models/{model}/versions/{version}", responses=problem_responses(404, 503))
    async def version_metadata(model: str, version: str) -> ModelView:
        """Describe one version of a model."""
        return await _describe(gateway, model, version)

    @router.get("/models/{model}/ready", responses=problem_responses(404, 503))
    async def model_ready(model: str) -> Ready:
        """Say whether a model can answer."""
        return await _ready(gateway, model, None)

    @router.get("/models/{model}/versions/{version}/ready", responses=problem_responses(404, 503))
    async def version_ready(model: str, version: str) -> Ready:
        """Say whether one version of a model can answer."""
        return await _ready(gateway, model, version)

    return router


def _health(router: APIRouter, gateway: Gateway) -> None:
    @router.get("/health/live")
    async def live() -> Ready:
        """Say that the process runs."""
        return Ready()

    @router.get("/health/ready", responses=problem_responses(503))
    async def ready() -> Ready:
        """Say whether requests can be answered: the store and the server behind are there."""
        if gateway.draining:
            msg = "the gateway is shutting down"
            raise Unavailable(msg, reason="draining")
        await gateway.stored(gateway.store.ping)
        if not await gateway.upstream.ready():
            msg = "the server behind the gateway is not ready"
            raise Unavailable(msg, reason="upstream")
        return Ready()


async def _describe(gateway: Gateway, model: str, version: str | None) -> ModelView:
    check_name(model)
    if version is not None:
        check_name(version, "version")
    try:
        info = await gateway.upstream.metadata(model, version)
    except UpstreamDown as error:
        raise Unavailable(str(error), reason="upstream") from error
    content: dict[str, Any] = info.content()
    return ModelView(**content)


async def _ready(gateway: Gateway, model: str, version: str | None) -> Ready:
    await _describe(gateway, model, version)
    if not await gateway.upstream.ready(model, version):
        msg = f"the model {model!r} is not ready"
        raise Unavailable(msg, reason="upstream")
    return Ready()

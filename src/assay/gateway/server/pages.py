"""The pages beside the protocol: for people who pay, for metrics, for the operator."""

from __future__ import annotations

from typing import TYPE_CHECKING

from assay.gateway.metrics import Metrics, metrics_router
from assay.gateway.page import page_router

if TYPE_CHECKING:
    from fastapi import APIRouter

    from assay.gateway.server.gateway import Gateway

__all__ = ["pages"]


def pages(
    gateway: Gateway, metrics: Metrics | None = None, operator_token: str | None = None
) -> list[APIRouter]:
    """Return the further pages of a gateway.

    Parameters
    ----------
    gateway
        Its parts.
    metrics
        What ``/metrics`` shows; no such page without.
    operator_token
        Opens ``/operator``; no such page without.

    Raises
    ------
    InvalidInput
        If the token is too short to be a secret.
    """
    routers = [page_router()]
    if metrics is not None:
        metrics.gauge(
            "settlements_waiting", "Answered queries not billed yet.", lambda: gateway.settler.waiting
        )
        metrics.gauge("body_bytes", "Bytes of request bodies in memory.", lambda: gateway.reader.held)
        routers.append(metrics_router(metrics, gateway.store.ping))
    if operator_token:
        from assay.gateway.operator import operator_router

        routers.append(
            operator_router(
                gateway.store,
                lambda: gateway.policy,
                operator_token,
                clock=gateway.clock,
                facts=lambda: _facts(gateway),
            )
        )
    return routers


def _facts(gateway: Gateway) -> dict[str, str]:
    facts = {"settlements waiting": str(gateway.settler.waiting)}
    if gateway.answers is not None:
        facts |= {f"commitment of {name}": digest for name, digest in gateway.answers.commitments.items()}
    return facts

"""A synchronous client of an application in the same process."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx


class Asking:
    def __init__(self, app: Any) -> None:
        self._app = app

    def __call__(self, method: str, address: str, **options: Any) -> httpx.Response:
        async def ask() -> httpx.Response:
            transport = httpx.ASGITransport(self._app)
            async with httpx.AsyncClient(transport=transport, base_url="http://gateway") as client:
                return await client.request(method, address, **options)

        return asyncio.run(ask())

    def get(self, address: str, **options: Any) -> httpx.Response:
        return self("GET", address, **options)

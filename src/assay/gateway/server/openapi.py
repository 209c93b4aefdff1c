"""The OpenAPI 3.1 document: what FastAPI finds, and the inference path, which it does not serve."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI

from assay.gateway.server.models import problem_responses
from assay.gateway.server.tensors import DATATYPES
from assay.gateway.server.wire import HEADER_LENGTH, MAX_TENSORS

__all__ = ["document"]

_STATUSES = (400, 401, 403, 404, 408, 409, 410, 413, 415, 422, 428, 429, 503)
_PARAMETERS: dict[str, Any] = {
    "type": "object",
    "description": "binary_data_output, pow, and whatever the model takes",
    "properties": {"binary_data_output": {"type": "boolean"}, "pow": {"type": "string"}},
}
_NUMBERS: dict[str, Any] = {
    "type": "array",
    "items": {
        "anyOf": [
            {"type": "number"},
            {"type": "boolean"},
            {"type": "string"},
            {"type": "array", "items": {}},
        ]
    },
}


def document(app: FastAPI) -> dict[str, Any]:
    """Return the document of an application, complete."""
    if app.openapi_schema is None:
        FastAPI.openapi(app)
        schema = app.openapi_schema
        assert schema is not None
        schema["components"]["schemas"].update(_schemas())
        for path, version in (
            ("/v2/models/{model}/infer", False),
            ("/v2/models/{model}/versions/{version}/infer", True),
        ):
            schema["paths"][path] = {"post": _operation(version=version)}
        _refuse_bodies(schema)
    found: dict[str, Any] = app.openapi_schema or {}
    return found


def _operation(*, version: bool) -> dict[str, Any]:
    names = ["model", "version"] if version else ["model"]
    parameters: list[dict[str, Any]] = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string"}} for name in names
    ]
    parameters += [
        {
            "name": "PoW-Proof",
            "in": "header",
            "description": "CHALLENGE;NONCE,NONCE,...",
            "schema": {"type": "string"},
        },
        {
            "name": "Authorization",
            "in": "header",
            "description": "Bearer ACCOUNT_KEY",
            "schema": {"type": "string"},
        },
        {
            "name": HEADER_LENGTH,
            "in": "header",
            "description": "bytes of the JSON part when binary tensors follow it",
            "schema": {"type": "integer", "minimum": 0},
        },
    ]
    request = {"$ref": "#/components/schemas/InferRequest"}
    reply = {"$ref": "#/components/schemas/InferResponse"}
    return {
        "tags": ["inference protocol"],
        "summary": "Infer",
        "operationId": "infer_version" if version else "infer",
        "description": "Answer a query. Without enough credit: 428 with a challenge in the body.",
        "parameters": parameters,
        "requestBody": {
            "required": True,
            "content": {
                "application/json": {"schema": request},
                "application/octet-stream": {"schema": {"type": "string", "format": "binary"}},
            },
        },
        "responses": {
            "200": {
                "description": "the answer",
                "headers": {
                    "PoW-Receipt": {"schema": {"type": "string"}},
                    "PoW-Account": {"schema": {"type": "string"}},
                },
                "content": {
                    "application/json": {"schema": reply},
                    "application/octet-stream": {"schema": {"type": "string", "format": "binary"}},
                },
            },
            **{str(status): content for status, content in problem_responses(*_STATUSES).items()},
        },
    }


def _schemas() -> dict[str, Any]:
    name = {"type": "string", "minLength": 1, "maxLength": 256}
    tensor = {
        "type": "object",
        "additionalProperties": False,
        "required": ["name", "datatype", "shape"],
        "properties": {
            "name": name,
            "datatype": {"enum": [*DATATYPES, "BYTES"]},
            "shape": {
                "type": "array",
                "minItems": 1,
                "maxItems": 8,
                "items": {"type": "integer", "minimum": 1},
            },
            "data": _NUMBERS,
            "parameters": {
                "type": "object",
                "properties": {"binary_data_size": {"type": "integer", "minimum": 0}},
            },
        },
    }
    output = {
        "type": "object",
        "additionalProperties": False,
        "required": ["name"],
        "properties": {
            "name": name,
            "parameters": {"type": "object", "properties": {"binary_data": {"type": "boolean"}}},
        },
    }
    return {
        "InferRequest": {
            "type": "object",
            "additionalProperties": False,
            "required": ["inputs"],
            "properties": {
                "id": {"type": "string", "maxLength": 1024},
                "inputs": {"type": "array", "minItems": 1, "maxItems": MAX_TENSORS, "items": tensor},
                "outputs": {"type": "array", "items": output},
                "parameters": _PARAMETERS,
            },
        },
        "InferResponse": {
            "type": "object",
            "required": ["outputs"],
            "properties": {
                "model_name": {"type": "string"},
                "model_version": {"type": "string"},
                "id": {"type": "string"},
                "outputs": {"type": "array", "items": {"type": "object"}},
                "parameters": {"type": "object"},
            },
        },
    }


def _refuse_bodies(schema: dict[str, Any]) -> None:
    """Say what really is answered to bodies that do not fit: a problem with status 422 or 400."""
    problem = problem_responses(422)[422]
    for path in schema["paths"].values():
        for operation in path.values():
            if "422" in operation["responses"]:
                operation["responses"]["422"] = problem
    for unused in ("HTTPValidationError", "ValidationError"):
        schema["components"]["schemas"].pop(unused, None)
    schema["components"]["schemas"].setdefault("ProblemView", _problem_view())


def _problem_view() -> dict[str, Any]:
    from assay.gateway.server.models import ProblemView

    return ProblemView.model_json_schema()

"""The API described as OpenAPI 3.1, from the operations and their messages."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from http import HTTPStatus
from typing import Any

import msgspec

from evstream.domain.access import KEY_ID
from evstream.domain.payload import SHA256
from evstream.domain.products import EDGE_NAME
from evstream.web.operations import EVENT_STREAM, JSON, Operation
from evstream.web.who_may import WHO_MAY
from evstream.web.work_routes import LEASE_ID
from evstream.wire.messages import Problem
from evstream.wire.problems import MEDIA_TYPE

OCTETS = "application/octet-stream"
_REFS = "#/components/schemas/{name}"

_ANYWHERE = (400, 401, 403, 503)

_RANGED = {
    "ETag": {"schema": {"type": "string"}, "required": True},
    "Accept-Ranges": {"schema": {"const": "bytes"}, "required": True},
}
_LOCATION = {"Location": {"schema": {"type": "string"}, "required": True}}
_RETRY_AFTER = {"Retry-After": {"schema": {"type": "integer", "minimum": 1}, "required": True}}


def openapi_document(operations: Sequence[Operation]) -> dict[str, Any]:
    """Return the OpenAPI document of operations, ready for JSON.

    Messages stand under ``components`` as they are in Python, so the document cannot say
    anything else than what is checked.
    """
    kinds = list({id(kind): kind for kind in _messages(operations)}.values())
    schemas, components = msgspec.json.schema_components(kinds, ref_template=_REFS)
    by_kind = dict(zip(map(id, kinds), schemas, strict=True))
    paths: dict[str, dict[str, Any]] = {}
    for operation in operations:
        path = re.sub(r"\{(\w+):\w+\}", r"{\1}", operation.path)
        there = paths.setdefault(path, {})
        described = _operation(operation, by_kind)
        there[operation.method.lower()] = described
        # HEAD is as good as GET everywhere; it tells something where there are sizes and tags.
        if operation.gives is bytes:
            there["head"] = _without_bodies(described)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "evstream",
            "version": "1",
            "summary": "The Event Streaming Service",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "paths": paths,
        "components": {
            "schemas": dict(sorted(components.items())),
            "securitySchemes": {
                "token": {"type": "http", "scheme": "bearer"},
                "signature": {"type": "apiKey", "in": "query", "name": "s"},
            },
        },
    }


def _messages(operations: Iterable[Operation]) -> Iterable[Any]:
    yield Problem
    for operation in operations:
        for kind in (operation.takes, operation.gives):
            if kind not in (None, bytes, str):
                yield kind


def _operation(operation: Operation, schemas: dict[int, Any]) -> dict[str, Any]:
    described: dict[str, Any] = {
        "operationId": _operation_id(operation),
        "summary": operation.summary,
        "security": _security(operation),
        "x-roles": sorted(WHO_MAY[f"{operation.method} {operation.path}"]),
    }
    parameters = [*_path_parameters(operation.path), *_query_parameters(operation.query)]
    if operation.method == "POST":
        parameters.append(_parameter("Idempotency-Key", "header", {"pattern": operation.key}))
    if operation.gives is bytes:
        names = ("Range", "If-Range", "If-None-Match")
        parameters += [_parameter(name, "header", {}) for name in names]
    described["parameters"] = parameters
    if operation.takes is not None:
        described["requestBody"] = {
            "required": True,
            "content": _content(operation.takes, schemas),
        }
    described["responses"] = _responses(operation, schemas)
    return described


def _security(operation: Operation) -> list[dict[str, list[str]]]:
    """Return what opens it; on a Unix socket nothing is needed."""
    if operation.open:
        return []
    signature: dict[str, list[str]] = {"signature": []}
    return [{"token": []}, *([signature] if operation.signed else [])]


def _operation_id(operation: Operation) -> str:
    words = re.findall(r"\w+", re.sub(r":\w+\}", "}", operation.path.removeprefix("/v1")))
    return "_".join([operation.method.lower(), *words]).replace("-", "_")


def _responses(operation: Operation, schemas: dict[int, Any]) -> dict[str, Any]:
    success: dict[str, Any] = {"description": HTTPStatus(operation.status).phrase}
    if operation.gives is not None:
        content = _content(operation.gives, schemas, operation.media_type)
        if operation.events:
            of = _event(operation.events, schemas[id(operation.gives)])
            content = {EVENT_STREAM: {"schema": of}}
        success["content"] = content | {kind: {} for kind in operation.also}
    found: dict[int, dict[str, Any]] = {operation.status: success}
    if operation.gives is bytes:
        success["headers"] = _RANGED
        several = {"multipart/byteranges": {"schema": {"type": "string", "format": "binary"}}}
        found[206] = {
            **success,
            "description": "Part of it, or several parts",
            "content": {**success["content"], **several},
        }
        found[304] = {"description": "It has not changed", "headers": _RANGED}
        found[412] = {"description": "It is not what If-Match means", "headers": _RANGED}
        found[416] = {"description": "There is no such range", "headers": _RANGED}
    if operation.elsewhere:
        found[307] = {"description": "It is elsewhere", "headers": _LOCATION}
    problem = {MEDIA_TYPE: {"schema": schemas[id(Problem)]}}
    refused = {*_ANYWHERE, *operation.errors}
    if operation.takes is not None:
        refused |= {413} if operation.takes is bytes else {413, 415}
    for status in refused:
        found[status] = {"description": HTTPStatus(status).phrase, "content": problem}
        if status == HTTPStatus.SERVICE_UNAVAILABLE:
            found[status]["headers"] = _RETRY_AFTER
    return {str(status): found[status] for status in sorted(found)}


def _content(kind: Any, schemas: dict[int, Any], media_type: str = "") -> dict[str, Any]:
    if kind is bytes:
        return {OCTETS: {}}
    if kind is str:
        return {media_type: {"schema": {"type": "string"}}}
    return {JSON: {"schema": schemas[id(kind)]}}


def _event(names: Sequence[str], schema: Any) -> dict[str, Any]:
    """Return what each event is: before OpenAPI 3.2, a stream's schema is that of its events."""
    data = {"type": "string", "contentMediaType": JSON, "contentSchema": schema}
    return {
        "type": "object",
        "properties": {"event": {"enum": list(names)}, "data": data},
        "required": ["event", "data"],
    }


def _without_bodies(described: dict[str, Any]) -> dict[str, Any]:
    responses = {
        status: {name: value for name, value in response.items() if name != "content"}
        for status, response in described["responses"].items()
    }
    name = described["operationId"].replace("get_", "head_", 1)
    return {**described, "operationId": name, "responses": responses}


_PATHS: dict[str, dict[str, Any]] = {
    "task": {"type": "integer", "minimum": 1, "maximum": 10**15 - 1},
    "lease": {"type": "string", "pattern": LEASE_ID},
    "sha256": {"type": "string", "pattern": f"^{SHA256}$"},
    "edge": {"type": "string", "pattern": f"^{EDGE_NAME}$"},
    "id": {"type": "string", "pattern": f"^{KEY_ID}$"},
}
"""What stands in paths, where not any text may."""


def _path_parameters(path: str) -> Iterable[dict[str, Any]]:
    for name in re.findall(r"\{(\w+)(?::\w+)?\}", path):
        schema = _PATHS.get(name, {"type": "string", "minLength": 1})
        yield {"name": name, "in": "path", "required": True, "schema": schema}


def _query_parameters(query: Any) -> Iterable[dict[str, Any]]:
    if query is None:
        return
    for field in msgspec.structs.fields(query):
        # A parameter that is null is one that is left out.
        schema = msgspec.json.schema(field.type)
        schema = next((one for one in schema.get("anyOf", []) if one != {"type": "null"}), schema)
        if field.default not in (msgspec.NODEFAULT, None):
            schema["default"] = field.default
        yield _parameter(field.encode_name, "query", schema, required=field.required)


def _parameter(
    name: str, place: str, schema: dict[str, Any], *, required: bool = False
) -> dict[str, Any]:
    if place == "header":
        schema = {"type": "string", **schema}
    return {"name": name, "in": place, "required": required, "schema": schema}

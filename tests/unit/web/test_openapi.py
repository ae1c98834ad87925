"""The OpenAPI document, and what every operation has from its declaration."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import msgspec
import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator, validate
from starlette.applications import Starlette
from starlette.responses import Response
from starlette.routing import Route

from evstream.web import api_document
from evstream.web.operations import Operation, Resource, operations_of, routes_of

COMMITTED = Path(__file__).parents[3] / "docs/reference/openapi.json"
DOCUMENT = json.loads(msgspec.json.encode(api_document()))
OPERATIONS = [
    (f"{method.upper()} {path}", operation)
    for path, there in DOCUMENT["paths"].items()
    for method, operation in there.items()
]


def test_the_committed_document_is_that_of_the_code() -> None:
    assert json.loads(COMMITTED.read_text()) == DOCUMENT, (
        "write it again: evstream api schema > docs/reference/openapi.json"
    )


def test_the_document_is_openapi() -> None:
    validate(DOCUMENT, cls=OpenAPIV31SpecValidator)


def test_each_operation_has_a_name_of_its_own() -> None:
    names = [operation["operationId"] for _, operation in OPERATIONS]
    assert len(names) == len(set(names))


@pytest.mark.parametrize(("name", "operation"), OPERATIONS, ids=[name for name, _ in OPERATIONS])
def test_an_operation_says_all_of_itself(name: str, operation: dict[str, Any]) -> None:
    method, path = name.split()
    named = {one["name"] for one in operation["parameters"] if one["in"] == "path"}
    assert named == set(re.findall(r"{(\w+)}", path))
    assert {"400", "403", "503"} <= set(operation["responses"])
    keyed = any(one["name"] == "Idempotency-Key" for one in operation["parameters"])
    assert keyed == (method == "POST")
    for status, response in operation["responses"].items():
        kinds = set(response.get("content", {}))
        if int(status) >= 400 and status not in ("412", "416") and method != "HEAD":
            assert kinds == {"application/problem+json"}
        if method == "HEAD":
            assert not kinds


def test_a_stream_is_described_by_its_events() -> None:
    """As text it would be refused by whoever reads it event by event."""
    shown = DOCUMENT["paths"]["/v1/requests/{task}/events"]["get"]["responses"]["200"]["content"]
    (of,) = shown.values()
    assert set(shown) == {"text/event-stream"}
    assert of["schema"]["type"] == "object"
    assert of["schema"]["required"] == ["event", "data"]
    assert of["schema"]["properties"]["event"] == {"enum": ["progress", "ended"]}
    data = of["schema"]["properties"]["data"]
    assert data["contentSchema"] == {"$ref": "#/components/schemas/RequestView"}


def test_a_route_that_is_not_declared_is_refused() -> None:
    async def answer(request: object) -> Response:
        return Response()

    with pytest.raises(TypeError, match="/v1/odd is not declared"):
        operations_of(Starlette(routes=[Route("/v1/odd", answer)]).routes)


def test_a_path_is_one_route_with_its_operations() -> None:
    async def answer(request: object) -> Response:
        return Response()

    operations = [
        Operation("GET", "/a", "look"),
        Operation("GET", "/b", "look"),
        Operation("PUT", "/a", "write"),
    ]
    served = [operation.by(answer) for operation in operations]
    routes = routes_of(served)
    assert [route.path for route in routes] == ["/a", "/b"]
    assert operations_of(routes) == [operations[0], operations[2], operations[1]]
    with pytest.raises(AssertionError, match="a method is there twice"):
        Resource([served[0], served[0]])

"""What schemathesis checks of each answer beside its own: loaded by it as a module."""

from __future__ import annotations

import json
import re
from typing import Any

import schemathesis

_DECODER = re.compile(r"^\w+: .* - at `\$")
"""How msgspec refuses a message: by the field's path."""
_NARROWER = re.compile(r"Expected `int.*got `float`|Invalid base64|out of range")
"""What JSON Schema cannot say: that 1.0 is no whole number, or that a text is base64."""


@schemathesis.check
def errors_are_problems(context: Any, response: Any, case: Any) -> None:
    """Whatever is refused is refused by an RFC 9457 problem, also where nothing is declared."""
    if (
        response.status_code < 400
        or response.status_code in (412, 416)
        or response.request.method == "HEAD"
    ):
        return
    kind = response.headers.get("content-type", [""])[0]
    assert kind == "application/problem+json", f"{response.status_code} comes as {kind!r}"
    problem = json.loads(response.content)
    assert problem["status"] == response.status_code
    assert problem["code"] != "internal_error", problem


@schemathesis.check
def the_schema_is_as_strict_as_the_decoder(context: Any, response: Any, case: Any) -> None:
    """What fits the schema may be refused for what it means, but not for its form."""
    positive = case.meta is not None and case.meta.generation.mode.is_positive
    if response.status_code != 400 or response.request.method == "HEAD" or not positive:
        return
    detail = json.loads(response.content)["detail"]
    assert not _DECODER.match(detail) or _NARROWER.search(detail), detail

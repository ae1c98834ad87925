"""Secondary inputs on the command line."""

from __future__ import annotations

import pytest

from evstream.cli.secondary_options import secondary_inputs
from evstream.client.task_file import SecondaryInputs
from evstream.domain.errors import RequestError


def test_what_a_flag_says() -> None:
    texts = ["a=user:x", "b=x,y=1/*.root,per_event=2.5,offset=7,tree=T"]
    assert secondary_inputs(texts) == [
        SecondaryInputs("a", ["user:x"]),
        SecondaryInputs("b", ["x,y=1/*.root"], per_event=2.5, tree="T", offset=7),
    ]


@pytest.mark.parametrize(
    "text", ["a", "=x", "a=", "a=,tree=T", "a=x,per_event=many", "a=x,offset=1.5", "a=x,per_evnt=2"]
)
def test_what_it_cannot_say(text: str) -> None:
    with pytest.raises(RequestError, match=f"--secondary {text}"):
        secondary_inputs([text])


def test_what_looks_like_a_field_in_a_name_is_left_alone() -> None:
    for name in ("root://host//a?x=1,y=2", "run=1,part=2/x.root", "x,y=1.root"):
        assert secondary_inputs([f"a={name},per_event=1"]) == [
            SecondaryInputs("a", [name], per_event=1)
        ]

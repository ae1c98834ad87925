"""Secondary inputs, as flags say them."""

from __future__ import annotations

import re
from collections.abc import Iterable

import msgspec

from evstream.client.task_file import SecondaryInputs
from evstream.domain.errors import RequestError

_OTHER_FIELD = re.compile(r",(\w+)=(?:\d+\.\d*|\w*)$")
"""What looks like a field, and not like the rest of a file's name."""
_FIELD = re.compile(r",(per_event|tree|offset)=")


def secondary_inputs(texts: Iterable[str]) -> list[SecondaryInputs]:
    """Return secondary inputs.

    Parameters
    ----------
    texts : iterable of str
        ``NAME=INPUT``, with ``,per_event=K``, ``,tree=T`` and ``,offset=N`` behind it.

    Raises
    ------
    RequestError
    """
    found = []
    for text in texts:
        named, *fields = _FIELD.split(text)
        name, equals, source = named.partition("=")
        if not (name and equals and source):
            raise RequestError(
                f"--secondary {text} is none",
                hint="give NAME=INPUT,per_event=K, as in pileup=user:minbias,per_event=20",
            )
        if "://" not in source and (other := _OTHER_FIELD.search(source)):
            raise RequestError(
                f"--secondary {text}: there is no field {other[1]}",
                hint="behind NAME=INPUT stand per_event, tree and offset",
            )
        said = {
            "name": name,
            "inputs": [source],
            **dict(zip(fields[::2], fields[1::2], strict=True)),
        }
        try:
            # Not strict: what a flag says is text.
            found.append(msgspec.convert(said, SecondaryInputs, strict=False))
        except msgspec.ValidationError as error:
            raise RequestError(
                f"--secondary {text}: {error}", hint="per_event and offset are numbers"
            ) from error
    return found

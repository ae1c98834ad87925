"""Output streams: what a payload leaves, by name, and how it is merged."""

from __future__ import annotations

import re

from msgspec import Struct

from evstream.domain.errors import LimitError, RequestError
from evstream.domain.outputs import check_stream_name

MERGEABLE_SUFFIXES = (
    ".root",
    ".parquet",
    ".pq",
    ".h5",
    ".hdf5",
    ".lhe",
    ".lhe.gz",
    ".hepmc",
    ".hepmc.gz",
    ".hepmc2",
    ".hepmc3",
    ".hepmc2.gz",
    ".hepmc3.gz",
)
"""Of formats that can be joined; a test compares them with the formats' own."""
OUTPUT_STREAM = "output"
SUFFIX_CHARS_MAX = 32
"""With the rest of an output's name it must fit into a file's, 255 bytes."""


class OutputStream(Struct, frozen=True, forbid_unknown_fields=True):
    """One kind of output that every unit leaves.

    Attributes
    ----------
    suffix : str
        Of the file's name; it says in which format it is.
    merge : bool
        Whether the units' outputs are joined in entry order.
    """

    name: str = OUTPUT_STREAM
    suffix: str = ".root"
    merge: bool = False

    def check(self) -> None:
        """Refuse what cannot work, naming the field.

        Raises
        ------
        LimitError, RequestError
        """
        check_stream_name(self.name)
        if len(self.suffix) > SUFFIX_CHARS_MAX:
            raise LimitError(
                f"the output suffix has {len(self.suffix)} characters",
                hint=f"give one of at most {SUFFIX_CHARS_MAX}, such as .root",
                field="outputs.suffix",
            )
        if not re.fullmatch(r"(\.[A-Za-z0-9]+)+", self.suffix):
            raise RequestError(
                f"output suffix {self.suffix!r} is not one",
                hint="give one such as .root or .txt",
            )
        if self.merge and self.suffix not in MERGEABLE_SUFFIXES:
            raise RequestError(
                f"outputs in {self.suffix} cannot be merged",
                hint=f"leave --merge out, or write {', '.join(MERGEABLE_SUFFIXES)}",
            )

"""What a service in memory can read: sources, and outputs in bundles or without."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from evstream.domain.outputs import place_of


class Contents(Mapping[str, bytes]):
    """Contents by physical name, where those of outputs in bundles are parts of others.

    The mappings are not copied.
    """

    def __init__(self, *mappings: Mapping[str, bytes]) -> None:
        self._mappings = mappings

    def __getitem__(self, name: str) -> bytes:
        holder, inside = place_of(name)
        for mapping in self._mappings:
            if holder in mapping:
                whole = mapping[holder]
                return whole if inside is None else whole[inside.offset :][: inside.size]
        raise KeyError(name)

    def __iter__(self) -> Iterator[str]:
        return (name for mapping in self._mappings for name in mapping)

    def __len__(self) -> int:
        return sum(map(len, self._mappings))

"""The contract of a source of identifiers and chance."""

from __future__ import annotations

import pytest

from evstream.ports.ids import Ids
from evstream.testing.contracts.suite import Suite


class IdsContract(Suite):
    """Override `ids`."""

    @pytest.fixture
    def ids(self) -> Ids:
        """Return the source."""
        raise NotImplementedError("override ids")

    def test_an_id_is_its_prefix_and_letters_and_digits(self, ids: Ids) -> None:
        made = ids.new("lease-")
        assert made.startswith("lease-")
        assert made.removeprefix("lease-").isalnum()
        assert made.isascii()

    def test_ids_carry_sixty_random_bits(self, ids: Ids) -> None:
        made = [ids.new("") for _ in range(2000)]
        assert len(set(made)) == len(made)
        # Every place takes many values: 36 letters and digits over 12 places are 62 bits.
        assert min(map(len, made)) >= 12
        assert all(len({word[place] for word in made}) > 30 for place in range(12))

    def test_jitter_lies_in_the_unit_interval(self, ids: Ids) -> None:
        numbers = [ids.jitter() for _ in range(1000)]
        assert all(0 <= number < 1 for number in numbers)
        assert len(set(numbers)) > 900

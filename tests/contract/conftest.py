"""Asserts of the public suites explain themselves like those of test modules."""

import pytest

pytest.register_assert_rewrite("evstream.testing.contracts")

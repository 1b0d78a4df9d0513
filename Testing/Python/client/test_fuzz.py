"""A hundred damaged inputs for every reader; `make fuzz` takes 10,000."""

import pytest

from fuzz import fuzz
from readers import READERS

COUNT = 100


@pytest.fixture(scope="module")
def outcomes():
    """One child process for all readers, since loading takes longer than reading."""
    return fuzz(list(READERS), COUNT)


@pytest.mark.parametrize("name", READERS)
def test_nothing_but_a_value_or_an_input_error(outcomes, name):
    outcome = outcomes[name]
    assert not outcome.found
    assert outcome.counts["value"] + outcome.counts["InputError"] == COUNT

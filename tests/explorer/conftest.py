"""What tests of the explorer share."""

import pytest

from tests.helpers.exploring import client_of


@pytest.fixture(scope="module")
def client(explored_run):
    with client_of(explored_run) as client:
        yield client

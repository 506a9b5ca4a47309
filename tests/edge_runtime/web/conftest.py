"""What the tests of the web sink share."""

import pytest

from tests.edge_runtime.web.events import listening, web_sink


@pytest.fixture
def monitor():
    return listening()


@pytest.fixture
def sink(monitor):
    with web_sink(monitor) as opened:
        yield opened


@pytest.fixture(scope="module")
def still():
    """One for the tests that change nothing."""
    with web_sink() as opened:
        yield opened


@pytest.fixture
def ask():
    """Ask without a proxy, and without following redirects."""
    import httpx

    with httpx.Client(trust_env=False) as client:
        yield client.get

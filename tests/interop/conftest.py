"""Sites for the interop tests: Kamailio with our gateway, and with Debian's rtpengine to test the tests themselves."""

import os
from collections.abc import Iterator

import pytest

from tests.interop import peers


@pytest.fixture(scope="session", autouse=True)
def possible() -> None:
    """These tests need programs and rights that not every machine has; in CI they must run."""
    if reason := peers.missing():
        if os.environ.get("CI", "").lower() in ("1", "true"):
            pytest.fail(f"interop tests must run in CI, but {reason}")
        pytest.skip(reason)


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[peers.Site]:
    """Kamailio and our gateway."""
    yield from running(tmp_path_factory, "ours")


@pytest.fixture(scope="session")
def rtpengine_site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[peers.Site]:
    """The same with rtpengine."""
    yield from running(tmp_path_factory, "rtpengine")


def running(tmp_path_factory: pytest.TempPathFactory, gateway: str) -> Iterator[peers.Site]:
    site = peers.Site(tmp_path_factory.mktemp(gateway), gateway)
    try:
        site.start_proxy(site.network.proxy)
        site.start_proxy(site.network.forking_proxy, PBX_SECOND=f"sip:{site.network.carol}:{peers.SIP_PORT}")
        yield site
    finally:
        site.close()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]):
    """The logs of all peers go into the report of a failed test."""
    report = yield
    if report.failed:
        for value in getattr(item, "funcargs", {}).values():
            if isinstance(value, peers.Site):
                report.sections.append(("peers", value.logs()))
    return report

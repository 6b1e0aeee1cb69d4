"""Who is logged in at the proxy: named by one header of a POST, and by nothing else."""

import pytest
from starlette.requests import HTTPConnection

from mlops_assets.ml.signing import Trust, read_people
from mlops_assets.webserver import NoProxyError, Stamp, serve
from mlops_assets_tests.approving import Office, public_key, signing_key

HEADER = "X-Forwarded-Email"


def connection(*values, method="POST", kind="http"):
    headers = [(HEADER.lower().encode(), value.encode()) for value in values]
    return HTTPConnection({"type": kind, "method": method, "headers": headers})


@pytest.fixture
def stamp(tmp_path):
    return Stamp(HEADER, signing_key("webserver"), Office.open(tmp_path).ledger)


def test_the_person_is_the_one_in_the_header(stamp):
    assert stamp.person(connection("ana@example.org")) == "ana@example.org"


@pytest.mark.parametrize("values", [(), ("ana", "ben"), ("",), ("ana ben",), ("x" * 200,)])
def test_no_header_two_of_them_and_what_is_no_name_are_nobody(stamp, values):
    assert stamp.person(connection(*values)) is None


@pytest.mark.parametrize(("method", "kind"), [("GET", "http"), ("GET", "websocket")])
def test_what_a_page_elsewhere_can_make_a_browser_do_is_nobodys(stamp, method, kind):
    assert stamp.person(connection("ana", method=method, kind=kind)) is None


@pytest.mark.parametrize("given", [{}, {"MLOPS_PROXY_HEADER": HEADER}])
def test_without_a_header_and_a_key_the_server_does_not_start(monkeypatch, given):
    for name in ("MLOPS_PROXY_HEADER", "MLOPS_SIGNING_KEY"):
        monkeypatch.delenv(name, raising=False)
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(NoProxyError, match=r"Set MLOPS_PROXY_HEADER .* and MLOPS_SIGNING_KEY to a key of this server"):
        serve("127.0.0.1", 0)


def test_the_servers_key_is_that_of_nobody_who_may_approve():
    trust = Trust(keys=read_people(f"webserver {public_key('webserver')}", "people"))
    assert trust.owner(signing_key("webserver").fingerprint) == "webserver"

"""Who may ask the web sink: tokens, names and origins."""

import ipaddress
import logging
import re
import shutil
import socket
import sys
from urllib.parse import urlsplit

import pytest

from edge_runtime.config import parse_settings
from edge_runtime.doctor.settings import settings
from edge_runtime.errors import EdgeemoError, WrongUseError
from edge_runtime.sinks.web.sink import address_of, address_towards, own_addresses
from tests.command import run
from tests.conftest import need
from tests.edge_runtime.web.events import MODEL, wait_for, web_sink
from tests.events_and_takers import free_port

need("starlette", "uvicorn", "websockets", "httpx")

import httpx  # noqa: E402
from websockets.exceptions import InvalidStatus  # noqa: E402

from tests.edge_runtime.web.clients import UPGRADE, handshake, live, opened, port_of, receive  # noqa: E402

TOKEN = "a-token-for-tests-0123456789"


@pytest.fixture(scope="module")
def guarded():
    """Bound to all addresses, so that a token is needed; for tests that change nothing."""
    with web_sink(host="0.0.0.0", token=TOKEN) as opened:
        opened.address = f"http://127.0.0.1:{port_of(opened)}"
        yield opened


@pytest.mark.parametrize("path", ["/", "/static/app.js", "/api/state", "/api/events", "/metrics", "/nothing"])
def test_bound_elsewhere_everything_but_health_needs_the_token(guarded, ask, path):
    url = guarded.address + path
    wrong = ("Bearer wrong", f"Bearer {TOKEN}x", f"Basic {TOKEN}", "Bearer", b"Bearer \xff\xfe")
    cookies = ({"Cookie": f"edgeemo_{port_of(guarded)}={value}"} for value in (TOKEN, ""))
    for headers in ({}, *({"Authorization": each} for each in wrong), *cookies):
        answer = ask(url, headers=headers)
        assert answer.status_code == 401, headers
        assert answer.headers["www-authenticate"] == "Bearer"
        assert MODEL not in answer.text
    right = ask(url, headers={"Authorization": f"Bearer {TOKEN}"})
    assert right.status_code == (404 if path == "/nothing" else 200)
    healthy = ask(f"{guarded.address}/healthz")
    assert healthy.status_code == 200
    assert set(healthy.json()) == {"status", "loop_age_seconds"}


def test_a_link_with_the_token_sets_a_cookie_and_leaves_the_address_clean(guarded):
    with httpx.Client(trust_env=False, base_url=guarded.address) as browser:
        assert browser.get("/", params={"token": "wrong"}).status_code == 401
        assert browser.get("/api/state", params={"token": TOKEN}).status_code == 401
        known = browser.get("/", params={"token": TOKEN, "x": "1"})
        assert known.status_code == 303
        assert known.headers["location"] == "./?x=1"
        cookie = known.headers["set-cookie"]
        assert "HttpOnly" in cookie
        assert "SameSite=Strict" in cookie
        assert TOKEN not in cookie
        assert browser.get("/").status_code == 200
        assert browser.get("/api/state").status_code == 200
        (value,) = (f"{name}={value}" for name, value in browser.cookies.items())
    with live(guarded, Cookie=value) as client:
        receive(client, "hello")
    with live(guarded, Authorization=f"Bearer {TOKEN}") as client:
        receive(client, "hello")
    for headers in ({}, {"Authorization": "Bearer wrong"}, {"Cookie": value + "0"}):
        with pytest.raises(InvalidStatus) as refused, live(guarded, **headers):
            pass
        assert refused.value.response.status_code == 403


def test_a_browser_without_token_gets_a_form_for_it(guarded, ask):
    for path in ("", "/metrics"):
        answer = ask(guarded.address + path, headers={"Accept": "text/html,*/*"})
        assert answer.status_code == 401
        assert '<input name="token"' in answer.text
    assert "Bearer TOKEN" in ask(f"{guarded.address}/metrics").text


def test_a_random_token_is_printed_once(capfd, ask, monitor, caplog):
    caplog.set_level(logging.DEBUG)
    with web_sink(monitor, host="0.0.0.0") as sink:
        printed = capfd.readouterr().err
        (token,) = set(re.findall(r"\?token=([\w-]{32,})", printed))
        url = f"http://127.0.0.1:{port_of(sink)}"
        assert ask(url).status_code == 401
        assert ask(url, params={"token": token}).status_code == 303
        assert ask(url, headers={"Authorization": f"Bearer {token}"}).status_code == 200
    after = capfd.readouterr()
    assert token not in after.err + after.out
    # What the client of this test itself logs aside.
    assert not [each for each in caplog.records if token in each.getMessage() and each.name.startswith("uvicorn")]
    with web_sink(monitor, host="0.0.0.0") as another:
        assert token not in capfd.readouterr().err
        assert ask(f"http://127.0.0.1:{port_of(another)}", params={"token": token}).status_code == 401


def test_a_given_token_is_not_printed(capfd):
    with web_sink(host="0.0.0.0", token=TOKEN):
        printed = capfd.readouterr()
    assert "web page: http://" in printed.err
    assert TOKEN not in printed.err + printed.out
    assert "?token" not in printed.err + printed.out


def test_the_token_may_stand_in_a_file(tmp_path, ask, monitor):
    path = tmp_path / "token"
    path.write_text(f"{TOKEN}\nsecond line\n")
    # A configured token is needed on this machine too.
    with web_sink(monitor, token_file=path) as sink:
        assert ask(sink.address).status_code == 401
        assert ask(sink.address, headers={"Authorization": f"Bearer {TOKEN}"}).status_code == 200
    with pytest.raises(EdgeemoError, match="cannot be read"), web_sink(token_file=tmp_path / "none"):
        pass
    for bad in ("", "\n", "two words", "töken"):
        path.write_text(bad, encoding="utf-8")
        with pytest.raises(WrongUseError, match="ASCII"), web_sink(token_file=path):
            pass
    with pytest.raises(WrongUseError, match="ASCII"), web_sink(token=""):
        pass


def test_a_token_and_a_file_with_one_are_refused_in_the_settings():
    sink = {"kind": "web", "token": TOKEN, "token_file": "web-token"}
    with pytest.raises(WrongUseError, match="give token or token_file, not both") as refused:
        parse_settings({"sinks": [sink]}, "edge.toml")
    assert TOKEN not in refused.value.message


def test_a_token_that_can_be_guessed_is_refused_beyond_this_machine(tmp_path, ask):
    path = tmp_path / "token"
    path.write_text("fifteen-letters")
    for given in ({"token": "fifteen-letters"}, {"token_file": path}):
        port = free_port()
        sink = web_sink(host="0.0.0.0", port=port, **given)
        with pytest.raises(WrongUseError, match=r"has 15 characters.* it needs 16") as refused, sink:
            pass
        assert "fifteen" not in refused.value.message
        # Nothing listens there.
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port))
        with web_sink(**given) as sink:
            assert ask(sink.address, headers={"Authorization": "Bearer fifteen-letters"}).status_code == 200
    with web_sink(host="0.0.0.0", token="sixteen--letters"):
        pass


@pytest.mark.parametrize(
    ("host", "token", "refused"),
    [("0.0.0.0", "fifteen-letters", True), ("0.0.0.0", TOKEN, False), ("127.0.0.1", "fifteen-letters", False)],
)
def test_doctor_finds_a_token_that_would_be_refused(tmp_path, host, token, refused):
    path = tmp_path / "edge.toml"
    path.touch()
    (tmp_path / "token").write_text(token)
    (tmp_path / "token").chmod(0o600)
    for given in ({"token": token}, {"token_file": tmp_path / "token"}):
        content = parse_settings({"sinks": [{"kind": "web", "host": host, **given}]}, str(path))
        bad = [each for each in settings(path, content, None) if "sink 1" in each.what and each.state == "missing"]
        assert ["it needs 16" in each.found for each in bad] == [True] * refused
        assert token not in repr(bad)


@pytest.mark.parametrize(
    ("host", "token", "warned"), [("0.0.0.0", TOKEN, 1), ("0.0.0.0", None, 1), ("127.0.0.1", TOKEN, 0)]
)
def test_plain_http_on_the_network_is_warned_of_once(capfd, host, token, warned):
    with web_sink(host=host, token=token):
        printed = capfd.readouterr().err
    assert printed.count("plain HTTP") == warned
    assert printed.count("\n") == printed.count("web page: http://") + warned


def test_bound_to_all_addresses_it_prints_each_of_them(capfd, ask):
    """A phone may not know the name that this machine has for itself."""
    with web_sink(host="0.0.0.0") as sink:
        *numbered, named = re.findall(r"web page: (http://\S+)", capfd.readouterr().err)
        assert named.startswith(f"http://{socket.gethostname()}:{port_of(sink)}/?token=")
        known = own_addresses(socket.AF_INET)
        assert [urlsplit(each).hostname for each in numbered] == known
        for each in numbered:
            assert ask(each).status_code == 303


def test_addresses_are_those_that_other_machines_can_use():
    known = own_addresses(socket.AF_INET)
    assert len(known) == len(set(known))
    for each in known:
        assert not ipaddress.ip_address(each).is_loopback
        with socket.create_server((each, 0)):
            pass
    assert address_of("lo") in (None, "127.0.0.1")
    for each in own_addresses(socket.AF_INET6):
        assert not ipaddress.ip_address(each).is_link_local


def test_a_machine_without_network_has_no_addresses():
    """Datagrams to all may not be sent without asking for it, which fails as a network that is not there does."""
    assert address_towards("255.255.255.255", socket.AF_INET) is None
    assert address_of("no-such-one") is None
    alone = ["unshare", "--map-root-user", "--net", sys.executable, "-c"]
    if shutil.which("unshare") is None or run(*alone, "").returncode:
        # Containers seldom may; what fails there was looked at above.
        return
    code = "import socket; from edge_runtime.sinks.web.sink import own_addresses as own; "
    code += "print(own(socket.AF_INET), own(socket.AF_INET6))"
    assert run(*alone, code, check=True).stdout == "[] []\n"


@pytest.mark.parametrize("host", ["evil.example:80", "127.0.0.1.evil.example", "[::2]:1", "[", "0.0.0.0"])
def test_a_name_made_to_point_at_this_machine_is_refused(still, ask, host):
    for path in ("/", "/api/state", "/healthz", "/static/app.js"):
        assert ask(still.address + path, headers={"Host": host}).status_code == 403
    assert ask(f"{still.address}/ws", headers=UPGRADE | {"Host": host}).status_code == 403
    with socket.create_connection(("127.0.0.1", port_of(still))) as raw:
        raw.sendall(handshake("localhost"))
        assert raw.recv(12) == b"HTTP/1.1 101"


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:1", "127.0.0.1:9", "[::1]:8765"])
def test_names_of_this_machine_are_taken(still, ask, host):
    assert ask(still.address, headers={"Host": host}).status_code == 200


def test_pages_of_other_sites_cannot_open_the_websocket(sink, guarded):
    for each, headers in ((sink, {}), (guarded, {"Authorization": f"Bearer {TOKEN}"})):
        port = port_of(each)
        for origin in ("http://evil.example", "null", f"http://127.0.0.1:{port + 1}", f"http://127.0.0.1:{port}.evil"):
            with pytest.raises(InvalidStatus) as refused, live(each, Origin=origin, **headers):
                pass
            assert refused.value.response.status_code == 403
        with live(each, Origin=each.address, **headers) as client:
            receive(client, "hello")


def test_a_refused_websocket_does_not_stay(guarded):
    with opened(guarded, handshake("localhost")) as refused:
        refused.settimeout(5)
        assert b"".join(iter(lambda: refused.recv(65536), b"")).startswith(b"HTTP/1.1 403")
        wait_for(lambda: not guarded._server._uvicorn.server_state.connections, 5)

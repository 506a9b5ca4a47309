"""The page behind a real nginx: under a path, by another name, with the examples of the document, and in a browser."""

import re
import time
from pathlib import Path

import pytest

from edge_runtime.config import WebSink
from edge_runtime.sinks.web.server import IDLE_SECONDS
from tests.browser import chromium
from tests.conftest import ROOT, need
from tests.edge_runtime.web.events import MODEL, emotion, web_sink
from tests.edge_runtime.web.proxies import nginx

need("starlette", "uvicorn", "websockets", "httpx", "playwright")

from playwright.sync_api import expect  # noqa: E402
from websockets.exceptions import InvalidStatus  # noqa: E402
from websockets.sync.client import connect  # noqa: E402

from tests.edge_runtime.web.clients import port_of, receive  # noqa: E402

SECTION = Path(ROOT, "edge_runtime", "LISTENING.md").read_text("utf-8").partition("\n## Behind a proxy\n")[2]
SECTION = SECTION.partition("\n## ")[0]
EXAMPLES = re.findall(r"```nginx\n(.*?)```", SECTION, re.DOTALL)
INGRESS = "/api/hassio_ingress/x7Qd-9_vR2mT/"
TOKEN = "a-token-for-tests-0123456789"
# As Home Assistant's core and supervisor do: https://github.com/home-assistant/core, components/hassio/ingress.py.
HOME_ASSISTANT = f"""
location {INGRESS} {{
    proxy_pass http://127.0.0.1:8765/;
    proxy_http_version 1.1;
    proxy_set_header Upgrade $http_upgrade;
    proxy_set_header Connection "upgrade";
    proxy_set_header Host $http_host;
    proxy_set_header X-Forwarded-Host $http_host;
    proxy_set_header X-Ingress-Path {INGRESS};
}}
location = /frame {{
    default_type text/html;
    return 200 '<iframe src="{INGRESS}" width="900" height="900"></iframe>';
}}
location = /favicon.ico {{ return 204; }}
location = /other {{
    default_type text/html;
    return 200 '<iframe src="http://ha.localhost:$server_port{INGRESS}"></iframe>';
}}
"""
PLAIN = "location /edgeemo/ { proxy_pass http://127.0.0.1:8765/; }"


def to(sink, locations):
    assert "127.0.0.1:8765" in locations
    return locations.replace("127.0.0.1:8765", f"127.0.0.1:{port_of(sink)}")


@pytest.fixture(scope="module")
def browser():
    with chromium() as opened:
        yield opened


@pytest.fixture
def look(browser):
    """Open a page, and return it with the texts of its errors."""
    contexts = []

    def open_page(url):
        contexts.append(browser.new_context())
        page, errors = contexts[-1].new_page(), []
        page.on("console", lambda message: errors.append(message.text))
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.goto(url)
        return page, errors

    yield open_page
    for context in contexts:
        context.close()


@pytest.fixture
def local():
    """A sink on this machine, which a proxy reaches as localhost."""
    with web_sink(allowed_hosts=("edge.localhost",)) as opened:
        yield opened


def test_the_document_has_the_examples():
    assert [example.split()[0] for example in EXAMPLES] == ["location", "server"]
    assert "reverse_proxy 127.0.0.1:8765" in SECTION
    assert str(WebSink().port) == "8765"


def test_under_a_path_by_another_name(local, look, tmp_path):
    """With nginx' buffering, as it is by default."""
    with nginx(tmp_path, to(local, EXAMPLES[0])) as port:
        page, errors = look(f"http://edge.localhost:{port}/edgeemo/")
        expect(page.locator("#connection-text")).to_have_text("Live")
        local.emit(emotion("final", 1.0, 3.0, "sad"))
        expect(page.locator("#emotion-label")).to_have_text("sad", timeout=2_000)
        expect(page.locator("header img")).to_have_js_property("complete", True)
        # Longer than any limit on idle connections.
        page.wait_for_timeout((IDLE_SECONDS + 1) * 1000)
        local.emit(emotion("final", 4.0, 6.0, "happy"))
        expect(page.locator("#emotion-label")).to_have_text("happy", timeout=2_000)
        assert page.url == f"http://edge.localhost:{port}/edgeemo/"
        # nginx adds the slash that the addresses are relative to.
        page.goto(f"http://edge.localhost:{port}/edgeemo")
        expect(page.locator("#connection-text")).to_have_text("Live")
    assert errors == []


def test_events_are_not_held_back(local, tmp_path):
    with nginx(tmp_path, to(local, EXAMPLES[0])) as port:
        origin = f"http://edge.localhost:{port}"
        with connect(f"ws://127.0.0.1:{port}/edgeemo/ws", additional_headers={"Origin": origin}, proxy=None) as client:
            receive(client, "hello")
            for number in range(3):
                began = time.monotonic()
                local.emit(emotion("final", number, number + 1))
                assert receive(client, "final")["start"] == number
                assert time.monotonic() - began < 1
        # The name of the proxy is no leave for other sites.
        for other in ("http://evil.example", "http://xedge.localhost", "null", "http://["):
            headers = {"Origin": other}
            with (
                pytest.raises(InvalidStatus, match="403"),
                connect(f"ws://127.0.0.1:{port}/edgeemo/ws", additional_headers=headers, proxy=None),
            ):
                pass


def test_names_that_are_not_allowed_are_refused_with_the_next_step(local, tmp_path, ask):
    with nginx(tmp_path, to(local, EXAMPLES[0])) as port:
        for host, status in (("evil.example", 403), ("edge.localhost", 200), ("EDGE.localhost:80", 200)):
            answer = ask(f"http://127.0.0.1:{port}/edgeemo/api/state", headers={"Host": host})
            assert answer.status_code == status
        refused = ask(f"http://127.0.0.1:{port}/edgeemo/", headers={"Host": "evil.example"})
        assert "add the name to allowed_hosts" in refused.text
        # A page of another site, whose name resolves to this machine, can send this header, and is refused.
        both = {"Host": "evil.example", "X-Forwarded-Host": "edge.localhost"}
        assert ask(f"{local.address}/api/state", headers=both).status_code == 403


def test_a_proxy_that_keeps_the_websocket_is_reported(local, look, tmp_path):
    with nginx(tmp_path, to(local, PLAIN)) as port:
        page, _ = look(f"http://edge.localhost:{port}/edgeemo/")
        expect(page.locator("#connection-text")).to_contain_text("does not pass on the WebSocket", timeout=20_000)


def test_the_token_under_a_path(look, tmp_path):
    with (
        web_sink(host="0.0.0.0", token=TOKEN) as sink,
        nginx(tmp_path, to(sink, HOME_ASSISTANT)) as port,
    ):
        home = f"http://ha.localhost:{port}{INGRESS}"
        page, _ = look(f"{home}api/state")
        page.get_by_label("Token").fill(TOKEN)
        page.get_by_role("button").click()
        expect(page.locator("#connection-text")).to_have_text("Live")
        assert page.url == home
        (cookie,) = page.context.cookies()
        # Nothing else of Home Assistant receives it.
        assert cookie["path"] == INGRESS.rstrip("/")
        page, _ = look(f"{home}?token={TOKEN}")
        expect(page.locator("#connection-text")).to_have_text("Live")
        assert page.url == home


def test_home_assistants_ingress_in_a_frame(look, tmp_path):
    """The nginx of the document in the add-on, and one that does what Home Assistant does before it."""
    (tmp_path / "add-on").mkdir()
    (tmp_path / "home").mkdir()
    with web_sink() as sink:
        inside = re.search(r"location.*\}\n(?=\})", EXAMPLES[1], re.DOTALL).group()
        with (
            nginx(tmp_path / "add-on", f"allow 127.0.0.1; deny all; {to(sink, inside)}") as port,
            nginx(tmp_path / "home", HOME_ASSISTANT.replace("127.0.0.1:8765", f"127.0.0.1:{port}")) as home,
        ):
            page, errors = look(f"http://ha.localhost:{home}/frame")
            frame = page.frame_locator("iframe")
            expect(frame.locator("#connection-text")).to_have_text("Live")
            sink.emit(emotion("final", 1.0, 3.0, "sad"))
            expect(frame.locator("#emotion-label")).to_have_text("sad", timeout=2_000)
            expect(frame.locator("#device")).to_contain_text(MODEL)
            assert errors == []
            # A page of another site cannot frame it.
            page.goto(f"http://other.localhost:{home}/other")
            expect(page.frame_locator("iframe").locator("#connection-text")).to_have_count(0)
            assert any("frame-ancestors" in error for error in errors)


@pytest.mark.parametrize("name", ["http://edge.example", "edge.example:443", "*", "", "a b"])
def test_what_is_no_host_name(name):
    with pytest.raises(ValueError, match="must be host names without http:// and port"):
        WebSink(allowed_hosts=(name,))

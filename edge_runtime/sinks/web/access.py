"""Access to the web page: its token, the check of every request, and the security headers of every response."""

from __future__ import annotations

import hmac
from collections.abc import Collection
from urllib.parse import urlencode, urlsplit

from starlette.datastructures import Headers, MutableHeaders, QueryParams
from starlette.requests import cookie_parser
from starlette.responses import HTMLResponse, PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from edge_runtime import config
from edge_runtime.errors import EdgeemoError, WrongUseError

COOKIE_DAYS = 30
SHORTEST = 16
"""Minimum length of a token for access over the network; 16 random letters and digits are some 95 bits."""
OPEN_PATH = "/healthz"
# Framed by pages of the same origin only, as by Home Assistant with its ingress.
SECURITY_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
        "form-action 'self'; base-uri 'none'; frame-ancestors 'self'; require-trusted-types-for 'script'; "
        "trusted-types 'none'"
    ),
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "SAMEORIGIN",
}
# Without style and script, which need the token too.
_TOKEN_FORM = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>edgeemo: token needed</title>
<h1>This page needs its token</h1>
<p>Open the address that was printed when <code>edgeemo listen</code> started, or enter the token: it is in that
address, or in the settings.</p>
<form action="{root}"><label>Token <input name="token" type="password" autocomplete="current-password" required></label>
<button>Open</button></form>
<p>Did you follow a link with the token? Then <a href="{root}">open the page</a>: the browser has the token now.</p>
</html>
"""
_TOKEN_TEXT = (
    "The token is missing or wrong. In a browser, open the address that was printed at start, or enter the token; "
    "a program sends it as 'Authorization: Bearer TOKEN'.\n"
)


_HOST_TEXT = (
    "This host name is not accepted; use http://127.0.0.1 and the port. Behind a proxy, add the name to allowed_hosts "
    "of the web sink in the settings.\n"
)


class Token:
    """Compares a token from a request with the expected one, in constant time.

    A browser keeps a cookie derived from the token, not the token itself; the port is in its name, since browsers share
    cookies between all ports of a host.
    """

    def __init__(self, text: str, port: int) -> None:
        self._text = text
        self._cookie = hmac.digest(text.encode(), b"edgeemo page", "sha256").hex()
        self._cookie_name = f"edgeemo_{port}"

    def matches(self, candidate: str) -> bool:
        """Return whether a text is the token."""
        return _same(candidate, self._text)

    def is_in(self, headers: Headers) -> bool:
        """Return whether a request has ``Authorization: Bearer TOKEN`` or the cookie."""
        kind, _, credentials = headers.get("authorization", "").partition(" ")
        if kind.lower() == "bearer" and self.matches(credentials.strip()):
            return True
        return _same(cookie_parser(headers.get("cookie", "")).get(self._cookie_name, ""), self._cookie)

    @property
    def set_cookie(self) -> str:
        """The ``Set-Cookie`` header; scripts cannot read the cookie, and other sites' requests do not carry it.

        Without a path, which is that of a proxy, unknown here: browsers take the one of the page.
        """
        seconds = COOKIE_DAYS * 24 * 3600
        return f"{self._cookie_name}={self._cookie}; HttpOnly; SameSite=Strict; Max-Age={seconds}"


def configured_token(settings: config.WebSink, *, loopback: bool) -> str | None:
    """Return the token of the settings; None if there is none.

    Where others than this machine can reach the server, a short token is refused, since guesses are not counted.

    Raises:
        EdgeemoError: the file cannot be read.
        WrongUseError: the token is empty, not printable ASCII, or too short.
    """
    if settings.token_file:
        try:
            text = settings.token_file.read_text(encoding="utf-8", errors="replace").partition("\n")[0].strip()
        except OSError as error:
            raise EdgeemoError(f"{settings.token_file}: cannot be read ({error.strerror})") from error
    elif settings.token is not None:
        text = settings.token.get_secret_value()
    else:
        return None
    if not text or not text.isascii() or not text.isprintable() or " " in text:
        where = settings.token_file or "the web sink's token"
        raise WrongUseError(f"{where}: a token is made of ASCII characters without spaces, and not empty")
    if len(text) < SHORTEST and not loopback:
        raise WrongUseError(
            f"the web page's token has {len(text)} characters; for access over the network it needs {SHORTEST} "
            "(without a token in the settings, a random one is used)"
        )
    return text


def _same(candidate: str, wanted: str) -> bool:
    return hmac.compare_digest(candidate.encode(errors="replace"), wanted.encode())


class Guard:
    """Refuses requests without access, and adds the security headers to every response.

    Without a token, only this machine may reach the server, and only by certain names: with DNS rebinding, a page of
    another site has its name resolve to this machine.

    Args:
        app: what is guarded.
        token: what requests need; None for no token.
        hosts: host names that requests may have; None for any.
        proxies: names by which browsers reach a proxy in front of the server, in lower case; added to ``hosts``.
    """

    def __init__(
        self, app: ASGIApp, token: Token | None, hosts: Collection[str] | None, proxies: Collection[str] = ()
    ) -> None:
        self._app = app
        self._token = token
        self._hosts = None if hosts is None else {*hosts, *proxies}
        self._proxies = proxies

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        headers = Headers(scope=scope)
        if scope["type"] == "websocket":
            if self._socket_allowed(headers):
                await self._app(scope, receive, send)
            else:
                # Before the WebSocket is accepted, this becomes a response with status 403.
                await send({"type": "websocket.close", "code": 1008})
            return

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(SECURITY_HEADERS)
            await send(message)

        answer = self._refusal(scope, headers) or self._app
        await answer(scope, receive, send_guarded)

    def _socket_allowed(self, headers: Headers) -> bool:
        # Browsers let a page of any site open a WebSocket here, with the cookie; Origin names the site.
        return (
            self._same_site(headers)
            and self._host_allowed(headers)
            and (self._token is None or self._token.is_in(headers))
        )

    def _same_site(self, headers: Headers) -> bool:
        origin = headers.get("origin")
        if origin is None:
            return True
        # Scripts cannot set headers of a WebSocket, so X-Forwarded-Host is from a proxy.
        here = {headers.get(name, "").lower() for name in ("host", "x-forwarded-host")}
        try:
            # An opaque origin, "null", has neither.
            site = urlsplit(origin)
            return bool(site.netloc) and (site.netloc.lower() in here or site.hostname in self._proxies)
        except ValueError:
            return False

    def _host_allowed(self, headers: Headers) -> bool:
        if self._hosts is None:
            return True
        try:
            return urlsplit(f"//{headers.get('host', '')}").hostname in self._hosts
        except ValueError:
            return False

    def _refusal(self, scope: Scope, headers: Headers) -> Response | None:
        if not self._host_allowed(headers):
            return PlainTextResponse(_HOST_TEXT, 403)
        if self._token is None or scope["path"] == OPEN_PATH:
            return None
        query = QueryParams(scope["query_string"])
        if scope["path"] == "/" and self._token.matches(query.get("token", "")):
            # Removes the token from the address bar and the history.
            rest = urlencode([(key, value) for key, value in query.multi_items() if key != "token"])
            redirect = RedirectResponse(f"./?{rest}" if rest else "./", 303)
            redirect.headers["Set-Cookie"] = self._token.set_cookie
            redirect.headers["Cache-Control"] = "no-store"
            return redirect
        if self._token.is_in(headers):
            return None
        refused = {"WWW-Authenticate": "Bearer", "Cache-Control": "no-store"}
        # Browsers accept HTML where a person reads the response, whatever the path.
        if "text/html" in headers.get("accept", ""):
            # Relative, since a proxy may serve the page under a path.
            root = "../" * (scope["path"].count("/") - 1) or "./"
            return HTMLResponse(_TOKEN_FORM.format(root=root), 401, refused)
        return PlainTextResponse(_TOKEN_TEXT, 401, refused)

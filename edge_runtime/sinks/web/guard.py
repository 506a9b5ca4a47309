"""Stands before every request: who may ask, and what a browser may do with the answer."""

from __future__ import annotations

from collections.abc import Collection
from urllib.parse import urlencode, urlsplit

from starlette.datastructures import Headers, MutableHeaders, QueryParams
from starlette.responses import HTMLResponse, PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from edge_runtime.sinks.web.auth import Token

OPEN_PATH = "/healthz"
"""What is told to everybody."""
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; form-action 'self'; "
    "base-uri 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
)
SECURITY_HEADERS = {
    "Content-Security-Policy": POLICY,
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
# Without style and script: those are behind the token too.
_ASK = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>edgeemo: token needed</title>
<h1>This page needs its token</h1>
<p>Open the address that was printed when <code>edgeemo listen</code> started, or enter the token: it is in that
address, or in the settings.</p>
<form action="/"><label>Token <input name="token" type="password" autocomplete="current-password" required></label>
<button>Open</button></form>
<p>Followed a link that has the token in it? Then <a href="/">open the page</a>: it is known by now.</p>
</html>
"""
_TELL = (
    "The token is missing or wrong. In a browser, open the address that was printed at start, or enter the token; "
    "a program sends it as 'Authorization: Bearer TOKEN'.\n"
)


class Guard:
    """Refuses who may not ask, and sets the security headers of what is answered.

    Args:
        app: what answers those who may.
        token: what to ask for; None where this machine alone can reach us.
        hosts: names that we may be called by; None for any. A page of another site whose name was made to point at this
            machine (DNS rebinding) calls us by that name.
    """

    def __init__(self, app: ASGIApp, token: Token | None, hosts: Collection[str] | None) -> None:
        self._app = app
        self._token = token
        self._hosts = hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        headers = Headers(scope=scope)
        if scope["type"] == "websocket":
            if self._socket_allowed(headers):
                await self._app(scope, receive, send)
            else:
                # Before it is accepted, this becomes an answer with status 403.
                await send({"type": "websocket.close", "code": 1008})
            return

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(SECURITY_HEADERS)
            await send(message)

        answer = self._refusal(scope, headers) or self._app
        await answer(scope, receive, send_guarded)

    def _socket_allowed(self, headers: Headers) -> bool:
        # Browsers let a page of any site open a WebSocket to us, with our cookie, and say in Origin whose page it is.
        origin = headers.get("origin")
        ours = origin is None or urlsplit(origin).netloc.lower() == headers.get("host", "").lower()
        return ours and self._host_allowed(headers) and (self._token is None or self._token.shown_in(headers))

    def _host_allowed(self, headers: Headers) -> bool:
        if self._hosts is None:
            return True
        try:
            return urlsplit(f"//{headers.get('host', '')}").hostname in self._hosts
        except ValueError:
            return False

    def _refusal(self, scope: Scope, headers: Headers) -> Response | None:
        if not self._host_allowed(headers):
            return PlainTextResponse("This server is not known by that name; use http://127.0.0.1 and the port.\n", 403)
        if self._token is None or scope["path"] == OPEN_PATH:
            return None
        query = QueryParams(scope["query_string"])
        if scope["path"] == "/" and self._token.is_(query.get("token", "")):
            # Out of the address bar, the history and what a person copies from there.
            rest = urlencode([(key, value) for key, value in query.multi_items() if key != "token"])
            known = RedirectResponse(f"/?{rest}" if rest else "/", 303)
            known.headers["Set-Cookie"] = self._token.set_cookie
            known.headers["Cache-Control"] = "no-store"
            return known
        if self._token.shown_in(headers):
            return None
        more = {"WWW-Authenticate": "Bearer", "Cache-Control": "no-store"}
        # Browsers ask for markup where a person looks, whatever the path.
        if "text/html" in headers.get("accept", ""):
            return HTMLResponse(_ASK, 401, more)
        return PlainTextResponse(_TELL, 401, more)

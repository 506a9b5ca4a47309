"""The token that a page has to show, and where one comes from."""

from __future__ import annotations

import hashlib
import hmac
import secrets

from starlette.datastructures import Headers
from starlette.requests import cookie_parser

from edge_runtime import config
from edge_runtime.errors import EdgeemoError, WrongUseError

COOKIE_DAYS = 30
SHORTEST = 16
"""Characters of a token that is asked for beyond this machine; 16 random letters and digits are some 95 bits."""
_MADE_UP_BYTES = 24


class Token:
    """Compares what was shown with the token, in the same time whatever was shown.

    A browser shows a cookie that is made from the token, so that the token itself is kept nowhere.

    Args:
        text: the token.
        port: of the server; a browser keeps one set of cookies for all ports of a host.
    """

    def __init__(self, text: str, port: int) -> None:
        self._text = text
        self._cookie = hmac.digest(text.encode(), b"edgeemo page", "sha256").hex()
        self._cookie_name = f"edgeemo_{port}"

    def is_(self, shown: str) -> bool:
        """Return whether this is the token."""
        return _same(shown, self._text)

    def shown_in(self, headers: Headers) -> bool:
        """Return whether a request shows it: ``Authorization: Bearer TOKEN``, or our cookie."""
        kind, _, shown = headers.get("authorization", "").partition(" ")
        if kind.lower() == "bearer" and self.is_(shown.strip()):
            return True
        return _same(cookie_parser(headers.get("cookie", "")).get(self._cookie_name, ""), self._cookie)

    @property
    def set_cookie(self) -> str:
        """The header that has a browser keep it: not for scripts, not for what other sites start."""
        seconds = COOKIE_DAYS * 24 * 3600
        return f"{self._cookie_name}={self._cookie}; HttpOnly; SameSite=Strict; Path=/; Max-Age={seconds}"


def given_token(settings: config.WebSink) -> str | None:
    """Return the token of the settings, if there is one.

    Raises:
        EdgeemoError: the file cannot be read.
        WrongUseError: it holds none, or one that no header can carry.
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
    return text


def refuse_short(token: str) -> None:
    """Refuse a token that can be guessed, where the network can ask: nothing counts the guesses.

    Refused rather than warned of, since a service that starts goes on for weeks, and nobody reads what it said first.

    Raises:
        WrongUseError: it is too short.
    """
    if len(token) < SHORTEST:
        raise WrongUseError(
            f"the web page's token has {len(token)} characters; where the network can ask for it, it needs {SHORTEST} "
            "(leave it out, and one is made up)"
        )


def made_up_token() -> str:
    """Return a new token that nobody can guess."""
    return secrets.token_urlsafe(_MADE_UP_BYTES)


def _same(shown: str, wanted: str) -> bool:
    # Of the same length first: a comparison of different lengths would tell the length by its time.
    first, second = (hashlib.sha256(text.encode(errors="replace")).digest() for text in (shown, wanted))
    return hmac.compare_digest(first, second)

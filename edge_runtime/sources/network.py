"""Audio at an address: ``http://``, ``https://`` and ``rtsp://``, through PyAV."""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import urlsplit

from edge_runtime.errors import EdgeemoError, MissingPartError, WrongUseError
from edge_runtime.extras import missing_modules
from edge_runtime.sources.background import BackgroundSource
from edge_runtime.sources.channel_setting import Channels
from edge_runtime.sources.conversion import converted
from edge_runtime.sources.decoding import pyav
from edge_runtime.sources.decoding.ledger import Frames, Ledger
from edge_runtime.sources.decoding.plausible import check_format, sane
from edge_runtime.sources.interface import Block

SCHEMES = ("http://", "https://", "rtsp://")


class NetworkSource(BackgroundSource):
    """A file, a radio station or a camera at an address.

    A camera (``rtsp://``) is live: it does not wait for its listener. A password in the address is in no message.

    Args:
        address: of the audio.
        channels: which channels are used.

    Raises:
        WrongUseError: the address names no host.
        MissingPartError: the extra ``decode`` is not installed.
    """

    def __init__(self, address: str, *, channels: Channels = "auto") -> None:
        name = _checked(address)
        super().__init__(name, live=address.lower().startswith("rtsp://"))
        if missing_modules("decode"):
            raise MissingPartError(
                f'{name}: needs an extra; run: pip install "edgeemo[decode]", or decode it with: '
                "ffmpeg -i ADDRESS -f wav - | edgeemo listen --source -"
            )
        self._address = address
        self._channels = channels

    def _read(self) -> Iterator[Block]:
        ledger = Ledger()
        yield from converted(self._frames(ledger), ledger, self.name, self._channels)
        if self._closed:
            return
        ledger.check(self.name)
        if not ledger.decoded:
            raise EdgeemoError(f"{self.name}: holds no samples; check the address")

    def _frames(self, ledger: Ledger) -> Iterator[Frames]:
        form = (0, 0)
        for each in sane(pyav.decode_address(self._address, self.name, ledger), ledger):
            if self._closed:
                return
            if form != (found := (each.rate, each.samples.shape[1])):
                check_format(self.name, *found)
                form = found
            ledger.decoded += len(each.samples) / each.rate
            yield each


def without_password(uri: str) -> str:
    """Return a source without user, password and query, where it is an address, of any scheme; any other as it is."""
    if uri.lower().startswith(SCHEMES):
        return _checked(uri)
    scheme, found, rest = uri.partition("://")
    if not found or scheme.lower() in ("mic", "file"):
        return uri
    return f"{scheme}://{rest.rpartition('@')[2].partition('?')[0]}"


def _checked(address: str) -> str:
    try:
        parts = urlsplit(address)
        host, port = parts.hostname, parts.port
    except ValueError:
        # The error quotes what it takes for host and port, which may be a password.
        raise WrongUseError(
            "--source: the address cannot be read; write it as http://HOST/FILE, and '/', '#', '?' and '@' of a "
            "password as %2F, %23, %3F and %40"
        ) from None
    if not host:
        raise WrongUseError("--source: the address names no host; write it as http://HOST/FILE")
    place = f"[{host}]" if ":" in host else host
    return f"{parts.scheme}://{place}{f':{port}' if port else ''}{parts.path}"

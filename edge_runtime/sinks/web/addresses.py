"""The addresses that other machines reach this one by, as the system knows them: nobody is asked."""

from __future__ import annotations

import socket
import struct
from contextlib import suppress

_BEYOND: dict[int, str] = {socket.AF_INET: "192.0.2.1", socket.AF_INET6: "2001:db8::1"}
"""Documentation's own addresses (RFC 5737, RFC 3849), which stand for anything beyond this network."""
_ANY_PORT = 9
_SIOCGIFADDR = 0x8915
_ADDRESS = slice(20, 24)
"""Where `struct ifreq` holds an IPv4 address: after 16 bytes of a name, 2 of a family and 2 of a port."""


def own_addresses(family: int) -> list[str]:
    """Return this machine's addresses of a family, the one that it goes out by first; none where it has none.

    Those of further networks, such as an access point of its own, are known of IPv4 on Linux only.
    """
    found = [address_towards(_BEYOND[family], family)]
    if family == socket.AF_INET:
        with suppress(OSError):
            found += [address_of(name) for _, name in socket.if_nameindex()]
    # Links cannot hold link-local IPv6 addresses, which need the interface beside them.
    return [each for each in dict.fromkeys(found) if each and not each.startswith(("127.", "::1", "fe80:"))]


def address_towards(destination: str, family: int) -> str | None:
    """Return the address that datagrams to a destination would come from; none is sent."""
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect((destination, _ANY_PORT))
            return str(probe.getsockname()[0])
    except OSError:
        return None


def address_of(interface: str) -> str | None:
    """Return the IPv4 address of a network interface, where the system tells it."""
    try:
        import fcntl

        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            told = fcntl.ioctl(probe, _SIOCGIFADDR, struct.pack("256s", interface.encode()[:15]))
    except (ImportError, OSError):
        return None
    return socket.inet_ntoa(told[_ADDRESS])

"""Which network addresses are everybody's, and which are this machine's or its network's."""

from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address
from typing import Final

# Where a translator leads to the IPv4 address in the last 32 bits (RFC 6052, RFC 8215).
_TRANSLATED: Final = (IPv6Network("64:ff9b::/96"), IPv6Network("64:ff9b:1::/48"))


def is_public(text: str) -> bool:
    """Return whether an address is reachable from everywhere, whatever it wraps.

    Args:
        text: An IPv4 or IPv6 address; a zone, as in `fe80::1%eth0`, makes it a local one.

    Raises:
        ValueError: it is no address.
    """
    address = ip_address(text)
    if isinstance(address, IPv6Address):
        if address.scope_id:
            return False
        wrapped = _wrapped(address)
        if wrapped is not None:
            return _is_public(wrapped)
    return _is_public(address)


def _is_public(address: IPv4Address | IPv6Address) -> bool:
    return address.is_global and not address.is_multicast and not address.is_reserved


def _wrapped(address: IPv6Address) -> IPv4Address | None:
    """Return the IPv4 address that an IPv6 address leads to."""
    if any(address in network for network in _TRANSLATED):
        return IPv4Address(address.packed[-4:])
    teredo = address.teredo
    return address.ipv4_mapped or address.sixtofour or (teredo[1] if teredo else None)

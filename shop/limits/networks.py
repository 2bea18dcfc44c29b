"""Where a request comes from, as far as counting cares."""

from __future__ import annotations

from ipaddress import IPv6Address, IPv6Network, ip_address

from flask import Request

UNKNOWN = "unknown"


def client_network(request: Request) -> str:
    """The network address to count a request under.

    That of an IPv6 client is its /64, since everybody has that many addresses to choose from.
    Whether a proxy's word on the address counts is settled before (SHOP_TRUSTED_PROXIES).
    """
    try:
        address = ip_address(request.remote_addr or "")
    except ValueError:
        return UNKNOWN
    if not isinstance(address, IPv6Address):
        return str(address)
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(IPv6Network((int(address), 64), strict=False))

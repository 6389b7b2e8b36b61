import ipaddress


def address(client):
    """Whose a connection is, as far as its other end tells.

    Args:
        client: `(host, port)` of the other end, or None where there is none,
            as for Unix sockets.

    Returns:
        str: an IPv4 address; the /64 network of an IPv6 address, since whoever
        has one address of it has all; or the host as it is.
    """
    if client is None:
        return ""
    try:
        ip = ipaddress.ip_address(client[0])
    except ValueError:  # As a name that a test client gives itself.
        return client[0]
    if ip.version == 4:
        return str(ip)
    if ip.ipv4_mapped:
        return str(ip.ipv4_mapped)
    return str(ipaddress.IPv6Network((int(ip), 64), strict=False))

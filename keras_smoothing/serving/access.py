import hashlib
import hmac
import ipaddress
import os
import re
import stat

from fastapi.responses import JSONResponse

# Names of this machine that nobody else can point at it.
_LOCAL = ("localhost", "127.0.0.1", "::1")

_NAME = re.compile(r"[a-z0-9_-]+(\.[a-z0-9_-]+)*")
# A name or address, with an optional port; IPv6 addresses are in brackets.
_HOST = re.compile(r"(\[[0-9a-fA-F:.]+\]|[A-Za-z0-9_.-]+)(?::[0-9]*)?")

# Tokens as in RFC 6750, too long to guess.
_SHORTEST_TOKEN = 16
_TOKEN = re.compile(rf"[A-Za-z0-9._~+/-]{{{_SHORTEST_TOKEN},}}=*")


class Access:
    """Decides which requests reach the application.

    - While the service shuts down, it refuses all requests: 503.
    - It refuses requests whose `Host` does not name this service: 421. A web
      page can point its own name here ("DNS rebinding"), and its visitors'
      browsers would let it read the answers; but it cannot change the name.
    - With a token, it refuses requests without it: 401. `/health` is exempt.

    Args:
        readiness: `Readiness`, which knows when the service shuts down.
        allowed_hosts: names and addresses in addition to those of this machine
            and the address that the connection is to; "*" for any.
        token: str, or None.

    Raises:
        ValueError: if an argument is not as described.
    """

    def __init__(self, readiness, allowed_hosts, token):
        if isinstance(allowed_hosts, str):  # Its items would be letters.
            raise ValueError(
                "Expected a list of names and addresses. Received: "
                f"allowed_hosts={allowed_hosts!r}"
            )
        self._readiness = readiness
        self._any_host = "*" in allowed_hosts
        self._hosts = {
            _allowed(host) for host in (*_LOCAL, *allowed_hosts) if host != "*"
        }
        self._digest = None if token is None else _digest(_checked(token))

    def guard(self, app):
        """ASGI middleware that protects the application."""

        async def guarded(scope, receive, send):
            refusal = None
            if scope["type"] == "http":
                refusal = self._refusal(scope)
            await (refusal or app)(scope, receive, send)

        return guarded

    def _refusal(self, scope):
        """The response that refuses a request, or None."""
        headers = scope["headers"]
        path = scope["path"].removeprefix(scope.get("root_path", ""))
        if self._readiness.is_closing:
            return _failure(
                503,
                "Expected a service that runs. Received: a request to one that "
                "shuts down. Try again later.",
                {"Connection": "close", "Retry-After": "1"},
            )
        # A request that names another server in its first line has no path.
        hosts = [value for name, value in headers if name == b"host"]
        host = _host(hosts[0].decode("latin-1")) if len(hosts) == 1 else None
        if host is None or not scope["path"].startswith("/"):
            return _failure(
                400,
                "Expected a path, and one header Host with a name or an "
                "address. Received: a request without",
            )
        here, _ = scope.get("server") or ("", None)
        if not (self._any_host or host in self._hosts or host == _normal(here)):
            return _failure(
                421,
                "Expected the header Host to name this service. Received: "
                "another name, which --allowed-host, or `allowed_hosts` of "
                "`create_app`, would let in",
            )
        if (
            self._digest is not None
            and path != "/health"
            and not self._has_token(headers)
        ):
            return _failure(
                401,
                "Expected the header Authorization: Bearer TOKEN, with the "
                "token of this service. Received: none, or another",
                {"WWW-Authenticate": "Bearer"},
            )
        return None

    def _has_token(self, headers):
        given = [value for name, value in headers if name == b"authorization"]
        if len(given) != 1:
            return False
        scheme, _, token = given[0].partition(b" ")
        # Digests have the same length, whatever was sent.
        digest = hashlib.sha256(token.strip(b" ")).digest()
        return scheme.lower() == b"bearer" and hmac.compare_digest(
            digest, self._digest
        )


def read_token(path):
    """Reads a token from a file that only its owner may read.

    Args:
        path: path of a text file.

    Returns:
        str, without surrounding white space.

    Raises:
        OSError: if the file cannot be read.
        ValueError: if others may read the file, or if it contains no token.
    """
    with open(path, "rb") as file:
        # Check the open file: the name may refer to another one by now.
        mode = os.fstat(file.fileno()).st_mode
        if os.name != "nt" and mode & 0o077:
            raise ValueError(
                "Expected a token in a file that only its owner may read, as "
                f"after `chmod 600`. Received: {path}, with mode "
                f"{stat.S_IMODE(mode):03o}"
            )
        return _checked(file.read().strip().decode("latin-1"))


def _checked(token):
    # The message must not contain the token.
    if not isinstance(token, str) or not _TOKEN.fullmatch(token):
        raise ValueError(
            f"Expected a token of at least {_SHORTEST_TOKEN} characters, which "
            "are letters, digits or -._~+/, as `openssl rand -hex 32` prints "
            "one. Received: another text, or a shorter one"
        )
    return token


def _digest(token):
    return hashlib.sha256(token.encode("ascii")).digest()


def _allowed(host):
    normal = _normal(host.strip("[]")) if isinstance(host, str) else None
    if normal is None:
        raise ValueError(
            "Expected each allowed host to be a name or an address, without a "
            f"port, or * for any. Received: {host!r}"
        )
    return normal


def _host(header):
    """The name or address in a Host header; None if it is malformed."""
    match = _HOST.fullmatch(header)
    return match and _normal(match[1].strip("[]"))


def _normal(host):
    """An address, or a name in lower case; None if it is neither."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        # A trailing dot marks a fully qualified name.
        name = host.lower().removesuffix(".")
        return name if _NAME.fullmatch(name) else None
    return getattr(address, "ipv4_mapped", None) or address


def _failure(status, sentence, headers=None):
    return JSONResponse({"error": sentence}, status, headers)

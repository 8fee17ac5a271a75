"""What every page that is served has in common: who may ask for it, what it may load, and the server that runs it."""

import importlib
import ipaddress
import socket as sockets
from contextlib import suppress
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from sakiyomi.errors import SakiyomiError, at_least, at_most

if TYPE_CHECKING:
    import uvicorn
    from fastapi import FastAPI

POLICY = (
    "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
HEADERS = {"Content-Security-Policy": POLICY, "X-Content-Type-Options": "nosniff", "Cache-Control": "no-store"}
LIBRARIES = ("fastapi", "websockets", "uvicorn")


def trusted(host: str, origin: str, served: str) -> bool:
    """Whether a page with this Origin, that asks this Host, is ours.

    Another site could otherwise steer through its visitors' browsers, or give its own name this address (DNS
    rebinding). So the page must come from the very host it asks, and that host must be an address, this machine's
    localhost, or the name `served`, none of which a stranger can give away.
    """
    try:
        name = urlsplit(f"//{host}").hostname or ""
        source = urlsplit(origin)
    except ValueError:
        return False
    if source.scheme not in ("http", "https") or source.netloc.lower() != host.lower():
        return False
    with suppress(ValueError):
        return bool(ipaddress.ip_address(name))
    return name in ("localhost", served.lower())


def need_libraries() -> None:
    """Raises SakiyomiError where what serves a page is not installed."""
    for name in LIBRARIES:
        try:
            importlib.import_module(name)
        except ImportError as error:
            raise SakiyomiError(
                f"the page cannot be served ({name}: {error}): pip install 'sakiyomi[serve]'"
            ) from error


def server_for(app: "FastAPI", host: str, port: int) -> "tuple[uvicorn.Server, sockets.socket, str]":
    """A server that is not running yet, the socket it is to be run on, and the page's address; port 0 takes one that is
    free. Raises SakiyomiError for an address that cannot be had."""
    at_least("--port", port, 0)
    at_most("--port", port, 65535)
    import uvicorn

    family = sockets.AF_INET6 if ":" in host else sockets.AF_INET
    try:
        socket = sockets.create_server((host, port), family=family)
        # Else an answer's second part waits 40 ms for the first to be acknowledged; asyncio sees to it only on sockets
        # that it made itself. Connections have it from the socket they come in by.
        socket.setsockopt(sockets.IPPROTO_TCP, sockets.TCP_NODELAY, 1)
    except OSError as error:
        raise SakiyomiError(
            f"cannot serve on {host} port {port}: {error.strerror or error}; another --port, or 0 for any that is free"
        ) from error
    config = uvicorn.Config(
        app,
        log_level="warning",
        access_log=False,
        lifespan="off",
        proxy_headers=False,
        server_header=False,
        ws_max_size=1 << 16,
        ws_per_message_deflate=False,
        timeout_graceful_shutdown=1,
    )
    name = f"[{host}]" if family == sockets.AF_INET6 else host
    return uvicorn.Server(config), socket, f"http://{name}:{socket.getsockname()[1]}/"

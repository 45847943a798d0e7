"""The server of the live demo: its page, and a WebSocket for anyone who speaks `live.protocol`."""

from __future__ import annotations

import asyncio
import ipaddress
import json
import logging
import signal
import socket
from collections.abc import Awaitable, Callable, Sequence
from importlib import resources
from urllib.parse import urlsplit

from aiohttp import WSCloseCode, web

from espnet2_kd.kd.registry import ConfigError
from espnet2_kd.live.protocol import MAX_MESSAGE_BYTES
from espnet2_kd.live.session import Session
from espnet2_kd.live.systems import System

logger = logging.getLogger(__name__)

PAGE = {
    "/": ("index.html", "text/html"),
    "/demo.css": ("demo.css", "text/css"),
    "/demo.js": ("demo.js", "text/javascript"),
    "/microphone.js": ("microphone.js", "text/javascript"),
    "/icon.svg": ("icon.svg", "image/svg+xml"),
}
# Nothing but what this server gives, and nobody else's page around it.
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Permissions-Policy": "microphone=(self)",
    "Cache-Control": "no-store",
    "Server": "espnet2_kd",
}
LOOPBACK = ("localhost", "127.0.0.1", "::1")
SHUTDOWN_SECONDS = 3.0

REFUSAL = "refused: asked for under a name that is not this server's (--allow_host adds names), or by another page\n"

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class DemoServer:
    """Serves systems to `max_clients` at a time.

    host: address to listen on; names other than this machine's own have to be in `allow_hosts` for a browser to get in.
    max_seconds: longest utterance.
    """

    def __init__(
        self,
        systems: Sequence[System],
        host: str = "127.0.0.1",
        max_clients: int = 8,
        max_seconds: float = 60.0,
        allow_hosts: Sequence[str] = (),
    ) -> None:
        self.systems, self.max_clients, self.max_seconds = systems, max_clients, max_seconds
        self.is_local = is_loopback(host)
        self.names = {*LOOPBACK, *(name.lower() for name in (host, *allow_hosts))}
        if not self.is_local:
            self.names |= {socket.gethostname().lower(), socket.getfqdn().lower()}
        self.clients: set[web.WebSocketResponse] = set()
        folder = resources.files("espnet2_kd.live") / "page"
        self.files = {path: ((folder / name).read_bytes(), kind) for path, (name, kind) in PAGE.items()}

    def app(self) -> web.Application:
        """Return the application that answers requests."""
        app = web.Application(middlewares=[self._guard], client_max_size=1024)
        for path in self.files:
            app.router.add_get(path, self._file)
        app.router.add_get("/systems", self._systems)
        app.router.add_get("/listen", self._listen)
        app.on_response_prepare.append(_add_headers)
        app.on_shutdown.append(self._hang_up)
        return app

    def allows(self, host: str, origin: str | None) -> bool:
        """Whether a request that names this `Host`, from a page of that `Origin` (None: not from a page), may be answered.

        A page of somebody else may open WebSockets to this machine, and may give its own name this machine's address
        (DNS rebinding). The first has another origin, the second a name that is not ours. An address is no name.
        """
        try:
            name = urlsplit(f"//{host}").hostname
            page = None if origin is None else urlsplit(origin)
        except ValueError:
            return False
        if name is None or not (name in self.names or (not self.is_local and _is_address(name))):
            return False
        return page is None or (page.scheme in ("http", "https") and page.netloc.lower() == host.lower())

    @web.middleware
    async def _guard(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        host, origin = request.headers.get("Host", ""), request.headers.get("Origin")
        if not self.allows(host, origin):
            logger.warning("refused a request to host %.100r from a page of %.100r", host, origin)
            return web.Response(status=403, text=REFUSAL)
        try:
            return await handler(request)
        except web.HTTPException as error:
            return web.Response(status=error.status, text=f"{error.status}: {error.reason}\n")

    async def _file(self, request: web.Request) -> web.Response:
        body, kind = self.files[request.path]
        return web.Response(body=body, content_type=kind, charset="utf-8")

    async def _systems(self, request: web.Request) -> web.Response:
        about = {"systems": [system.about for system in self.systems], "max_seconds": self.max_seconds}
        return web.json_response(about)

    async def _listen(self, request: web.Request) -> web.WebSocketResponse:
        # Not compressed: a small message must not become a large one here.
        client = web.WebSocketResponse(max_msg_size=MAX_MESSAGE_BYTES, compress=False, timeout=SHUTDOWN_SECONDS)
        await client.prepare(request)
        if len(self.clients) >= self.max_clients:
            fault = f"busy: {len(self.clients)} clients are being served, as many as may be: try again later"
            await client.send_str(json.dumps({"type": "error", "message": fault}))
            await client.close(code=WSCloseCode.TRY_AGAIN_LATER, message=fault.encode())
            return client
        self.clients.add(client)
        try:
            await Session(client, self.systems, self.max_seconds).run()
        finally:
            self.clients.discard(client)
        return client

    async def _hang_up(self, app: web.Application) -> None:
        leaving = [
            client.close(code=WSCloseCode.SERVICE_RESTART, message=b"the server stops") for client in self.clients
        ]
        await asyncio.gather(*leaving, return_exceptions=True)
        for system in self.systems:
            system.thread.shutdown(wait=False, cancel_futures=True)


async def serve(server: DemoServer, host: str, port: int, ready: Callable[[str], None]) -> None:
    """Serve until SIGINT or SIGTERM; `ready` gets the address to open. Port 0 takes a free one. Raises ConfigError."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    runner = web.AppRunner(server.app(), access_log=None, shutdown_timeout=SHUTDOWN_SECONDS)
    await runner.setup()
    try:
        try:
            await web.TCPSite(runner, host, port).start()
        except OSError as error:
            raise ConfigError(f"--host {host} --port {port}: {error.strerror or error}: choose others") from error
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, stop.set)
        address = runner.addresses[0]
        ready(f"http://{_in_url(host)}:{address[1]}/")
        await stop.wait()
    finally:
        # A second signal ends what hangs.
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)
        await runner.cleanup()


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach an address."""
    return host == "localhost" or (_is_address(host) and ipaddress.ip_address(host).is_loopback)


def _in_url(host: str) -> str:
    if host in ("0.0.0.0", "::", ""):
        return socket.gethostname()
    return f"[{host}]" if ":" in host else host


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


async def _add_headers(request: web.Request, response: web.StreamResponse) -> None:
    response.headers.update(HEADERS)

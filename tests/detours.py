"""What may stand between a site and its broker: an HTTP proxy, a WebSocket gateway; small ones, with real sockets."""

import asyncio
import base64
import contextlib
import hashlib
import ssl

GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


async def pipe(reader, writer):
    with contextlib.suppress(OSError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    with contextlib.suppress(OSError):
        writer.close()


class Detour:
    """A server on a free port that is gone after the `async with`."""

    def __init__(self):
        self._tasks = set()
        self.requests = []

    async def __aenter__(self):
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=self._context())
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_):
        self._server.close()
        for _ in range(20):
            await asyncio.sleep(0)  # those that were accepted just now get their task
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _context(self):
        return None

    async def _serve(self, reader, writer):
        self._tasks.add(asyncio.current_task())
        with contextlib.suppress(OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            await self._one(reader, writer)
        writer.transport.abort()
        with contextlib.suppress(OSError, asyncio.CancelledError):
            await writer.wait_closed()

    @contextlib.asynccontextmanager
    async def _onward(self, host, port):
        """The connection to what is behind, gone in any case at the end."""
        there, back = await asyncio.open_connection(host, port)
        try:
            yield there, back
        finally:
            back.transport.abort()
            with contextlib.suppress(OSError, asyncio.CancelledError):
                await back.wait_closed()

    async def _head(self, reader):
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        self.requests.append(head)
        lines = head.split("\r\n")
        return lines[0], {k.lower(): v.strip() for k, _, v in (line.partition(":") for line in lines[1:] if line)}


class Fake(Detour):
    """Whatever `answer` makes of each connection."""

    def __init__(self, answer, context=None):
        super().__init__()
        self._one, self._tls = answer, context

    def _context(self):
        return self._tls


class ConnectProxy(Detour):
    """Lets CONNECT through, where `login` is set only with it."""

    def __init__(self, login=None):
        super().__init__()
        self._login = login

    async def _one(self, reader, writer):
        request, headers = await self._head(reader)
        wanted = self._login and f"Basic {base64.b64encode(self._login.encode()).decode()}"
        if wanted and headers.get("proxy-authorization") != wanted:
            writer.write(b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n")
            return
        host, port = request.split()[1].rsplit(":", 1)
        async with self._onward(host, int(port)) as (there, back):
            writer.write(b"HTTP/1.1 200 Connection established\r\nVia: test\r\n\r\n")
            await asyncio.gather(pipe(reader, back), pipe(there, writer))


class WebSocketGateway(Detour):
    """Takes MQTT over WebSocket and TLS, hands it to a broker on plain TCP; asks for `headers` if given."""

    def __init__(self, pair, broker_port, *, path="/mqtt", headers=None):
        super().__init__()
        self._pair, self._broker_port, self._path, self._wanted = pair, broker_port, path, headers or {}

    def _context(self):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*self._pair)
        return context

    async def _one(self, reader, writer):
        request, headers = await self._head(reader)
        good = all(headers.get(k.lower()) == v for k, v in self._wanted.items())
        if request != f"GET {self._path} HTTP/1.1" or not good or headers.get("sec-websocket-protocol") != "mqtt":
            writer.write(b"HTTP/1.1 404 Not Found\r\nConnection: close\r\n\r\n")
            return
        accept = base64.b64encode(hashlib.sha1(headers["sec-websocket-key"].encode() + GUID).digest())
        writer.write(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Accept: " + accept + b"\r\nSec-WebSocket-Protocol: mqtt\r\n\r\n"
        )
        async with self._onward("127.0.0.1", self._broker_port) as (there, back):
            await asyncio.gather(self._unframed(reader, back), self._framed(there, writer))

    async def _unframed(self, reader, back):
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            while True:
                head = await reader.readexactly(2)
                assert head[1] & 0x80, "a client masks what it sends"
                length = head[1] & 0x7F
                if length >= 126:
                    length = int.from_bytes(await reader.readexactly(2 if length == 126 else 8), "big")
                mask = await reader.readexactly(4)
                data = await reader.readexactly(length)
                back.write(bytes(b ^ mask[i % 4] for i, b in enumerate(data)))
                await back.drain()
        back.close()

    async def _framed(self, there, writer):
        with contextlib.suppress(OSError):
            while data := await there.read(60_000):
                length = bytes([len(data)]) if len(data) < 126 else b"\x7e" + len(data).to_bytes(2, "big")
                writer.write(b"\x82" + length + data)
                await writer.drain()
        with contextlib.suppress(OSError):
            writer.close()

"""`ems devices scan`: which devices answer on a network or a serial line of the site; it never writes."""

from __future__ import annotations

import asyncio
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import typer

from agent.cli.certificates import CaOption, CertificateOption, KeyOption, tls_files
from agent.cli.client import (
    EXIT_REFUSED,
    EXIT_USAGE,
    Connection,
    JsonOption,
    SocketOption,
    fail,
    show_json,
    socket_path,
)
from agent.cli.config_check import DEFAULT_CONFIG
from agent.cli.scan_block import blocks
from agent.cli.text import fitted

if TYPE_CHECKING:
    from agent.cli.scan_targets import Targets
    from drivers.endpoint import Endpoint
    from drivers.profile.model import Profile
    from drivers.scan import Manners
    from drivers.tls import TlsFiles

HOSTS_AT_ONCE = 8
MAX_UNITS = 32
MOST_HOSTS = 1024

TargetArgument = typer.Argument(
    ...,
    help="A host (10.0.0.5, 10.0.0.5:1502), a network (10.0.0.0/24), a url (rtu+tcp://10.0.0.9:4196), or a serial "
    "device (/dev/ttyUSB0).",
    metavar="HOST|CIDR|SERIAL",
)
UnitsOption = typer.Option(None, "--units", help="Unit ids, such as 1-5,71. Default: 1, 2, 3, 71, 100, 126, 200.")
MostOption = typer.Option(256, "--most", min=1, max=MOST_HOSTS, help="Stop at so many hosts.")
TimeoutOption = typer.Option(0.5, "--timeout", min=0.05, max=5.0, help="Seconds to wait for each answer.")
PauseOption = typer.Option(50, "--pause", min=0, max=2000, help="Milliseconds between two requests to a device.")
ThoroughOption = typer.Option(
    False, "--thorough", help="Ask silent unit ids too for what each profile knows: slow, for devices that say little."
)
FolderOption = typer.Option(
    DEFAULT_CONFIG.parent / "profiles", "--folder", help="The site's own profiles, looked for beside the shipped ones."
)


def scan(  # noqa: PLR0917 (a command's options)
    target: str = TargetArgument,
    units: str | None = UnitsOption,
    most: int = MostOption,
    timeout: float = TimeoutOption,
    pause: int = PauseOption,
    thorough: bool = ThoroughOption,
    folder: Path = FolderOption,
    tls_ca: Path | None = CaOption,
    tls_certificate: Path | None = CertificateOption,
    tls_key: Path | None = KeyOption,
    socket: str | None = SocketOption,
    as_json: bool = JsonOption,
) -> None:
    """Find devices, and print a [[device]] block for each to paste into the site file. It never writes to anything.

    Looks for SunSpec devices (map at 40000, 0 or 50000) and for those that a profile describes. Gentle: eight hosts
    at a time, one connection and one request at a time to each, with a pause between requests. Only local networks:
    private addresses, those of this machine's interfaces, loopback. Hosts that the running daemon talks to are left
    alone and named: many devices allow one client only.

    Devices inside TLS (port 802, or tls://10.0.0.5:802) are asked with --tls-ca, --tls-certificate and --tls-key;
    without them an open port 802 is only told.

    A device that no profile describes is shown with what it answered. On a serial line without stated settings the
    usual ones are tried; state yours with serial:///dev/ttyUSB0?baud=9600&parity=N

    Exit codes: 0 something was found; 1 nothing was found, or refused; 2 wrong command line.
    """
    from agent.cli.scan_targets import BadTarget, targets  # noqa: PLC0415 (the CLI starts fast)
    from drivers.profile.load import available, examine  # noqa: PLC0415 (as above)
    from drivers.profile.problem import BadProfile  # noqa: PLC0415 (as above)
    from drivers.scan import USUAL_UNITS, Manners  # noqa: PLC0415 (as above)
    from drivers.tls import BadTls, context_for  # noqa: PLC0415 (as above)

    try:
        aims = targets(target, most)
        tls = tls_files(tls_ca, tls_certificate, tls_key, needed_for=target if target.startswith("tls://") else "")
        if tls is not None:
            context_for(tls)  # named now, and not once per unit id
        unit_ids = USUAL_UNITS if units is None else _units(units)
        known = {name: examine(found.path) for name, found in available(folder).items()}
    except BadTarget as bad:
        fail({"what": "devices scan", "why": str(bad), "next": bad.hint}, EXIT_USAGE, as_json=as_json)
    except BadTls as bad:
        fail({"what": "devices scan", "why": str(bad), "next": "correct it"}, EXIT_USAGE, as_json=as_json)
    except BadProfile as bad:
        fail({"what": "profiles", "why": str(bad), "next": "rename that file"}, EXIT_REFUSED, as_json=as_json)
    profiles = {
        name: profile
        for name, (profile, problems) in known.items()
        if profile is not None and not any(problem.severity == "error" for problem in problems)
    }
    manners = Manners(timeout, pause / 1000.0, thorough=thorough)
    looking = _Looking(profiles, unit_ids, manners, tls, _in_use(socket))
    with _Progress(quiet=as_json or not sys.stderr.isatty()) as progress:
        asyncio.run(looking.at(aims, progress.begin, progress.step))
    _show(target, looking, as_json=as_json)


class _Looking:
    """One scan and what it found."""

    def __init__(
        self,
        profiles: dict[str, Profile],
        units: Sequence[int],
        manners: Manners,
        tls: TlsFiles | None,
        in_use: dict[tuple[str, ...], str],
    ) -> None:
        self.found: list[dict[str, Any]] = []
        self.silent: list[dict[str, Any]] = []
        """Places that are open and where nobody answers Modbus, or where nothing was asked."""
        self._profiles = profiles
        self._units = units
        self._manners = manners
        self._tls = tls
        self._in_use = in_use

    async def at(self, aims: Targets, begin: Callable[[int], None], step: Callable[[], None]) -> None:
        """Look at all of it."""
        begin(len(aims.hosts) + len(aims.endpoints))
        for endpoint in aims.endpoints:
            if not self.found:  # of a serial line the settings are tried until one is answered
                await self._endpoint(endpoint)
            step()
        several = asyncio.Semaphore(HOSTS_AT_ONCE)

        async def look(host: str) -> None:
            async with several:
                await self._host(host, aims.ports)
            step()

        await asyncio.gather(*(look(host) for host in aims.hosts))
        self.found.sort(key=lambda one: (one["url"], one["unit_id"]))
        self.silent.sort(key=lambda one: str(one["url"]))

    async def _host(self, host: str, ports: Sequence[int]) -> None:
        from agent.cli.scan_targets import PORTS, TLS_PORT  # noqa: PLC0415 (the CLI starts fast)
        from drivers.endpoint import TcpEndpoint, TlsEndpoint  # noqa: PLC0415 (as above)

        asked = (*ports, TLS_PORT) if tuple(ports) == PORTS else tuple(ports)
        used = {port: by for port in asked if (by := self._user(TcpEndpoint(host, port))) is not None}
        free = [port for port in asked if port not in used]
        is_open = await asyncio.gather(*(_opens(host, port, self._manners.timeout_s) for port in free))
        for port in used:
            await self._endpoint(TcpEndpoint(host, port))
        for port, yes in zip(free, is_open, strict=True):
            if yes and port == TLS_PORT and self._tls is not None:
                await self._endpoint(TlsEndpoint(host, port, host))
            elif yes and port == TLS_PORT:
                self._note(TlsEndpoint(host, port, host), "open; TLS: state --tls-ca, --tls-certificate and --tls-key")
            elif yes:
                await self._endpoint(TcpEndpoint(host, port))

    async def _endpoint(self, endpoint: Endpoint) -> None:
        from drivers.endpoint import SerialEndpoint  # noqa: PLC0415 (the CLI starts fast)
        from drivers.errors import DeviceError  # noqa: PLC0415 (as above)
        from drivers.scan import scan_unit  # noqa: PLC0415 (as above)

        device_id = self._user(endpoint)
        if device_id is not None:
            self._note(endpoint, f"left alone: the daemon talks to it ({device_id}, see ems devices list)")
            return
        before = len(self.found)
        for unit_id in self._units:
            try:
                found = await scan_unit(endpoint, unit_id, self._profiles, time.monotonic, self._manners, tls=self._tls)
            except DeviceError as error:
                self._note(endpoint, str(error))
                return
            if found is not None:
                self._keep({"url": _url(endpoint), **asdict(found)}, before)
        if len(self.found) == before and not isinstance(endpoint, SerialEndpoint):
            self._note(endpoint, f"open, but no unit id of {', '.join(map(str, self._units))} answers")

    def _user(self, endpoint: Endpoint) -> str | None:
        """The device for which the daemon holds a connection there."""
        return next((self._in_use[one] for one in _places(endpoint) if one in self._in_use), None)

    def _keep(self, row: dict[str, Any], first: int) -> None:
        """One more device, unless it is one of this endpoint under another unit id."""
        for other in self.found[first:]:
            same = all(other[key] == row[key] for key in ("identity", "fits", "answered"))
            if same and (row["identity"] is not None or not row["fits"]):
                other["also"] = (*other["also"], row["unit_id"])
                return
        self.found.append(row)

    def _note(self, endpoint: Endpoint, text: str) -> None:
        self.silent.append({"url": _url(endpoint), "text": text})


def _url(endpoint: Endpoint) -> str:
    """The endpoint as a site file states it."""
    from drivers.endpoint import SerialEndpoint, TlsEndpoint  # noqa: PLC0415 (the CLI starts fast)

    if isinstance(endpoint, SerialEndpoint):
        return f"{endpoint}?baud={endpoint.baud}&parity={endpoint.parity}"
    if isinstance(endpoint, TlsEndpoint) and endpoint.server_name != endpoint.host:
        return f"{endpoint}?name={endpoint.server_name}"
    return str(endpoint)


async def _opens(host: str, port: int, timeout_s: float) -> bool:
    """Whether somebody listens there."""
    try:
        async with asyncio.timeout(timeout_s):
            _, writer = await asyncio.open_connection(host, port)
    except (OSError, TimeoutError):
        return False
    writer.close()
    return True


def _units(text: str) -> tuple[int, ...]:
    """The unit ids of `1-5,71`."""
    from agent.cli.scan_targets import BadTarget  # noqa: PLC0415 (the CLI starts fast)

    found: list[int] = []
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        if not first.isdigit() or (dash and not last.isdigit()) or not int(first) <= int(last or first) <= 255:
            raise BadTarget(f"{part!r} is no unit id", "write unit ids as 1-5,71; each from 0 to 255")
        found += range(int(first), int(last or first) + 1)
    if len(found) > MAX_UNITS:
        raise BadTarget(f"{len(found)} unit ids; a scan tries at most {MAX_UNITS}", "name fewer")
    return tuple(dict.fromkeys(found))


def _places(endpoint: Endpoint) -> list[tuple[str, ...]]:
    """The endpoint as what there can be only one connection to, by name and by address."""
    from agent.cli.scan_targets import BadTarget, addresses  # noqa: PLC0415 (the CLI starts fast)
    from drivers.endpoint import SerialEndpoint, place  # noqa: PLC0415 (as above)

    if isinstance(endpoint, SerialEndpoint):
        return [place(endpoint)]
    try:
        found = [str(address) for address in addresses(endpoint.host)]
    except BadTarget:
        found = []
    return [place(endpoint), *(("tcp", address, str(endpoint.port)) for address in found)]


def _in_use(socket: str | None) -> dict[tuple[str, ...], str]:
    """What the running daemon talks to, as places with a device's id; nothing when there is none."""
    from drivers.endpoint import BadEndpoint, parse_url  # noqa: PLC0415 (the CLI starts fast)

    try:
        connection = Connection(socket_path(socket))
        reply = connection.ask("devices")
        connection.close()
    except OSError:
        return {}
    used: dict[tuple[str, ...], str] = {}
    for device in reply["result"] if reply["ok"] else ():
        url = str(device["endpoint"]).split(" unit ", 1)[0]
        if url.startswith("serial://"):
            used["serial", url.removeprefix("serial://")] = device["device_id"]
            continue
        try:
            used |= dict.fromkeys(_places(parse_url(url)), device["device_id"])
        except BadEndpoint:
            continue
    return used


class _Progress:
    """A bar on the terminal, so that nobody thinks that it hangs; nothing where nobody looks."""

    def __init__(self, *, quiet: bool) -> None:
        self._quiet = quiet
        self._bar: Any = None
        self._task: Any = None

    def __enter__(self) -> Self:
        if not self._quiet:
            from rich.console import Console  # noqa: PLC0415 (the CLI starts fast)
            from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn  # noqa: PLC0415

            columns = ("looking", BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
            self._bar = Progress(*columns, console=Console(stderr=True), transient=True)
            self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def begin(self, total: int) -> None:
        """So many places are to be looked at."""
        if self._bar is not None:
            self._task = self._bar.add_task("", total=total)

    def step(self) -> None:
        """One of them is done."""
        if self._bar is not None:
            self._bar.advance(self._task)


def _show(target: str, looking: _Looking, *, as_json: bool) -> None:
    taken: Counter[str] = Counter()
    for one in looking.found:
        one["toml"] = "\n".join(blocks(one, taken))
    if as_json:
        show_json({"found": looking.found, "others": looking.silent})
    else:
        for one in looking.found:
            typer.echo("\n".join(_lines(one)))
        for other in looking.silent:
            typer.echo("\n".join(fitted([f"# {other['url']}: {other['text']}"], 4)))
        if not looking.found:
            why = f"no device answers at {target}"
            hint = "check power, cable, address and unit ids (--units); many devices allow one client only"
            fail({"what": "nothing was found", "why": why, "next": hint}, EXIT_REFUSED, as_json=False)
    if not looking.found:
        raise typer.Exit(EXIT_REFUSED)


def _lines(found: dict[str, Any]) -> list[str]:
    """One device as text: comments, and the block to paste."""
    identity = found["identity"] or {}
    parts = [identity.get("manufacturer"), identity.get("model")]
    parts += [f"serial {identity['serial']}"] if identity.get("serial") else []
    who = " ".join(part for part in parts if part) or f"unknown device: it answers with {found['answered']}"
    also = f", the same under {', '.join(map(str, found['also']))}" if found["also"] else ""
    lines = [f"# {found['url']} unit {found['unit_id']}{also}: {who}"]
    fits = [fit["profile"] for fit in found["fits"]]
    if fits and not found["fits"][0]["certain"]:
        lines.append(f"# this is a guess, its values would fit: {', '.join(fits)}; compare with the nameplate")
    elif fits[1:]:
        lines.append(f"# these profiles fit too: {', '.join(fits[1:])}")
    if not fits:
        lines.append("# no profile describes it: docs/adding-a-device.md says how to write one")
    return [*(part for line in lines for part in _comment(line)), *found["toml"].splitlines(), ""]


def _comment(line: str) -> list[str]:
    first, *rest = fitted([line], 0)
    return [first, *(f"#   {part}" for part in rest)]

"""`ems cloud-sim`: a cloud that plans, orders, commands, keeps account and, if asked, misbehaves, over real MQTT."""

from __future__ import annotations

import signal
import sys
from dataclasses import dataclass
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, NoReturn

import typer

from agent.cli.client import EXIT_REFUSED, JsonOption, fail

if TYPE_CHECKING:
    from collections.abc import Callable

    from simulators.cloud_connection import BrokerAccess
    from simulators.cloud_misbehaviour import Misdeed
    from simulators.cloud_planner import SiteModel
    from simulators.cloud_run import CloudTask
    from simulators.cloud_signer import Signer
    from simulators.market import SpotPrices

BrokerOption = typer.Option(..., "--broker", help="mqtt://HOST[:PORT], or mqtts:// for TLS.")
CaOption = typer.Option(
    None, "--ca", help="PEM: whom to believe, with mqtts. Default: the authorities of this machine."
)
CertificateOption = typer.Option(None, "--certificate", help="PEM: our own certificate.")
KeyOption = typer.Option(None, "--key", help="PEM: its key.")
UserOption = typer.Option(None, "--user", help="Name at the broker.")
PasswordOption = typer.Option(None, "--password-file", help="A file of one line.")
SiteOption = typer.Option(None, "--site", help="A site id; repeatable. Default: every site that speaks.")
SignOption = typer.Option(None, "--sign-key", help="Sign with this key: openssl genpkey -algorithm ed25519 -out FILE.")
SignIdOption = typer.Option("cloud-sim", "--sign-key-id", help="Its id in the site files.")
PricesOption = typer.Option(None, "--prices", help="CSV: slot_start_utc,<price columns>. Default: JEPX Kyushu, FY2023.")
Column = typer.Option(None, "--price-column", help="Its column to use. Default: kyushu_jpy_per_kwh.")
SlotSeconds = typer.Option(1800, "--slot-seconds", min=1, max=1800, help="Real seconds of a half-hour of the market.")
PowerOption = typer.Option(500.0, "--power-kw", min=0.1, help="Rating of each site's batteries.")
CapacityOption = typer.Option(2000.0, "--capacity-kwh", min=0.1, help="Their capacity.")
ConnectionOption = typer.Option(500.0, "--connection-kw", min=0.1, help="Export and import limit of each site.")
YearlyOption = typer.Option(True, "--yearly/--no-yearly", help="Also send a plan for a year.")
OrderOption = typer.Option(
    None,
    "--order",
    help="For example '@30s hold 5min' or 'site-1: award fcr-n 200 10min 1h'; repeatable. See the docs.",
)
OrdersFile = typer.Option(None, "--orders", help="A file with one order a line; - is the standard input, read first.")
CommandsEvery = typer.Option(None, "--commands-every", min=0.5, help="A harmless command to each site every so many s.")
MisbehaveOption = typer.Option(
    None, "--misbehave", help="A list of duplicates,old-versions,forged,floods,silence, or all; again and again."
)
MisbehaveEvery = typer.Option(10.0, "--misbehave-every", min=1.0, help="Seconds between two misdeeds.")
SeedOption = typer.Option(1, "--seed", min=0, help="Of what is random in misbehaviour.")
SecondsOption = typer.Option(None, "--seconds", min=1.0, help="End after this time. Default: at Ctrl-C.")
EveryOption = typer.Option(2.0, "--every", min=0.2, max=3600.0, help="Seconds between two looks at the account.")
ClientOption = typer.Option("cloud-sim", "--client-id", help="At the broker; the session stands under it.")

PRICE_COLUMN = "kyushu_jpy_per_kwh"


@dataclass(frozen=True, slots=True)
class _Sizes:
    power_kw: float
    capacity_kwh: float
    connection_kw: float


def cloud_sim(  # noqa: PLR0917 (a command's options)
    broker: str = BrokerOption,
    site: list[str] = SiteOption,
    ca: Path | None = CaOption,
    certificate: Path | None = CertificateOption,
    key: Path | None = KeyOption,
    user: str | None = UserOption,
    password_file: Path | None = PasswordOption,
    sign_key: Path | None = SignOption,
    sign_key_id: str = SignIdOption,
    prices: Path | None = PricesOption,
    price_column: str | None = Column,
    slot_seconds: int = SlotSeconds,
    power_kw: float = PowerOption,
    capacity_kwh: float = CapacityOption,
    connection_kw: float = ConnectionOption,
    yearly: bool = YearlyOption,
    order: list[str] = OrderOption,
    orders: Path | None = OrdersFile,
    commands_every: float | None = CommandsEvery,
    misbehave: str | None = MisbehaveOption,
    misbehave_every: float = MisbehaveEvery,
    seed: int = SeedOption,
    seconds: float | None = SecondsOption,
    every: float = EveryOption,
    client_id: str = ClientOption,
    as_json: bool = JsonOption,
) -> None:
    """Be the cloud of one site or many: plan, order, command, count what comes. Exit code 1: the account has a fault.

    With --json a line per look; the last one is the whole account.
    """
    from simulators.cloud_connection import BadAddressError, BrokerAccess  # noqa: PLC0415 (the CLI starts fast)
    from simulators.cloud_run import CloudTask  # noqa: PLC0415 (as above)
    from simulators.cloud_script import OrderError, parse_order  # noqa: PLC0415 (as above)
    from simulators.cloud_signer import BadKeyError, read_signer  # noqa: PLC0415 (as above)
    from simulators.scenario import ScenarioRefusedError  # noqa: PLC0415 (as above)

    access = BrokerAccess(broker, ca, certificate, key, user, password_file)
    try:
        _try_out(access)
        signer = read_signer(sign_key, sign_key_id) if sign_key is not None else None
        task = CloudTask(
            access=access,
            sites=tuple(dict.fromkeys(site or ())),
            model=_model(_Sizes(power_kw, capacity_kwh, connection_kw)),
            prices=_prices(prices, price_column),
            slot_s=slot_seconds,
            signer=signer,
            yearly=yearly,
            orders=[parse_order(line) for line in [*(order or ()), *_lines(orders)]],
            commands_every_s=commands_every,
            misdeeds=_misdeeds(misbehave),
            misbehave_every_s=misbehave_every,
            seed=seed,
            client_id=client_id,
        )
    except (BadAddressError, BadKeyError, OrderError, ScenarioRefusedError) as error:
        _refuse(str(error), as_json=as_json)
    _run(task, signer, seconds=seconds, every=every, as_json=as_json)


def _run(task: CloudTask, signer: Signer | None, *, seconds: float | None, every: float, as_json: bool) -> None:
    from rich.console import Console  # noqa: PLC0415 (as above)

    from simulators.cloud_run import CloudRun, show  # noqa: PLC0415 (as above)

    def say(text: str) -> None:
        print(f"cloud-sim: {text}", file=sys.stderr)

    if signer is not None:
        say(f'signs; site files: [[cloud.signing_key]] id = "{signer.key_id}" public_key = "{signer.public_key}"')
    stop = Event()
    for name in (signal.SIGINT, signal.SIGTERM):
        signal.signal(name, lambda *_: stop.set())
    run = CloudRun(task, say)
    run.start()
    try:
        found = show(run, seconds=seconds, every_s=every, as_json=as_json, stop=stop, console=Console(width=None))
    finally:
        run.stop()
    if not found["complete"]:
        faults = {site_id: one["faults"] for site_id, one in found["sites"].items() if one["faults"]}
        say(f"not complete: {faults or 'no site was heard'}; {found['trouble'] or 'connected'}")
        raise typer.Exit(EXIT_REFUSED)


def _refuse(why: str, *, as_json: bool) -> NoReturn:
    refusal = {"what": "no cloud was started", "why": why, "next": "mend the option or the file: ems cloud-sim --help"}
    fail(refusal, EXIT_REFUSED, as_json=as_json)


def _try_out(access: BrokerAccess) -> None:
    """Address and files are read once before anything begins, so that what is wrong with them is told at once."""
    access.context()
    access.password()


def _model(sizes: _Sizes) -> Callable[[str], SiteModel]:
    from simulators.cloud_planner import SiteModel  # noqa: PLC0415 (as above)
    from simulators.optimiser import BatteryModel, Connection  # noqa: PLC0415 (as above)

    battery = BatteryModel(sizes.capacity_kwh, sizes.power_kw, sizes.power_kw)
    connection = Connection(sizes.connection_kw, sizes.connection_kw)
    return lambda site_id: SiteModel(site_id, battery, connection)


def _prices(path: Path | None, column: str | None) -> SpotPrices:
    from simulators.market import half_hours  # noqa: PLC0415 (as above)
    from simulators.scenario import DEFAULT_PRICES, read_prices  # noqa: PLC0415 (as above)

    read = read_prices(path or DEFAULT_PRICES, column or PRICE_COLUMN)
    return half_hours(read.start_utc_s, read.slot_s, read.per_kwh)


def _lines(path: Path | None) -> list[str]:
    from simulators.cloud_script import OrderError  # noqa: PLC0415 (as above)

    if path is None:
        return []
    try:
        text = sys.stdin.read() if str(path) == "-" else path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise OrderError(f"{path}: {error}") from error
    return [line for line in map(str.strip, text.splitlines()) if line and not line.startswith("#")]


def _misdeeds(text: str | None) -> list[Misdeed]:
    from simulators.cloud_misbehaviour import Misdeed  # noqa: PLC0415 (as above)
    from simulators.cloud_script import OrderError  # noqa: PLC0415 (as above)

    if text is None:
        return []
    if text == "all":
        return list(Misdeed)
    try:
        return [Misdeed(word.strip()) for word in text.split(",")]
    except ValueError as error:
        raise OrderError(f"--misbehave {text}: {error}; known are {', '.join(Misdeed)}, all") from error

"""`ems fleet-sim`: many light edge clients against one broker; what it carries, and how soon a plan is with all."""

from __future__ import annotations

import asyncio
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from agent.cli.client import EXIT_REFUSED, JsonOption, fail, show_json

if TYPE_CHECKING:
    from simulators.fleet_run import FleetTask

SitesOption = typer.Option(..., "--sites", min=1, max=50_000, help="How many.")
BrokerOption = typer.Option(
    None, "--broker", help="mqtt://HOST[:PORT] or mqtts://. Default: a mosquitto of its own, whose cost is told too."
)
CaOption = typer.Option(None, "--ca", help="PEM: whom to believe, with mqtts.")
CertificateOption = typer.Option(None, "--certificate", help="PEM: the certificate of all these clients.")
KeyOption = typer.Option(None, "--key", help="PEM: its key.")
UserOption = typer.Option(None, "--user", help="Name at the broker.")
PasswordOption = typer.Option(None, "--password-file", help="A file of one line.")
PidOption = typer.Option(None, "--broker-pid", help="Process id of a broker on this machine: its cost is told too.")
SecondsOption = typer.Option(30.0, "--seconds", min=1.0, max=86_400.0, help="Of steady traffic.")
FrameOption = typer.Option(60.0, "--frame", min=0.1, max=3600.0, help="Seconds between two frames of a site.")
BytesOption = typer.Option(1900, "--frame-bytes", min=120, max=1_000_000, help="Of a frame: 1900 is one of 30 points.")
ConnectsOption = typer.Option(200.0, "--connects", min=1.0, help="Connections a second at the begin.")
SlotsOption = typer.Option(96, "--plan-slots", min=1, max=2000, help="Slots of the plan that all are sent.")
HerdOption = typer.Option(False, "--herd", help="At the end break all lines at once, and see all come back.")
SpreadOption = typer.Option(10.0, "--spread", min=0.0, max=600.0, help="reconnect_spread of the sites, s.")
SeedOption = typer.Option(1, "--seed", min=0, help="Of what is random.")
PrefixOption = typer.Option("fleet", "--prefix", help="The site ids are PREFIX-000000 and so on.")


def fleet_sim(  # noqa: PLR0917 (a command's options)
    sites: int = SitesOption,
    broker: str | None = BrokerOption,
    ca: Path | None = CaOption,
    certificate: Path | None = CertificateOption,
    key: Path | None = KeyOption,
    user: str | None = UserOption,
    password_file: Path | None = PasswordOption,
    broker_pid: int | None = PidOption,
    seconds: float = SecondsOption,
    frame: float = FrameOption,
    frame_bytes: int = BytesOption,
    connects: float = ConnectsOption,
    plan_slots: int = SlotsOption,
    herd: bool = HerdOption,
    spread: float = SpreadOption,
    seed: int = SeedOption,
    prefix: str = PrefixOption,
    as_json: bool = JsonOption,
) -> None:
    """Load a broker with light edge clients; tell messages, bytes, CPU, the time of a plan to all.

    Exit code 1: a site, a plan or a frame did not come.
    """
    from agent.cloud.reconnect import LinkOptions  # noqa: PLC0415 (the CLI starts fast)
    from simulators.broker import Broker, BrokerError  # noqa: PLC0415 (as above)
    from simulators.cloud_connection import BadAddressError, BrokerAccess  # noqa: PLC0415 (as above)
    from simulators.fleet import Habits, Place  # noqa: PLC0415 (as above)
    from simulators.fleet_run import FleetError, FleetTask  # noqa: PLC0415 (as above)

    with ExitStack() as stack:
        try:
            if broker is None:
                own = stack.enter_context(Broker(in_memory=True))
                broker, broker_pid = own.url, own.pid
            access = BrokerAccess(broker, ca, certificate, key, user, password_file)
            _, host, port = access.place
            place = Place(host, port, access.context(), user, access.password())
            habits = Habits(frame, frame_bytes, LinkOptions(first_wait_s=max(0.2, spread / 2), spread_s=spread))
            task = FleetTask(
                place, sites, seconds, habits, connects, plan_slots, herd=herd, prefix=prefix, broker_pid=broker_pid,
                seed=seed,
            )  # fmt: skip
            found = asyncio.run(_run(task))
        except (BadAddressError, BrokerError, FleetError) as error:
            refusal = {"what": "no fleet was started", "why": str(error), "next": "ems fleet-sim --help"}
            fail(refusal, EXIT_REFUSED, as_json=as_json)
    if as_json:
        show_json(found)
    else:
        print("\n".join(lines(found)))
    if not found["complete"]:
        raise typer.Exit(EXIT_REFUSED)


async def _run(task: FleetTask) -> dict[str, Any]:
    from simulators.fleet_run import FleetRun  # noqa: PLC0415 (as above)

    def say(text: str) -> None:
        print(f"fleet-sim: {text}", file=sys.stderr, flush=True)

    return await FleetRun(task, say).run()


def lines(found: dict[str, Any]) -> list[str]:
    """The figures for people."""
    connect, steady, plan, account = found["connect"], found["steady"], found["plan"], found["account"]
    answer, delay, stored = connect["answer"], steady["frame_to_cloud"], plan["published_to_stored"]
    parts: list[tuple[str, list[str]]] = [
        ("sites", [f"{connect['connected']} of {found['sites']} connected in {connect['seconds']:.1f} s", _of(answer)]),
        ("memory", [f"broker {_or(found['memory']['broker_kb_per_session'])} kB a session"]),
        ("traffic", [f"{steady['messages_per_s']} messages/s", f"{steady['payload_bytes_per_s'] / 1e3:.1f} kB/s",
                     f"{steady['wire_bytes_per_site_and_day'] / 1e6:.2f} MB a site and day"]),
        ("delay", ["a frame to the cloud", _of(delay)]),
        ("CPU", [f"broker {_or(steady['broker_cpu_ms_per_site_and_s'])}",
                 f"these clients {_or(steady['fleet_cpu_ms_per_site_and_s'])} ms a site and second",
                 f"broker {_or(steady['broker_cpu_us_per_message'])} us a message"]),
        ("plan", [f"{plan['bytes_each']} bytes to all", f"{plan['stored']} stored in {plan['seconds_to_all']:.2f} s",
                  _of(stored)]),
    ]  # fmt: skip
    if (herd := found.get("herd")) is not None:
        worst = f"{herd['most_in_one_second']} in the worst second"
        parts.append(("herd", [f"all lines cut, {herd['back']} back in {herd['seconds_to_all']:.1f} s", worst]))
    frames = f"{account['telemetry_messages']} frames, {account['gaps']} gaps, {account['redelivered']} redelivered"
    parts.append(("account", [frames, f"{account['connections_lost']} connections lost"]))
    shown = [f"{name:<9}{', '.join(words)}" for name, words in parts]
    shown.append("complete" if found["complete"] else "NOT complete: not every site, plan or frame came")
    return shown


def _of(delays: dict[str, Any]) -> str:
    return f"p50 {_ms(delays['p50_s'])}, p99 {_ms(delays['p99_s'])}"


def _ms(seconds: float | None) -> str:
    return "-" if seconds is None else f"{seconds * 1e3:.0f} ms"


def _or(value: float | None) -> str:
    return "?" if value is None else f"{value:g}"

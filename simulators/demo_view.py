"""The live picture of the demo, 80 columns by 24 lines: power flow, SoC, who decides, cloud link, slots."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from rich.text import Text

from simulators.demo_show import unix_of
from simulators.demo_site import CONNECTION_KW
from simulators.market import MarketClock, SpotPrices

WIDTH = 79
SOC_CELLS = 40
STRIP_SLOTS = 56
LEVELS = " ▁▂▃▄▅▆▇█"
NEXT_SLOTS = 4


@dataclass(frozen=True, slots=True)
class Scene:
    """What is shown now; `status` is None while the agent does not answer."""

    now_utc_s: float
    clock: MarketClock
    prices: SpotPrices
    status: dict[str, Any] | None
    broker_up: bool
    cloud_up: bool
    expected_soc_pct: float | None
    caption: str
    progress: str
    hint: str = ""
    """What a watcher may do in another terminal."""
    past_slots: Sequence[dict[str, Any]] = field(default_factory=tuple)
    """Finished slots, the oldest first."""


def picture(scene: Scene) -> Text:
    """The whole screen."""
    clock = scene.clock
    head = f" ems-agent demo   {clock.market_text(scene.now_utc_s)} JST   {scene.progress}"
    lines = [
        Text(head.ljust(WIDTH), style="reverse"),
        Text(f" fast market: a 30-min slot lasts {clock.slot_s} s ({clock.factor:g}x);", style="dim"),
        Text(f" the simulated battery holds 1/{clock.factor:g} of its energy", style="dim"),
        *_flow(scene.status),
        _soc(scene),
        *_decision(scene.status),
        _link(scene),
        *_coming(scene),
        *_strip(scene),
        Text(f" {scene.hint}"[:WIDTH], style="dim"),
        Text(f" > {scene.caption}"[: 2 * WIDTH], style="bold yellow"),
    ]
    return Text("\n").join(lines)


def _kw(value: float | None) -> str:
    return "    ? kW" if value is None else f"{value / 1000.0:+5.0f} kW"


def _flow(status: dict[str, Any] | None) -> list[Text]:
    powers = (status or {}).get("powers_w") or {}
    pv, load, battery, grid = (powers.get(name) for name in ("pv", "load", "battery", "grid"))
    words = {
        "battery": _direction(battery, "discharging", "charging"),
        "grid": _direction(grid, "export", "import"),
    }
    return [
        Text(f"   PV      {_kw(pv)}  ───►┐"),
        _coloured(f"   BATTERY {_kw(battery)}  {_arrow(battery)}┼─", battery).append_text(
            _coloured(f"{_arrow(grid)}  GRID {_kw(grid)}  {words['grid']}", grid)
        ),
        Text(f"   LOAD    {_kw(load)}  ◄───┘      ").append_text(_coloured(f"battery {words['battery']}", battery)),
    ]


def _arrow(power_w: float | None) -> str:
    if power_w is None:
        return "─ ? ─"
    return "───►" if power_w > 500.0 else "◄───" if power_w < -500.0 else "────"


def _direction(power_w: float | None, positive: str, negative: str) -> str:
    if power_w is None:
        return "not known"
    return positive if power_w > 500.0 else negative if power_w < -500.0 else "idle"


def _coloured(text: str, power_w: float | None) -> Text:
    style = "red" if power_w is None else "green" if power_w > 500.0 else "cyan" if power_w < -500.0 else ""
    return Text(text, style=style)


def _soc(scene: Scene) -> Text:
    soc = (scene.status or {}).get("soc_pct")
    if soc is None:
        return Text("   SoC     not known", style="red")
    filled = round(soc / 100.0 * SOC_CELLS)
    cells = ["█" if cell < filled else "░" for cell in range(SOC_CELLS)]
    expected = scene.expected_soc_pct
    if expected is not None:
        cells[min(SOC_CELLS - 1, int(expected / 100.0 * SOC_CELLS))] = "┃"
    plan = "no plan" if expected is None else f"plan {expected:.0f} % (┃)"
    return Text(f"   SoC     {soc:5.1f} %  [{''.join(cells)}] {plan}"[:WIDTH])


def _decision(status: dict[str, Any] | None) -> list[Text]:
    if status is None:
        return [Text(" decides   nobody: the agent is down", style="bold red"), Text("")]
    source = str(status.get("source"))
    style = {"rolling": "bold green", "yearly": "bold magenta", "local_plan": "bold yellow"}.get(source, "bold red")
    target, setpoint = status.get("target_w"), status.get("setpoint_w")
    clips = ", ".join(str(clip.get("limit")) for clip in status.get("clips") or ())
    limits = f", limited by {clips}" if clips else ""
    return [
        Text(f" decides   {source}: {status.get('why')}"[:WIDTH], style=style),
        Text(f" battery   wanted {_kw(target)}, setpoint {_kw(setpoint)}{limits}"[:WIDTH]),
    ]


def _link(scene: Scene) -> Text:
    link = (scene.status or {}).get("cloud") or {}
    depth = link.get("outbox_depth")
    waiting = "?" if depth is None else str(depth)
    up = scene.broker_up and bool(link.get("connected"))
    word = "UP" if up else "DOWN: the broker is dead" if not scene.broker_up else "DOWN"
    cloud = "" if scene.cloud_up or not scene.broker_up else ", cloud not yet back"
    return Text(
        f" cloud     link {word}{cloud}; {waiting} messages wait on the agent's disk", style="" if up else "bold red"
    )


def _coming(scene: Scene) -> list[Text]:
    rows = [Text(" next      market time        JPY/kWh   plan kW  source", style="dim")]
    for slot in list((scene.status or {}).get("next_slots") or ())[:NEXT_SLOTS]:
        start = unix_of(slot["start"])
        price = scene.prices.at(scene.clock.market_s(start))
        when = scene.clock.market_text(start)
        rows.append(Text(f"           {when:<18}{price:>8.2f}{slot['power_w'] / 1000.0:>+10.0f}  {slot['source']}"))
    return rows + [Text("")] * (NEXT_SLOTS + 1 - len(rows))


def _strip(scene: Scene) -> list[Text]:
    """Grid energy of the past slots, plan beside delivered; sold above, bought below."""
    slots = list(scene.past_slots)[-STRIP_SLOTS:]
    planned = [slot.get("planned_wh") for slot in slots]
    done = [slot.get("delivered_wh") for slot in slots]
    names = "".join(
        {"rolling": "r", "yearly": "y", "local_plan": "l"}.get(str(slot.get("source")), "?") for slot in slots
    )
    full_wh = CONNECTION_KW * 1000.0 * scene.clock.slot_s / 3600.0
    return [
        Text(" past      one column a slot: sold, then bought; r rolling, y yearly, l local", style="dim"),
        Text(f" plan   +  {_bars(planned, full_wh, 1)}", style="green"),
        Text(f" actual +  {_bars(done, full_wh, 1)}", style="bold green"),
        Text(f" plan   -  {_bars(planned, full_wh, -1)}", style="cyan"),
        Text(f" actual -  {_bars(done, full_wh, -1)}", style="bold cyan"),
        Text(f" source   {names}", style="dim"),
    ]


def _bars(values: Sequence[float | None], full: float, sign: int) -> str:
    top = len(LEVELS) - 1
    return "".join(
        "?" if value is None else LEVELS[max(0, min(top, round(sign * value / full * top)))] for value in values
    )

"""What flows through the DC ports of an inverter that carries PV and a battery: SunSpec model 714, or 160.

The AC side of such a hybrid shows only the sum of both. Model 714 (DER devices) names each port's type; its sign is
that of the whole 700 series: injected, toward the inverter, is positive. Model 160 (older devices) has no types and no
sign: Fronius shows the battery there as two modules, one for each direction, labelled "StCha" and "StDisCha". Ports
that are neither, and modules without an id, are not counted. A port that says that it is off gives 0 W, even where it
shows no power then, as inverters do at night; any other port without a power makes the sum missing.

DC power stands for AC power here: the inverter's loss between them, a few percent, is not known per port.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from agent.core.snapshot import NEVER, Quality, Reading
from drivers.read_plan import Place, Reads, make_plan
from drivers.readings import number, reading
from drivers.registers import Registers
from drivers.sunspec import Chain
from drivers.sunspec_layout import layout

PORTS, MODULES = 714, 160
PV_PORT, BATTERY_PORT = 0, 1
"""714.PrtTyp."""
STATE: Final = {PORTS: "DCSta", MODULES: "DCSt"}
OFF: Final = {PORTS: (0,), MODULES: (1, 2, 8)}
"""714.DCSta: off; 160.DCSt: off, sleeping, standby."""
CHARGING, DISCHARGING = "StCha", "StDisCha"
"""How the labels of model 160 (IDStr) begin on the modules that are a battery."""


@dataclass(frozen=True, slots=True)
class DcPorts:
    """The ports of one hybrid inverter, sorted; each entry is a port and the sign with which it counts."""

    places: tuple[Place, ...] = ()
    """What each poll must read."""
    battery: tuple[tuple[str, int], ...] = ()
    pv: tuple[tuple[str, int], ...] = ()

    @property
    def hybrid(self) -> bool:
        """Whether a battery is on the DC side, so that the AC power is not that of PV or battery alone."""
        return bool(self.battery)

    def battery_w(self, reads: Reads) -> Reading:
        """Power of the battery, + = discharge; missing while any of its ports is."""
        return _sum(reads, self.battery)

    def pv_w(self, reads: Reads) -> Reading:
        """Power of all PV ports, >= 0; missing while any of them is."""
        return _sum(reads, self.pv)


async def dc_ports(chain: Chain, link: Registers, unit_id: int, clock: Callable[[], float]) -> DcPorts:
    """The ports that the device has, none for one without model 714 and 160; errors are `DeviceError`s."""
    for model_id, names, sort in ((PORTS, ("PrtTyp",), _by_type), (MODULES, ("ID", "IDStr"), _by_label)):
        model = chain.first(model_id)
        group = layout(model_id).group
        assert group is not None
        if model is None:
            continue
        prefixes = [f"{group.name}.{index}" for index in range(1, layout(model_id).groups_in(model.length) + 1)]
        wanted = [f"{prefix}.{name}" for prefix in prefixes for name in names]
        told = await make_plan([chain.places(model, wanted)]).read(link, unit_id, clock)
        counted = [(prefix, *sort(told, f"{model_id}.{prefix}")) for prefix in prefixes]
        kept = [(prefix, kind, sign) for prefix, kind, sign in counted if kind]
        if kept:
            return DcPorts(
                tuple(
                    chain.places(
                        model, [f"{prefix}.{name}" for prefix, _, _ in kept for name in ("DCW", STATE[model_id])]
                    )
                ),
                tuple((f"{model_id}.{prefix}", sign) for prefix, kind, sign in kept if kind == "battery"),
                tuple((f"{model_id}.{prefix}", sign) for prefix, kind, sign in kept if kind == "pv"),
            )
    return DcPorts()


def _by_type(told: Reads, prefix: str) -> tuple[str, int]:
    """What a port of model 714 is, "" for what is not counted, and its sign."""
    kinds = {PV_PORT: "pv", BATTERY_PORT: "battery"}
    port_type = number(told, f"{prefix}.PrtTyp")
    return ("", 0) if port_type is None else (kinds.get(int(port_type), ""), 1)


def _by_label(told: Reads, prefix: str) -> tuple[str, int]:
    """What a module of model 160 is, "" for one that is not used, and its sign."""
    label = told[f"{prefix}.IDStr"].value
    if isinstance(label, str) and label.startswith(DISCHARGING):
        return "battery", 1
    if isinstance(label, str) and label.startswith(CHARGING):
        return "battery", -1
    return ("", 0) if number(told, f"{prefix}.ID") is None else ("pv", 1)


def _sum(reads: Reads, terms: tuple[tuple[str, int], ...]) -> Reading:
    found = [_port(reads, prefix, sign) for prefix, sign in terms]
    if not found:
        return NEVER
    oldest_mono_s = min(term.read_mono_s for term in found)
    values = [term.value for term in found if term.value is not None]
    if len(values) < len(found):
        return Reading(None, oldest_mono_s, Quality.MISSING)
    return Reading(sum(values), oldest_mono_s)


def _port(reads: Reads, prefix: str, sign: int) -> Reading:
    """Power of one port, 0 where it says that it is off and shows none."""
    power = reading(reads, f"{prefix}.DCW", sign=sign)
    model_id = int(prefix.split(".", 1)[0])
    if power.quality is Quality.MISSING and number(reads, f"{prefix}.{STATE[model_id]}") in OFF[model_id]:
        return Reading(0.0, power.read_mono_s)
    return power

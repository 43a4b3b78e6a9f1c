"""What can go wrong between the agent and a device: one family of errors, each text says what to do next.

Everything here derives from `DeviceError`. A caller that survives `DeviceError` survives every device.
"""

from __future__ import annotations

from typing import Final

EXCEPTION_MEANINGS: Final[dict[int, tuple[str, str]]] = {
    1: ("illegal function", "the device does not offer this function; check the model"),
    2: ("illegal data address", "no such register here; check the unit id and the base address"),
    3: ("illegal data value", "the device refuses this value or length; check its limits"),
    4: ("device failure", "look at the device's own alarms, or at the unit id behind a gateway"),
    5: ("acknowledge, still working", "wait and read back"),
    6: ("device busy", "try again later; another client may be using it"),
    7: ("negative acknowledge", "the device cannot do this now; look at its state"),
    8: ("memory parity error", "look at the device's own alarms"),
    10: ("gateway path unavailable", "check the gateway's configuration"),
    11: ("gateway target did not respond", "check the wiring and the unit id behind the gateway"),
}
"""Exception codes of the Modbus Application Protocol V1.1b3, chapter 7, and what a technician does about them."""


class DeviceError(Exception):
    """Something at a device or on the way to it; `str()` is for people."""

    def __init__(
        self,
        what: str,
        *,
        endpoint: str,
        unit_id: int | None = None,
        address: int | None = None,
        hint: str = "",
    ) -> None:
        self.what = what
        self.endpoint = endpoint
        self.unit_id = unit_id
        self.address = address
        self.hint = hint
        where = endpoint
        if unit_id is not None:
            where += f" unit {unit_id}"
        if address is not None:
            where += f" register {address}"
        super().__init__(f"{where}: {what}" + (f"; {hint}" if hint else ""))


class LinkDown(DeviceError):  # noqa: N818  # named for the state, like the others
    """There is no connection to the endpoint now."""


class LinkTimeout(DeviceError):  # noqa: N818  # named for the state, like the others
    """The endpoint took the request and did not answer in time. A write may or may not have been carried out."""


class UnitResting(DeviceError):  # noqa: N818  # named for the state, like the others
    """The unit failed several times in a row and is left alone for now; nothing was sent."""


class ReadOnly(DeviceError):  # noqa: N818  # named for the state, like the others
    """The agent is in its read-only mode; nothing was sent."""


class Frozen(DeviceError):  # noqa: N818  # named for the state, like the others
    """The device answers, but its values stand still while it gives power: they are not believed."""


class ModbusRefused(DeviceError):  # noqa: N818  # the device's answer, not a fault of ours
    """The device answered with a Modbus exception; `code` is its number."""

    def __init__(self, code: int, *, endpoint: str, unit_id: int, address: int) -> None:
        self.code = code
        meaning, hint = EXCEPTION_MEANINGS.get(
            code, ("not a standard code", "look it up in the manual; remote control may be switched off")
        )
        what = f"the device refused with exception {code} (0x{code:02X}, {meaning})"
        super().__init__(what, endpoint=endpoint, unit_id=unit_id, address=address, hint=hint)


class BadReply(DeviceError):  # noqa: N818  # named for what arrived
    """What came back is not the answer to the request; nothing of it was used."""


class NotSunSpec(DeviceError):  # noqa: N818  # named for what was found
    """No SunSpec marker at any of the base addresses."""


class ModelMissing(DeviceError):  # noqa: N818  # named for what was found
    """The device speaks SunSpec, but lacks a model or a point that its role needs."""


class IdentityMismatch(DeviceError):  # noqa: N818  # named for what was found
    """Another device answers than the site file states; nothing is ever written to it."""

"""Keeps what was learned of the batteries on disk, shows it, and forgets it when an operator says so."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import structlog

from agent.core.battery_model import BatteryModel
from agent.core.events import Event, EventState, Severity
from agent.core.kept_text import read_back
from agent.core.model_record import ModelRecord, begun_anew, model_facts, model_record, restored_model
from agent.core.records import StorageFailed
from agent.runtime.clock import Clock
from agent.runtime.control import ControlLoop
from agent.runtime.local_socket import Handler, Peer, Refusal
from agent.runtime.request_fields import reason_of
from agent.runtime.roles import need_operator
from agent.store import Store

log = structlog.get_logger(__name__)

SAVE_EVERY_S = 300.0
"""A changed model is written at most so often; a stretch is learned a few times a day, so it is written rarely."""


def models_held(records: Mapping[str, str]) -> dict[str, BatteryModel]:
    """The models on disk that still read well, by device; whether they fit the device is for the core to say."""
    models: dict[str, BatteryModel] = {}
    for device_id, body in records.items():
        try:
            record = read_back(body)
        except ValueError:
            record = None
        model = restored_model(record) if isinstance(record, dict) else None
        if model is None:
            log.warning("model_unreadable", device=device_id, text="what was learned is lost; it is learned anew")
        else:
            models[device_id] = model
    return models


class LearnedModels:
    """The models in the control loop's state, and their copies on disk."""

    def __init__(
        self,
        *,
        store: Store,
        control: ControlLoop,
        tell: Callable[[Event], None],
        clock: Clock,
        held: Mapping[str, BatteryModel],
    ) -> None:
        self._store = store
        self._control = control
        self._tell = tell
        self._clock = clock
        self._kept: dict[str, ModelRecord] = {device_id: model_record(model) for device_id, model in held.items()}
        self._saved_mono_s: float | None = None

    async def save(self) -> None:
        """Called every minute: changed models are on disk, at most every `SAVE_EVERY_S`."""
        now_s = self._clock.mono_s()
        if self._saved_mono_s is None or now_s - self._saved_mono_s >= SAVE_EVERY_S:
            await self.save_now()

    async def save_now(self) -> None:
        """Changed models are on disk, unless the disk refuses: then later."""
        changed: dict[str, ModelRecord] = {}
        for device_id, model in self._control.state.models.items():
            record, before = model_record(model), self._kept.get(device_id)
            if record == before or (before is None and not model.stretches):
                continue
            changed[device_id] = record
            if before is not None and before["stretches"] and begun_anew(before, model):
                self._tell(self._dropped(device_id, before, model))
        if not changed:
            return
        self._saved_mono_s = self._clock.mono_s()
        try:
            await self._store.save_models({device_id: json.dumps(record) for device_id, record in changed.items()})
        except StorageFailed as error:
            log.warning("models_not_kept", reason=str(error))
        else:
            self._kept.update(changed)

    def facts(self) -> dict[str, Any]:
        """Each battery's model, as `ems status` and `ems model show` show it; one not read yet has none."""
        return {device_id: model_facts(model) for device_id, model in self._control.state.models.items()}

    def handlers(self) -> dict[str, Handler]:
        """The commands about models by name."""
        return {"model_show": self._show, "model_reset": self._reset}

    async def _show(self, request: dict[str, Any], _peer: Peer) -> dict[str, Any]:
        device_id = request.get("device_id")
        if device_id is None:
            return self.facts()
        return {device_id: model_facts(self._model("model show", device_id))}

    async def _reset(self, request: dict[str, Any], peer: Peer) -> dict[str, Any]:
        what = "model reset"
        need_operator(what, peer)
        reason = reason_of(what, request)
        device_id = request.get("device_id")
        model = self._model(what, device_id)
        assert isinstance(device_id, str)
        try:
            await self._store.forget_model(device_id)
        except StorageFailed as error:
            why = f"{error}; a restart would bring the old model back, so nothing was reset"
            raise Refusal(what, why, "check the disk with df and dmesg, then try again") from error
        state = self._control.state
        self._control.state = replace(state, models={k: v for k, v in state.models.items() if k != device_id})
        self._kept.pop(device_id, None)
        text = f"{peer.name} reset the learned model: {reason}"
        data = {**_summary(model_record(model)), "who": peer.name, "reason": reason}
        self._tell(Event(self._clock.utc_s(), EventState.NOTED, Severity.INFO, "model_reset", device_id, text, data))
        return {"device_id": device_id, "was": model_facts(model)}

    def _model(self, what: str, device_id: object) -> BatteryModel:
        models = self._control.state.models
        model = models.get(device_id) if isinstance(device_id, str) else None
        if model is None:
            known = ", ".join(sorted(models)) or "none yet: no battery has told its capacity"
            raise Refusal(what, f"no model of a battery {device_id!r}", f"there is: {known}")
        return model

    def _dropped(self, device_id: str, before: ModelRecord, model: BatteryModel) -> Event:
        text = "the device states another capacity or serial number: what was learned of the one before is dropped"
        data = {**_summary(before), "now_serial": model.serial, "now_stated_wh": model.stated_capacity_wh}
        return Event(self._clock.utc_s(), EventState.NOTED, Severity.WARNING, "model_dropped", device_id, text, data)


def _summary(record: ModelRecord) -> dict[str, str | float | int | None]:
    """What was lost, for the event."""
    model = restored_model(record)
    if model is None:
        return {}
    return {
        "capacity_wh": round(model.capacity_wh, 1),
        "round_trip_efficiency": round(model.round_trip_efficiency, 4),
        "standby_w": round(model.standby_w, 1),
        "stretches": model.stretches,
        "serial": model.serial,
        "stated_wh": model.stated_capacity_wh,
    }

"""The guards of the core and how each is taken out: (file, what the guard does, its text, the text without it)."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Mutant:
    """One guard removed; `first` names the test files that are likely to notice."""

    file: str
    guard: str
    old: str
    new: str
    first: tuple[str, ...] = ()


def _of(file: str, *guards: tuple[str, str, str], first: tuple[str, ...]) -> list[Mutant]:
    return [Mutant(file, guard, old, new, first) for guard, old, new in guards]


_TICK = ("rules_of_one_tick", "slots_and_batteries")

MUTANTS: list[Mutant] = [
    *_of(
        "snapshot.py",
        ("stale readings are no numbers", "now_mono_s - self.read_mono_s > STALE_AFTER_S", "False"),
        ("nonsense is no number", "if value is None or low <= value <= high:", "if True:"),
        ("NaN and infinity are no numbers", "value is not None and -BELIEVABLE <= value <= BELIEVABLE", "True"),
        first=_TICK,
    ),
    *_of(
        "clock_trust.py",
        ("a clock behind the floor is not trusted", "utc_s < floor_utc_s - TOLERANCE_S", "False"),
        ("the floor never falls", "max(floor_utc_s, utc_s)", "utc_s"),
        first=_TICK,
    ),
    *_of(
        "authority.py",
        ("no plan on an untrusted clock", "if not clock_trusted:", "if False:"),
        ("self-consumption needs the meter", "if meter_good:", "if True:"),
        first=_TICK,
    ),
    *_of(
        "plan.py",
        ("a plan ends with its last slot", "if not 0 <= index < len(self.power_w):", "if not 0 <= index:"),
        ("a null slot is no power", "        if power_w is None:\n            return None\n", ""),
        first=_TICK,
    ),
    *_of(
        "plan.py",
        ("a local plan ends with the plans that it was made from", "self.local is None or self.local.basis != self.basis", "self.local is None"),
        first=("local_plan",),
    ),
    *_of(
        "order_admission.py",
        ("outages name a device of the site", "if outage.device_id not in known:", "if False:"),
        ("an id stands for one order", "if seen.setdefault(entry_id, entry) != entry:", "if False:"),
        ("the load is told against the order", "order.import_limit_w < -load_w", "False"),
        first=("order_documents",),
    ),
    *_of(
        "admission.py",
        ("the same version is the same plan", "if document.sha256 == held.sha256:", "if True:"),
        ("versions never go back", "if document.version < held.version:", "if False:"),
        ("not from the future", "if ahead_s <= MAX_ISSUED_AHEAD_S:", "if True:"),
        ("slots are aligned", "plan.start_utc_s % plan.slot_s != 0", "False"),
        ("a plan has a longest length", "plan.end_utc_s - plan.start_utc_s > longest_s", "False"),
        ("not wholly past", "plan.end_utc_s <= now_utc_s", "False"),
        ("within the rating", "not lower_w * RATING_MARGIN <= power_w <= upper_w * RATING_MARGIN", "False"),
        first=_TICK,
    ),
    *_of(
        "site_view.py",
        ("one unknown power makes the sum unknown", "            return None\n        total +=", "            continue\n        total +="),
        ("one unknown SoC makes the mean unknown", "or capacity_wh is None:\n            return None", "or capacity_wh is None:\n            continue"),
        ("SoC beyond belief", ".within(-SOC_READING_SLACK_PCT, 100.0 + SOC_READING_SLACK_PCT)", ""),
        ("capacity above zero", ".within(LEAST_CAPACITY_WH, BELIEVABLE)", ""),
        ("frequency beyond belief", ".within(nominal_hz - MAX_AWAY_HZ, nominal_hz + MAX_AWAY_HZ)", ""),
        first=_TICK,
    ),
    *_of(
        "slot_energy.py",
        ("the end of a slot is no spike", "TRACK_FLOOR_TICKS * tick_s)", "1e-3)"),
        ("counters beat integration", "if self.anchor_wh is not None and counter_wh is not None:", "if False:"),
        ("old counters are not carried on", "abs(age_s) > MAX_COUNTER_AGE_S", "False"),
        first=("slot", "dispatch"),
    ),
    *_of(
        "step.py",
        ("no award on an untrusted clock", "awards = inputs.awards if trusted else NO_AWARDS", "awards = inputs.awards"),
        ("a refusing battery is made good", "authority.power_w - now.stray_w", "authority.power_w"),
        ("no write without fresh readings", "    if sample.power_w.value is None:\n        return None\n", ""),
        ("grid targets need PV and load", "authority.target is Target.BATTERY or now.others_w is None:", "authority.target is Target.BATTERY:"),
        first=_TICK,
    ),
    *_of(
        "writes.py",
        ("retries for hours", "2 ** min(state.failures - 1, 8)", "2 ** (state.failures - 1)"),
        ("all that was sent may be held", "(measured_w, measured_w) if refused(state) else state.maybe_w or (power_w, power_w)", "power_w, power_w"),
        ("what is refused shows in measured power", "(measured_w, measured_w) if refused(state) else state.maybe_w or", "state.maybe_w or"),
        ("the dead-man ends what was held", "if not state.in_flight and now_mono_s - state.last_done_mono_s > rules.dead_man_s:", "if False:"),
        ("a device that refuses is known", "return state.failures >= FAILURES_UNTIL_ALARM", "return False"),
        ("a failed write is owned by nobody", "if not outcome.ok:", "if False:"),
        ("one write at a time", "    if state.in_flight:\n        return None\n    if state.failures", "    if state.failures"),
        ("retries pause", "now_mono_s - state.last_done_mono_s >= pause_s else None\n    if state.owned_w", "True else None\n    if state.owned_w"),
        ("a lost setpoint is written again", "if lost(state, held, rules):", "if False:"),
        ("a stubborn device is written to slowly", "LONGEST_RETRY_S if stubborn else 0.0", "0.0"),
        ("a dead band", "small_w = max(rules.dead_band_w, state.rounded_w)", "small_w = 0.0"),
        ("rest is exact", "or (target_w == 0.0 and state.owned_w != 0.0)", ""),
        ("refresh before the dead-man", "now_mono_s - state.last_done_mono_s >= rules.dead_man_s * REFRESH_SHARE", "False"),
        ("accepted but not applied is seen", "now_mono_s - since > FOLLOW_WITHIN_S", "False"),
        first=_TICK,
    ),
    *_of(
        "conditions.py",
        ("an untrusted clock is told", "    if not clock_trusted:", "    if False:"),
        ("a device without dead-man is told", "if battery.has_dead_man is False:", "if False:"),
        ("a broken connection limit is told", "CLIP_EPSILON_W:\n        return []", "CLIP_EPSILON_W or True:\n        return []"),
        first=_TICK,
    ),
    *_of(
        "envelope.py",
        ("outage", "if moment.outage_id is not None:", "if False:"),
        ("not ready is no power", "if now.ready.value != 1:", "if False:"),
        ("a negative live limit forces nothing", "else max(up_to_discharge_w, 0.0)", "else up_to_discharge_w"),
        ("live limits", "if lowers_charge or lowers_discharge:", "if False:"),
        ("no meter, no power beside PV and load", "if others_w is None and not rules.battery_alone:", "if False:"),
        ("silent batteries count", "others_w - ups_w, others_w - downs_w", "others_w, others_w"),
        ("the projection looks past its slot's end", "max(slot_end_utc_s - utc_s, reaction_s)", "slot_end_utc_s - utc_s"),
        first=("envelope", "dispatch", *_TICK),
    ),
    *_of(
        "soc_window.py",
        ("nothing beyond the SoC limit", "    if inside_pct <= 0.0:\n        return 0.0\n", ""),
        ("taper", "rated_w * inside_pct / rules.taper_pct if inside_pct < rules.taper_pct else rated_w", "rated_w"),
        ("not across the limit within the reaction time", "return min(faded_w, landing_w)", "return faded_w"),
        ("reserve for outages", "if rules.floor_pct > low_pct and not now.reserve_released:", "if False:"),
        ("a closed direction stays closed", "    if closed.discharge_closed_mono_s is not None:", "    if False:"),
        ("a closed gate waits", "mono_s - closed_mono_s >= REOPEN_AFTER_S", "True"),
        ("hysteresis", "if inside_pct >= hysteresis_pct and", "if"),
        ("a margin for doubtful SoC", "if now.margin_pct <= 0.0:", "if True:"),
        ("landing at the slot's end", "charge_w, discharge_w = _landing(rules, now, floor_pct, high_pct)", "charge_w = discharge_w = 1e12"),
        first=("soc_window",),
    ),
    *_of(
        "derating.py",
        ("unknown quantity", "return when_unknown if at is None else", "return 1.0 if at is None else"),
        ("recovery is slow", "    if before is not None:\n        rise", "    if False:\n        rise"),
        first=("derating",),
    ),
    *_of(
        "curtailment.py",
        ("orders end", "if not order.start_utc_s <= utc_s < order.end_utc_s:", "if utc_s < order.start_utc_s:"),
        ("an order never widens", "order.export_limit_w < export_w:", "True:"),
        ("a negative limit is 0", "max(order.export_limit_w, 0.0)", "order.export_limit_w"),
        ("unknown load counts as none", "    if load_w is None:\n        ceiling_w = export_limit_w", "    if load_w is None:\n        ceiling_w = rated_w"),
        first=("curtailment",),
    ),
    *_of(
        "ramp.py",
        ("no jump after a pause", "min(max(mono_s - before.mono_s, 0.0), LONGEST_GAP_S)", "max(mono_s - before.mono_s, 0.0)"),
        first=("ramp",),
    ),
    *_of(
        "hybrid.py",
        ("unknown PV counts as its peak", "if pv_w is not None else shared.pv_peak_w", "if pv_w is not None else 0.0"),
        ("no charge from the grid", "(shared.rated_w if shared.grid_charge else 0.0)", "shared.rated_w"),
        first=("ramp_and_hybrid",),
    ),
    *_of(
        "outages.py",
        ("an outage ends", "outage.start_utc_s <= utc_s < outage.end_utc_s", "outage.start_utc_s <= utc_s"),
        first=("envelope", "dispatch", "bounds"),
    ),
    *_of(
        "dispatch.py",
        ("a target that is no number", "if not math.isfinite(target_w):", "if False:"),
        ("a response that is no number", "request.droop_w if math.isfinite(request.droop_w) else 0.0", "request.droop_w"),
        ("the connection limit", "total_w, cut = clamp(total_w, site_bounds)", "total_w, cut = total_w, ()"),
        ("award headroom", "base_w, cut = clamp(base_w, request.award_bounds)", "base_w, cut = base_w, ()"),
        ("shares move in pace", "shares_w = paced(shares_w, units, *room(site_bounds).soft)", "pass"),
        first=("dispatch",),
    ),
    *_of(
        "allocate.py",
        ("within the unit", "min(max(power_w, only.room.hard[0]), only.room.hard[1])", "power_w"),
        ("what one cannot take the others take", "parts[i] = free_w[i]", "parts[i] = left_w"),
        first=("allocate",),
    ),
    *_of(
        "droop.py",
        ("nobody moves on nonsense", "if not -MAX_AWAY_HZ <= below_hz <= MAX_AWAY_HZ:", "if False:"),
        ("gate", "if away_hz <= table.gate_hz + GATE_SLACK_HZ and table.gate_hz > 0.0:", "if False:"),
        ("only what was sold, up", "0.0 if award.direction is Direction.DOWN else share(table, below_hz)", "share(table, below_hz)"),
        first=("droop",),
    ),
    *_of(
        "units.py",
        ("a write under way counts", "may_hold_w=may_hold(line, battery_rules, inputs.mono_s) if line is not None else None,", "may_hold_w=None,"),
        ("a silent battery may hold a late setpoint", "return goes_w, -comes_w", "return goes_w, 0.0"),
        ("a silent battery may end", "return goes_w, -comes_w", "return 0.0, -comes_w"),
        ("a refusing battery may end", "or any(map(refused, writes))", ""),
        ("ageing is not another battery", "<= SAME_CAPACITY_SHARE * model.stated_capacity_wh", "<= 0.0"),
        first=("step_fleet",),
    ),
    *_of(
        "reserve_duty.py",
        ("the site's limits narrow the award's room", ".within(*room(site_bounds).soft)", ""),
        first=("step_awards",),
    ),
    *_of(
        "conditions.py",
        ("a capacity that is none is told", "battery.power_w.value is not None and battery.capacity_wh.value is None", "False"),
        ("a rating of nothing is told", "rated_w is not None and rated_w <= 0.0 for", "False for"),
        ("a frequency that is none is told", "now.meter.frequency_hz.quality is Quality.IMPLAUSIBLE", "False"),
        ("a contradiction is told", "if model.contradicted", "if False"),
        first=("step_garbage", "step_limits"),
    ),
    *_of(
        "frequency.py",
        ("a jump must be confirmed", "if before.believed_hz is not None and abs(hz - before.believed_hz) > BELIEVED_STEP_HZ:", "if False:"),
        ("an old frequency is not answered", "if mono_s - now.read_mono_s > max_age_s(table):", "if False:"),
        ("a coarse frequency is not answered", "if resolution_hz is not None and resolution_hz >", "if False and resolution_hz >"),
        ("a frequency that stands still is told", ">= STUCK_AFTER_S", ">= 1e9"),
        ("a frequency that moves is not stuck", "before.since_mono_s if hz == before.hz else at", "before.since_mono_s"),
        ("nonsense is not believed", "if not abs(hz - nominal_hz) <= MAX_AWAY_HZ:", "if False:"),
        first=("frequency",),
    ),
    *_of(
        "awards.py",
        ("an award is within the rating", "if _beyond(award, rated):", "if False:"),
        ("overlapping awards are within the rating", "if total_w > limit_w * RATING_MARGIN:", "if False:"),
        ("an award is above 0", "if not (math.isfinite(award.power_w) and award.power_w > 0.0):", "if False:"),
        first=("awards",),
    ),
    *_of(
        "reserve.py",
        ("a battery without SoC keeps nothing", "if soc_pct is None or capacity_wh is None or not capacity_wh > 0.0 or (upper_w <= 0.0 <= lower_w):", "if soc_pct is None or capacity_wh is None:"),
        ("energy is kept", "upper_w = max((room.give_wh - kept_wh[0]) / ahead_h, 0.0)", "upper_w = max(room.give_wh / ahead_h, 0.0)"),
        ("energy below the fade is not there", "self.fade_give_wh * give if up_w else 0.0", "0.0"),
        ("an award without power is told", "if needs > 0.0 and has < needs * TOLD_SHARE:", "if False:"),
        ("a direction that was not sold is not short", "if needs > 0.0 and has <", "if has <"),
        ("power is kept", "max(room.discharge_w - up_w, 0.0)", "room.discharge_w"),
        first=("reserve",),
    ),
    *_of(
        "battery_model.py",
        ("a jump of SoC is not learned", "if abs(soc_pct - stretch.soc_pct) > max(JUMP_PCT, 3.0 * explained_pct):", "if False:"),
        ("a contradiction is not learned", "if abs(moved_pct - expected_pct) > GROSS_SHARE * expected_pct + 2.0:", "if False:"),
        ("bounded", "return min(max(value, bounds[0]), bounds[1])", "return value"),
        ("a recalibrated SoC is believed at once", "if abs(away_pct) > BELIEF_GAP_PCT:", "if False:"),
        ("the belief is drawn to the readings", "away_pct * (1.0 - math.exp(-dt_s / belief_s))", "0.0"),
        first=("battery_model",),
    ),
    *_of(
        "energy_paths.py",
        ("a missing power is not split", "if dt_s <= 0.0 or battery_w is None or pv_w is None or load_w is None:", "if dt_s <= 0.0 or battery_w is None:"),
        first=("energy_paths",),
    ),
    *_of(
        "replan_rules.py",
        ("no run on an untrusted clock", "if not since or not now.clock_trusted or now.soc_pct is None:", "if not since or now.soc_pct is None:"),
        ("a least interval between runs", "now.mono_s - watch.last_run_mono_s < rules.min_interval_s", "False"),
        ("a trigger settles first", "if now.mono_s - began >= _settle_s(rules, occasion)", "if True"),
        first=("replan_rules",),
    ),
]  # fmt: skip

"""`ems simulate`: the real control tick against a simulated site, on virtual time, with a cloud that plans."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from agent.cli.client import EXIT_REFUSED, JsonOption, fail, show_json
from agent.core.plan import Target

if TYPE_CHECKING:
    from agent.config import SiteFile
    from agent.core.rules import SiteRules
    from simulators.scenario import Scenario, Sizes

DEFAULT_HOURS = 4.0
DEFAULT_PV_SHARE, DEFAULT_LOAD_SHARE = 0.4, 0.1

SiteArgument = typer.Argument(..., help="The site file.", metavar="SITE.toml")
Days = typer.Option(1, min=1, max=3660, help="Days to simulate.")
Seed = typer.Option(1, min=0, help="The same seed gives the same run.")
PricesOption = typer.Option(None, "--prices", help="CSV: slot_start_utc,<price columns>. Default: JEPX Tokyo, FY2023.")
Column = typer.Option(None, "--price-column", help="Its column to use. Default: tokyo_jpy_per_kwh.")
Irradiance = typer.Option(None, "--irradiance", help="CSV: minute_of_day,ghi_w_per_m2. Default: a very cloudy day.")
Frequency = typer.Option(
    None,
    "--frequency",
    help="CSV: second_of_day,frequency_hz. Default: with --award a day of Continental Europe. "
    "Without --award reserve of 40 % of the site is sold all the time.",
)
AwardOption = typer.Option(
    None, "--award", help="PRODUCT:KW:START:HOURS[:up|down] of reserve sold, hours from the start; repeatable."
)
CloudOutage = typer.Option(None, "--cloud-outage", help="START:HOURS from the start of the run; repeatable.")
FaultsOption = typer.Option("none", "--faults", help="none, or swarm: a random subset of faults, each healed.")
PlanTarget = typer.Option(None, "--plan-target", help="battery or grid. Default: grid with PV or load, else battery.")
Efficiency = typer.Option(1.0, "--true-efficiency", min=0.5, max=1.1, help="True round trip over the told one: 0.97.")
CapacityFactor = typer.Option(1.0, "--true-capacity-factor", min=0.1, max=1.5, help="True capacity over the told one.")
SocNoise = typer.Option(0.0, "--soc-noise", min=0.0, max=10.0, help="Standard deviation of the SoC told, in %.")
Out = typer.Option(None, "--out", help="Write report.html and result.json into this folder.")
Tick = typer.Option(None, "--tick", min=0.1, max=60.0, help="Seconds. Default: the site file's; 60 suits whole years.")
SlotMinutes = typer.Option(None, "--slot-minutes", help="Plan slots: 5, 15 or 30. Default: as the prices, at most 30.")
Capacity = typer.Option(
    None, "--capacity", min=0.001, help="Told capacity of all batteries, kWh. Default: 4 h of rating."
)
PvPeak = typer.Option(None, "--pv-peak", min=0.0, help="kW. Default: 40 % of the batteries' rating.")
LoadBase = typer.Option(None, "--load-base", min=0.0, help="kW. Default: 10 % of the batteries' rating.")
Lag = typer.Option(2.0, "--lag", min=0.0, max=60.0, help="Seconds: time constant of the inverter.")
Counter = typer.Option(
    10.0, "--counter-step", min=0.0, max=1e6, help="Resolution of the meter's counters, Wh; 0: none."
)
Wear = typer.Option(1.0, "--wear", min=0.0, help="Cost of wear per kWh discharged, as the cloud reckons it.")
References = typer.Option(True, help="Work out the informed optimum and perfect foresight.")


def simulate(  # noqa: PLR0917 (a command's options)
    site: Path = SiteArgument,
    days: int = Days,
    seed: int = Seed,
    prices: Path | None = PricesOption,
    price_column: str | None = Column,
    irradiance: Path | None = Irradiance,
    frequency: Path | None = Frequency,
    award: list[str] = AwardOption,
    cloud_outage: list[str] = CloudOutage,
    faults: str = FaultsOption,
    plan_target: str | None = PlanTarget,
    true_efficiency: float = Efficiency,
    true_capacity_factor: float = CapacityFactor,
    soc_noise: float = SocNoise,
    out: Path | None = Out,
    tick: float | None = Tick,
    slot_minutes: int | None = SlotMinutes,
    capacity: float | None = Capacity,
    pv_peak: float | None = PvPeak,
    load_base: float | None = LoadBase,
    lag: float = Lag,
    counter_step: float = Counter,
    wear: float = Wear,
    references: bool = References,
    as_json: bool = JsonOption,
) -> None:
    """Simulate days of this site: revenue against the optimum, slot energy, limits, broken invariants (exit code 1)."""
    from agent.config import ConfigError, load  # noqa: PLC0415 (the CLI starts fast)
    from simulators import scenario as scenarios  # noqa: PLC0415 (as above)

    try:
        site_file = load(site)
        told = _scenario(site_file, days, seed, tick)
        read = scenarios.read_prices(prices or scenarios.DEFAULT_PRICES, price_column or scenarios.DEFAULT_PRICE_COLUMN)
        sizes = _sizes(told.sizes, capacity, pv_peak, load_base)
        start_utc_s = scenarios.first_midnight(read, told.utc_offset_s)
        if frequency is not None and not award:
            award = [scenarios.award_by_default(told.rules, days)]
            typer.echo(f"no --award given, reserve sold: --award {award[0]}", err=True)
        scenario = replace(
            told,
            sizes=replace(sizes, lag_s=lag, counter_wh=counter_step),
            prices=read,
            start_utc_s=start_utc_s,
            slot_s=scenarios.checked_slot_s(slot_minutes, read),
            irradiance_w_per_m2=scenarios.read_irradiance(irradiance or scenarios.DEFAULT_IRRADIANCE),
            frequency_hz=_frequency(told.rules, frequency, sold=bool(award)),
            awards=scenarios.sold(award or (), told.rules, start_utc_s),
            truth=scenarios.Truth(true_efficiency, true_capacity_factor, soc_noise),
            target=scenarios.chosen("--plan-target", plan_target or told.target.value, Target),
            outages=tuple(scenarios.parse_outage(text) for text in cloud_outage or ()),
            faults=scenarios.chosen("--faults", faults, scenarios.Faults),
            wear_per_kwh=wear,
        )
    except (ConfigError, scenarios.ScenarioRefusedError) as error:
        refusal = {"what": "cannot simulate", "why": str(error), "next": "mend the file or the option"}
        fail(refusal, EXIT_REFUSED, as_json=as_json)
    _tell(_run(scenario, out, references=references), as_json=as_json)


def _scenario(site_file: SiteFile, days: int, seed: int, tick: float | None) -> Scenario:
    """The scenario of the site file alone, everything else at its default."""
    from simulators import scenario as scenarios  # noqa: PLC0415 (as above)

    rules = site_file.rules()
    if tick is not None:
        rules = replace(rules, tick_s=tick)
    rated_w = sum(max(b.rated_charge_w, b.rated_discharge_w) for b in rules.batteries)
    pv_w = DEFAULT_PV_SHARE * rated_w if rules.pv_ids else 0.0
    load_w = DEFAULT_LOAD_SHARE * rated_w if rules.has_load else 0.0
    return scenarios.Scenario(
        rules,
        scenarios.Sizes(DEFAULT_HOURS * rated_w, pv_w, load_w),
        days,
        seed,
        scenarios.Prices(0, scenarios.PRICE_SLOTS_S[0], (0.0,)),
        (),
        tick_s=rules.tick_s,
        target=Target.BATTERY if rules.battery_alone else Target.GRID,
        utc_offset_s=scenarios.offset_s(site_file.site.timezone),
    )


def _frequency(rules: SiteRules, path: Path | None, *, sold: bool) -> tuple[float, ...]:
    """The file asked for; with an award and no file the bundled day, where it is of the site's grid."""
    from simulators import scenario as scenarios  # noqa: PLC0415 (as above)

    if path is None and not (sold and rules.nominal_hz == scenarios.DEFAULT_FREQUENCY_HZ):
        return ()
    path = path or scenarios.DEFAULT_FREQUENCY
    return scenarios.checked_frequency(path, scenarios.read_frequency(path), rules.nominal_hz)


def _sizes(sizes: Sizes, capacity_kwh: float | None, pv_peak_kw: float | None, load_base_kw: float | None) -> Sizes:
    """The default sizes, with those that were given."""
    given = {"capacity_wh": capacity_kwh, "pv_peak_w": pv_peak_kw, "load_base_w": load_base_kw}
    return replace(sizes, **{name: 1000.0 * value for name, value in given.items() if value is not None})


def _tell(numbers: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        show_json(numbers)
    else:
        typer.echo("\n".join(lines(numbers)))
    if numbers["violations"]["count"]:
        for violation in numbers["violations"]["first"]:
            typer.echo(json.dumps(violation), err=True)
        raise typer.Exit(EXIT_REFUSED)


def _run(scenario: Scenario, out: Path | None, *, references: bool) -> dict[str, Any]:
    from simulators.scenario_result import simulate as run  # noqa: PLC0415 (scipy only when it is needed)

    result = run(scenario, _progress(), references=references)
    if sys.stderr.isatty():
        print(file=sys.stderr)
    if out is not None:
        from simulators.scenario_report import html_report  # noqa: PLC0415 (only for a report)

        out.mkdir(parents=True, exist_ok=True)
        (out / "report.html").write_text(html_report(result), encoding="utf-8")
        (out / "result.json").write_text(json.dumps(result.numbers, indent=1) + "\n", encoding="utf-8")
    return result.numbers


def _progress() -> Callable[[str, float], None]:
    """A bar on stderr; where that is no terminal, one line for each part."""
    seen: list[str] = []
    bar = 30

    def tell(what: str, share: float) -> None:
        done = "#" * round(share * bar)
        if sys.stderr.isatty():
            print(f"\r{what:<18} [{done:<{bar}}] {100 * share:3.0f} %", end="", file=sys.stderr, flush=True)
        elif what not in seen:
            seen.append(what)
            print(f"simulating: {what}", file=sys.stderr, flush=True)

    return tell


def lines(numbers: dict[str, Any]) -> list[str]:
    """The result for people."""
    money, error = numbers["money"], numbers["slot_energy_error"]
    told = [f"{numbers['days']} days of {numbers['site']}, seed {numbers['seed']}, target {numbers['target']}"]
    for name, key in (("slot energy error", "with_tracker"), ("  without tracker", "without_tracker")):
        found = error[key]
        if found is not None and found["slots"]:
            shown = f"mean {found['mean_pct']:.4f} %, p95 {found['p95_pct']:.4f} %, max {found['max_pct']:.4f} %"
            told.append(f"{name:<20} {shown}")
    if money is not None:
        told.append(f"{'revenue':<20} {money['revenue']:,.0f}, less wear {money['net']:,.0f}")
        for name, key in (("  of informed", "ratio_to_informed"), ("  of foresight", "ratio_to_foresight")):
            if money[key] is not None:
                told.append(f"{name:<20} {100 * money[key]:.2f} %")
    told += _response_lines(numbers["fcr"])
    soc = numbers["soc_pct"]
    told.append(f"{'true SoC':<20} {soc['min']:.1f} to {soc['max']:.1f} %, {numbers['cycles']:.1f} cycles")
    told.append(f"{'writes per day':<20} {sum(numbers['writes_per_day'].values()):.0f}")
    why = ", ".join(f"{name} {count}" for name, count in numbers["replans"]["why"].items())
    told.append(f"{'local re-plans':<20} {numbers['replans']['count']}" + (f" ({why})" if why else ""))
    told.append(f"{'broken invariants':<20} {numbers['violations']['count']}")
    told.append(f"{'speed':<20} {numbers['sim_days_per_s']:.3g} simulated days per second")
    return told


def _response_lines(found: dict[str, Any] | None) -> list[str]:
    """The judgement of the awards."""
    if found is None:
        return []
    share = found["share_of_seconds_within"]
    within = "no second to judge" if share is None else f"{100 * share:.4g} % of {found['seconds']} s within 1 %"
    told = [f"{'frequency response':<20} {within}"]
    if found["share_by_devices"]:
        told.append(f"{'  by own droop':<20} {100 * found['share_by_devices']:.4g} % of the time, else by the agent")
    for one in found["step_response"]:
        beyond = one["beyond_device_s"]
        shown = "never" if beyond is None else f"{one['time_to_90_pct_s']:g} s, {beyond:g} s more than the device alone"
        told.append(f"{'  90 % of a step':<20} {shown} ({one['product']})")
    return told

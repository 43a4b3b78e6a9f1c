"""`[replan]` in the site file."""

import pytest
from config_files import TEXT

from agent.config import ConfigError, load
from agent.core.replan_rules import ReplanRules

WITHOUT = TEXT[: TEXT.index("\n[replan]")] + TEXT[TEXT.index("\n[cloud]") :]


@pytest.fixture
def section(tmp_path):
    def of(*lines):
        path = tmp_path / "site.toml"
        path.write_text("\n".join((WITHOUT, "[replan]", *lines, "")))
        return load(path).replan

    return of


def test_without_it_the_site_plans_anew_by_the_rules_of_the_core(tmp_path):
    path = tmp_path / "site.toml"
    path.write_text(WITHOUT)
    replan = load(path).replan
    assert (replan.enabled, replan.rules()) == (True, ReplanRules())
    assert (replan.cycle_cost_per_kwh, replan.time_limit) == (0.0, 30.0)


def test_each_key_reaches_the_rules(section):
    replan = section(
        "enabled = false", "cycle_cost_per_kwh = 2.5", 'soc_tolerance = "5 %"', 'settle = "2 min"',
        'min_interval = "10 min"', 'repeat = "1 h"', 'time_limit = "10 s"',
    )  # fmt: skip
    assert (replan.enabled, replan.cycle_cost_per_kwh, replan.time_limit) == (False, 2.5, 10.0)
    assert replan.rules() == ReplanRules(5.0, 120.0, 600.0, 3600.0)


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("enabled = 1", "replan.enabled"),
        ('cycle_cost_per_kwh = "3 JPY"', "replan.cycle_cost_per_kwh"),
        ("cycle_cost_per_kwh = -1.0", "replan.cycle_cost_per_kwh"),
        ("cycle_cost_per_kwh = nan", "replan.cycle_cost_per_kwh"),
        ("soc_tolerance = 3", "write the unit with the number"),
        ('soc_tolerance = "0 %"', "replan.soc_tolerance"),
        ('settle = "0 s"', "replan.settle"),
        ('time_limit = "2 min"', "replan.time_limit"),
        ('min_interval = "1 h"', "repeat (1800 s) must not be shorter than min_interval (3600 s)"),
        ("enable = true", "did you mean 'enabled'?"),
    ],
)
def test_what_cannot_be_is_refused_by_key_and_reason(section, line, told):
    with pytest.raises(ConfigError, match=r"site\.toml: replan") as refused:
        section(line)
    assert told in str(refused.value)

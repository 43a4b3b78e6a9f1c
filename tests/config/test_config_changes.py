"""What differs between two site files, and what of it a running agent takes over."""

import pytest
from config_files import TEXT

from agent.config import SiteFile, load
from agent.site_file.changes import LIVE, changes
from agent.site_file.problems import keys, table


@pytest.fixture
def between(tmp_path):
    """The keys that differ between two texts, with whether they are live."""

    def found(before, after):
        path = tmp_path / "site.toml"
        files = []
        for text in (before, after):
            path.write_text(text)
            files.append(load(path))
        return {change.key: change.live for change in changes(*files)}

    return found


def test_a_file_that_says_the_same_in_other_words_changes_nothing(between):
    assert between(TEXT, "# a remark\n" + TEXT.replace('"400 kW"', '"0.4 MW"').replace('"1 s"', '"1000 ms"')) == {}


def test_every_live_key_is_one_of_the_site_file():
    for path in LIVE:
        section = SiteFile
        for name in path.split("."):
            assert section is not None, path
            assert name in keys(section), path
            section = table(section, name)


@pytest.mark.parametrize(
    ("old", "new", "key"),
    [
        ('export_limit = "400 kW"', 'export_limit = "100 kW"', "connection_point.export_limit"),
        ('soc_max = "95 %"', 'soc_max = "90 %"', "device[0] (bess).soc_max"),
        ('poll = "1 s"', 'poll = "500 ms"', "device[0] (bess).poll"),
        ('raise_after = "10 s"', 'raise_after = "20 s"', "device[1] (pv).raise_after"),
        ('local_rule = "idle"', 'local_rule = "self_consumption"', "control.local_rule"),
        ("cycle_cost_per_kwh = 0.0", "cycle_cost_per_kwh = 1.5", "replan.cycle_cost_per_kwh"),
        ("mqtt://127.0.0.1:1883", "mqtt://127.0.0.1:1884", "cloud.broker"),
        ("[store]", '[[cloud.signing_key]]\nid = "k"\npublic_key = "Qedhea0OBDHxtKOb-o0aBx3R4Rx85jcHBe4GCxdefUE"\n[store]', "cloud.signing_key"),
        ("[replan] ", '[[product]]\nname = "my-fcr"\npreset = "ce-fcr-gate"\n[replan] ', "product"),
        ('[[device]]\nid = "pv"', '[device.derating.soc]\ncharge = [["85 %", "100 %"], ["95 %", "20 %"]]\n[[device]]\nid = "pv"', "device[0] (bess).derating"),
    ],
)  # fmt: skip
def test_it_is_taken_over_by_a_running_agent(between, old, new, key):
    assert old in TEXT
    assert between(TEXT, TEXT.replace(old, new, 1)) == {key: True}


@pytest.mark.parametrize(
    ("old", "new", "key"),
    [
        ('id = "example-01"', 'id = "example-02"', "site.id"),
        ('tick = "1 s"', 'tick = "2 s"', "control.tick"),
        ('local_rule = "idle"', 'mode = "read_only"', "control.mode"),
        ('rated_power = "500 kW"', 'rated_power = "400 kW"', "device[0] (bess).rated_power"),
        ('dead_man = "30 s"', 'dead_man = "40 s"', "device[0] (bess).dead_man"),
        ("unit_id = 2", "unit_id = 7", "device[1] (pv).unit_id"),
        ('positive = "import"', 'positive = "export"', "device[2] (grid-meter).positive"),
        ('id = "pv"', 'id = "roof"', "device"),
        ("enabled = true", "enabled = false", "replan.enabled"),
        ('frame = "60 s"', 'frame = "30 s"', "cloud.frame"),
        ("telemetry_mb = 400", "telemetry_mb = 500", "store.telemetry_mb"),
    ],
)
def test_it_needs_a_restart(between, old, new, key):
    assert old in TEXT
    assert between(TEXT, TEXT.replace(old, new, 1)) == {key: False}


def test_a_key_or_a_product_that_changes_under_its_name_is_taken_over(between):
    key = '[[cloud.signing_key]]\nid = "k"\npublic_key = "{}"\n[store]'
    before, after = (
        TEXT.replace("[store]", key.format(public_key), 1)
        for public_key in (
            "Qedhea0OBDHxtKOb-o0aBx3R4Rx85jcHBe4GCxdefUE",
            "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo",
        )
    )
    assert between(before, after) == {"cloud.signing_key": True}
    product = '[[product]]\nname = "my-fcr"\npreset = "ce-fcr-gate"\ngate = "{} mHz"\n[replan] '
    before, after = (TEXT.replace("[replan] ", product.format(gate), 1) for gate in (15, 20))
    assert between(before, after) == {"product": True}


def test_a_cloud_that_comes_or_goes_needs_a_restart(between):
    without = TEXT[: TEXT.index("[cloud]")] + TEXT[TEXT.index("[store]") :]
    assert between(TEXT, without) == between(without, TEXT) == {"cloud": False}


def test_every_change_of_a_file_is_found(between):
    after = TEXT.replace('"5 %"', '"8 %"', 1).replace("unit_id = 2", "unit_id = 7", 1).replace("400", "300")
    assert between(TEXT, after) == {
        "connection_point.export_limit": True,
        "connection_point.import_limit": True,
        "device[0] (bess).soc_min": True,
        "device[1] (pv).unit_id": False,
        "store.telemetry_mb": False,
    }

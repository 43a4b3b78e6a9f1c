"""What is measured, from the devices to the cloud, to the disk and to a technician's file, with the real daemon."""

import csv
import io
import json

from integration_site import SITE, SITE_FILE, document, edge_ahead, ems, until
from jsonschema import Draft202012Validator

from agent.cloud.contract import schemas
from simulators.cloud_messages import column_values, read_message

EVERYTHING = ("--from", "2020-01-01", "--to", "2099-01-01")
METERED = SITE_FILE.replace('frame = "1 s"', 'frame = "1 s"\nlink = "metered"\naggregate = "1 s"')


def exported(agent, *options):
    """The rows of `ems telemetry export` on the agent's directory."""
    done = ems("telemetry", "export", *EVERYTHING, *options, "--store", str(agent.folder / "store"))
    assert done.returncode == 0, done.stderr
    return list(csv.DictReader(io.StringIO(done.stdout)))


def frame(cloud, stream, seq):
    return read_message(cloud.contents[stream, seq], SITE)


def test_every_device_is_in_the_frames_and_in_the_export_with_the_daemon_up_and_killed(parts, mosquitto):
    broker, plant = mosquitto(), parts.plant()
    cloud = parts.cloud(broker)
    agent = parts.agent(plant, broker).start()
    until(lambda: cloud.complete_to("telemetry") >= 3, "some frames")
    told = frame(cloud, "telemetry", cloud.complete_to("telemetry"))["columns"]
    assert {"bess.soc_pct", "bess.held_setpoint_w", "meter.export_wh"} <= {
        name.replace("grid-meter", "meter") for name in told
    }
    assert None not in column_values(told["bess.soc_pct"])
    rows = exported(agent)
    assert float(rows[-1]["bess.soc_pct"]) == float(rows[-1]["soc_pct"])
    agent.kill()
    after = exported(agent)
    assert len(after) >= len(rows)
    assert len({row["time"] for row in after}) == len(after)
    told = {"status": cloud.statuses, "ack": cloud.acks, "event": cloud.events, "forecast": cloud.forecasts}
    told["frame"] = [frame(cloud, *key) for key in list(cloud.contents) if key[0] == "telemetry"]
    for name, messages in told.items():
        schema = Draft202012Validator(schemas()[name])
        faults = [
            error.message for message in messages for error in schema.iter_errors(message) if message.get("online", 1)
        ]
        assert faults == [], name
    assert {float(row["setpoint_w"]) for row in after} == {0.0}, "no plan, so nothing was asked of the battery"


def test_a_metered_link_carries_means_and_the_samples_come_when_they_are_asked_for(parts, mosquitto):
    broker, plant = mosquitto(), parts.plant()
    cloud = parts.cloud(broker)
    agent = parts.agent(plant, broker, text=METERED).start()
    until(lambda: cloud.complete_to("telemetry") >= 1, "the first means")
    means = frame(cloud, "telemetry", 1)
    assert means["period_s"] == 1.0
    assert "bess.soc_pct.max" in means["columns"]
    assert cloud.seqs("full_rate") == []
    full = exported(agent)
    summed_up = exported(agent, "--means")
    assert len(full) > len(summed_up) >= 1
    asked_for = means["full_rate"]
    cloud.command("resend", "again-1", stream="full_rate", from_seq=asked_for["from"], to_seq=asked_for["to"])
    wanted = list(range(asked_for["from"], asked_for["to"] + 1))
    until(lambda: cloud.seqs("full_rate") == wanted, "the full-rate frames that the means were made of")
    assert frame(cloud, "full_rate", wanted[0])["stream"] == "full_rate"
    until(lambda: agent.status()["cloud"]["outbox_depth"] == 0, "the watermark counts, though it names full_rate too")


def test_the_cloud_is_told_what_the_site_will_do(parts, mosquitto):
    broker, plant = mosquitto(), parts.plant()
    cloud = parts.cloud(broker)
    parts.agent(plant, broker).start()
    cloud.send(document(1, [50.0] * 20, start=edge_ahead(60), slot_s=60))

    def told():
        return next((f for f in reversed(cloud.forecasts) if len(f["slots"]) >= 20), None)

    forecast = until(told, "a forecast along the plan", 40)
    assert [slot["planned_w"] for slot in forecast["slots"]] == [slot["power_w"] for slot in forecast["slots"]]
    soc = [slot["soc_end_pct"] for slot in forecast["slots"]]
    assert soc == sorted(soc, reverse=True)
    assert soc[-1] < soc[0] < forecast["soc_pct"] + 0.1
    assert json.dumps(forecast["awards"]) == "[]"

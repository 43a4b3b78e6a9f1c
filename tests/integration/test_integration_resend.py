"""A request for old messages that a power cut interrupts goes on after it, and has its one outcome."""

from integration_site import SITE_FILE, until

SLOW = SITE_FILE.replace('resend_after = "2 s"', 'resend_after = "1 h"\nhistory_per_s = 0.5')
"""An old message every two seconds, and none of them is sent again without being asked for."""


def test_a_resend_that_a_kill_interrupts_is_finished_afterwards(parts, mosquitto):
    broker, plant = mosquitto(), parts.plant()
    cloud = parts.cloud(broker)
    agent = parts.agent(plant, broker, text=SLOW).start()
    until(lambda: cloud.complete_to("telemetry") >= 4, "some frames")
    before = {seq: cloud.times_seen["telemetry", seq] for seq in range(1, 5)}
    cloud.command("resend", "rs-1", stream="telemetry", from_seq=1, to_seq=4)
    until(lambda: cloud.times_seen["telemetry", 1] > before[1], "the first comes again")
    agent.kill()
    assert cloud.times_seen["telemetry", 4] == before[4], "it was interrupted"
    agent.start()
    told = cloud.command_ack("rs-1", "done")
    assert told["detail"].startswith("4 of 4 messages")
    until(lambda: all(cloud.times_seen["telemetry", seq] > seen for seq, seen in before.items()), "all come again")
    assert [ack["stage"] for ack in cloud.command_acks("rs-1")] == ["accepted", "done"]

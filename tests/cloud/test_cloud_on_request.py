"""Live frames and ranges sent once more, over a real broker; and when a live time ends."""

from cloud_double import until

from agent.cloud.frame import telemetry_frame
from agent.cloud.on_request import LONGEST_LIVE_MINUTES, LiveMode
from agent.core.records import Sample

SAMPLE = Sample("b1", 1705287600.0, 1, 2, 3, None, 50, 50.01, 2, 2, "neutral")


def test_live_lasts_as_long_as_asked_and_shows_one_frame_a_second():
    live = LiveMode()
    assert not live.wants(0.0, 1000.0)
    assert live.start(2.0, 10.0) is None
    assert [live.wants(11.0, at) for at in (1000.0, 1000.4, 1001.0)] == [True, False, True]
    assert not live.wants(130.0, 1002.0)


def test_a_second_request_counts_instead_of_the_first_and_0_ends_it():
    live = LiveMode()
    live.start(60.0, 0.0)
    live.start(1.0, 0.0)
    assert not live.wants(61.0, 1000.0)
    live.start(60.0, 0.0)
    live.start(0.0, 0.0)
    assert not live.wants(0.0, 1000.0)


def test_no_live_time_is_endless():
    live = LiveMode()
    for minutes in (LONGEST_LIVE_MINUTES + 1, -1.0, float("nan")):
        assert live.start(minutes, 0.0).reason == "bad_value"
    assert not live.wants(0.0, 1000.0)


async def test_live_frames_are_shown_outside_the_sequence_and_only_while_asked_for(mosquitto, edge, cloud):
    broker = mosquitto()
    vpp = await cloud(broker)
    site = edge(broker).begin()
    await until(lambda: site.uplink.connected, "the connection")
    assert not site.uplink.wants_live(1000.0)
    site.uplink.start_live(1.0)
    assert site.uplink.wants_live(1000.0)
    site.uplink.show(telemetry_frame("demo-01", None, [SAMPLE]))
    await until(lambda: vpp.messages_of("edge/telemetry"), "the live frame")
    (shown,) = vpp.messages_of("edge/telemetry")
    assert (shown["seq"], shown["stream"]) == (None, "telemetry")


async def test_a_range_that_the_cloud_had_and_lost_comes_again_with_the_same_content(mosquitto, edge, cloud, store):
    broker = mosquitto()
    vpp = await cloud(broker)
    site = edge(broker).begin()
    for _ in range(10):
        await site.frame()
    await until(lambda: vpp.complete_to("telemetry") == 10, "all frames")
    await until(lambda: store.outbox_depth == 0, "the watermark")
    assert (await site.uplink.resend("telemetry", 4, 6)).messages == 3
    await until(lambda: [vpp.times_seen["telemetry", seq] for seq in range(3, 8)] == [1, 2, 2, 2, 1], "the range again")


async def test_a_broker_that_does_not_keep_up_gets_only_a_few_live_frames(mosquitto, edge, cloud):
    broker = mosquitto()
    vpp = await cloud(broker)
    site = edge(broker).begin()
    await until(lambda: site.uplink.connected, "the connection")
    for _ in range(100):
        site.uplink.show(telemetry_frame("demo-01", None, [SAMPLE]))
    await until(lambda: site.uplink._previews == 0, "all taken")
    assert 1 <= len(vpp.messages_of("edge/telemetry")) <= 10

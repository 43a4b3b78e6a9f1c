"""The session with a real broker: nothing lost, nothing counted twice, each document answered, no harm done."""

import asyncio
import json
import signal
import socket

import paho.mqtt.client as mqtt
import pytest
from cloud_documents import BAD, NOW, SITE, document
from cloud_double import until
from cloud_site import QUICK

from agent.cloud.messages import forecast_message
from agent.cloud.mqtt_link import MAX_IN_FLIGHT, ConnectionLost, MqttLink
from agent.cloud.transport import Transport
from agent.cloud.uplink import FLAPS_AFTER, Confirm, UplinkOptions
from agent.core.events import Event, EventState, Severity
from agent.core.records import Outcome, Stage, Stream
from agent.core.slots_ahead import SlotAhead
from agent.site_file.broker_address import BrokerAddress


def at(host, port):
    return Transport(BrokerAddress(host, port))


async def outbox(store, stream=Stream.TELEMETRY):
    return [seq for seq, _ in await store.pending(stream, 0, 10_000)]


async def emptied(store, stream=Stream.TELEMETRY):
    """Returns when the outbox of the stream is empty."""

    async def poll():
        while await outbox(store, stream):  # noqa: ASYNC110 - the disk has no event to wait for
            await asyncio.sleep(0.01)

    await asyncio.wait_for(poll(), 10)


class TestPlans:
    async def test_a_retained_plan_is_on_disk_in_force_and_acknowledged(self, mosquitto, edge, cloud, store):
        broker = mosquitto()
        vpp = await cloud(broker)
        vpp.send_plan(document())
        site = edge(broker).begin()
        await until(vpp.acks, "the ack")
        (ack,) = vpp.acks()
        assert (ack["version"], ack["stage"], ack["seq"]) == (17, "stored", 1)
        assert site.plans.rolling.version == 17
        assert (await store.load()).documents[0].document == document()
        await until(lambda: vpp.statuses[-1]["plans"]["rolling"] is not None, "the status with the plan")
        assert vpp.statuses[-1]["plans"]["rolling"]["sha256"] == ack["sha256"]

    async def test_each_bad_document_is_answered_by_name_and_the_plan_in_force_stays(self, mosquitto, edge, cloud):
        broker = mosquitto()
        vpp = await cloud(broker)
        site = edge(broker).begin()
        await until(lambda: site.uplink.connected, "the connection")
        vpp.send_plan(document(version=16), retain=False)
        await until(lambda: site.plans.rolling, "the good plan")
        bad = [case for i, case in enumerate(BAD) if i % 2 == 0][:25]  # below the cap of answers kept per minute
        for _, _, payload in bad:
            vpp.send_plan(payload, retain=False)
        await until(lambda: len(vpp.acks()) == len(bad) + 1, "all answers")
        assert [(a["reason"], a["field"]) for a in vpp.acks()[1:]] == [(reason, field) for reason, field, _ in bad]
        assert site.plans.rolling.version == 16

    async def test_a_plan_sent_while_the_agent_was_away_arrives_at_its_next_start(self, mosquitto, edge, cloud):
        broker = mosquitto()
        vpp = await cloud(broker)
        first = edge(broker).begin()
        await until(lambda: first.uplink.connected, "the first connection")
        await first.end()
        vpp.send_plan(document(), retain=False).wait_for_publish(5)
        second = edge(broker).begin()
        await until(lambda: second.plans.rolling, "the plan that was sent meanwhile")

    async def test_a_plan_is_sent_again_when_the_agent_died_before_it_was_done_with_it(self, mosquitto, edge, cloud):
        broker = mosquitto()
        vpp = await cloud(broker)
        first = edge(broker)
        begun = asyncio.Event()

        async def never_done(kind, payload):
            begun.set()
            await asyncio.Event().wait()

        first.uplink._on_document = never_done
        first.begin()
        await until(lambda: first.uplink.connected, "the first connection")
        vpp.send_plan(document(), retain=False)
        await asyncio.wait_for(begun.wait(), 10)
        await first.end()
        second = edge(broker).begin()
        await until(lambda: second.plans.rolling, "the plan again")


class TestCourtesies:
    async def test_they_never_crowd_out_what_must_arrive(self, mosquitto, edge):
        """While the broker takes nothing only so many wait as leave room for frames."""
        broker = mosquitto()
        site = edge(broker).begin()
        await until(lambda: site.uplink.connected, "the connection")
        broker._process.send_signal(signal.SIGSTOP)
        try:
            for _ in range(100):
                site.uplink.courtesy(Outcome(NOW, "rolling", 1, "0" * 64, Stage.RECEIVED))
            assert site.uplink._connection.unacknowledged == MAX_IN_FLIGHT
        finally:
            broker._process.send_signal(signal.SIGCONT)


class TestTelemetry:
    async def test_frames_sealed_before_the_connection_are_history_and_later_ones_live(self, mosquitto, edge, cloud):
        broker = mosquitto()
        vpp = await cloud(broker)
        site = edge(broker)
        await site.frame()
        site.begin()
        await until(lambda: vpp.seqs("telemetry") == [1], "the old frame")
        await site.frame()
        await until(lambda: vpp.seqs("telemetry") == [1, 2], "the new frame")
        assert vpp.topics["telemetry", 1] == "edge/history"
        assert vpp.topics["telemetry", 2] == "edge/telemetry"

    async def test_what_the_cloud_has_stored_leaves_the_disk(self, mosquitto, edge, cloud, store):
        broker = mosquitto()
        await cloud(broker)
        site = edge(broker).begin()
        for _ in range(30):
            await site.frame()
        await emptied(store)
        assert await store.last_seq(Stream.TELEMETRY) == 30

    async def test_a_broker_that_takes_frames_and_loses_them_gets_them_again(self, mosquitto, edge, cloud, store):
        broker = mosquitto()
        site = edge(broker).begin()
        await until(lambda: site.uplink.connected, "the connection")
        for _ in range(30):
            await site.frame()  # nobody has subscribed: the broker takes them and drops them
        await until(lambda: site.uplink._drain._lanes[-2].after == 30, "all sent")
        assert len(await outbox(store)) == 30
        vpp = await cloud(broker)
        await site.end()
        site.begin()
        await until(lambda: vpp.complete_to("telemetry") == 30, "all frames")
        assert vpp.topics["telemetry", 7] == "edge/history"

    async def test_what_nobody_heard_is_sent_again_on_the_same_connection(self, mosquitto, edge, cloud):
        broker = mosquitto()
        vpp = await cloud(broker, watermarks=False)
        vpp.say_stored({"telemetry": 0})
        site = edge(broker, UplinkOptions(link=QUICK, watermark_wait_s=0.2, resend_after_s=0.2)).begin()
        await until(lambda: site.uplink.connected, "the connection")
        connection = site.uplink._connection
        await vpp.listen(on=False)
        for _ in range(30):
            await site.frame()
        await until(lambda: site.uplink._drain._lanes[-2].after == 30, "all sent")
        await vpp.listen(on=True)
        await until(lambda: vpp.complete_to("telemetry") == 30, "all of it again")
        assert site.uplink._connection is connection

    async def test_the_broker_is_killed_twice_and_no_sample_is_missing_or_counted_twice(
        self, mosquitto, edge, cloud, store
    ):
        broker = mosquitto()
        vpp = await cloud(broker)
        site = edge(broker).begin()
        for _ in range(2):
            for _ in range(40):
                await site.frame()
            await until(lambda: vpp.seqs("telemetry"), "some frames")
            broker.kill()
            for _ in range(40):
                await site.frame()
            broker.start()
        await until(lambda: vpp.complete_to("telemetry") == 160, "all frames")
        assert set(vpp.samples().values()) == {1}
        assert len(vpp.samples()) == 160
        await emptied(store)

    async def test_a_frame_is_sent_once_per_connection_even_while_the_cloud_says_nothing(self, mosquitto, edge, cloud):
        broker = mosquitto()
        vpp = await cloud(broker, watermarks=False)
        site = edge(broker).begin()
        for _ in range(50):
            await site.frame()
        await until(lambda: vpp.complete_to("telemetry") == 50, "all frames")
        site.uplink.notify()
        last = await site.frame()
        await until(lambda: vpp.complete_to("telemetry") == last, "one more")
        assert set(vpp.times_seen.values()) == {1}

    async def test_with_puback_confirmation_the_broker_is_enough(self, mosquitto, edge, store):
        broker = mosquitto()
        site = edge(broker, UplinkOptions(confirm=Confirm.PUBACK, link=QUICK)).begin()
        await until(lambda: site.uplink.connected, "the connection")
        for _ in range(30):
            await site.frame()
        await emptied(store)


class TestWatermark:
    async def test_nothing_below_the_retained_watermark_is_sent_again(self, mosquitto, edge, cloud, store):
        broker = mosquitto()
        vpp = await cloud(broker, watermarks=False)
        site = edge(broker)
        for _ in range(10):
            await site.frame()
        vpp.say_stored({"telemetry": 6})
        site.begin()
        await until(lambda: 10 in vpp.seqs("telemetry"), "the rest")
        assert vpp.seqs("telemetry") == [7, 8, 9, 10]
        assert await outbox(store) == [7, 8, 9, 10]

    async def test_nothing_is_sent_before_the_watermark_had_its_chance(self, mosquitto, edge, cloud):
        broker = mosquitto()
        vpp = await cloud(broker, watermarks=False)
        site = edge(broker, UplinkOptions(link=QUICK, watermark_wait_s=60))
        await site.frame()
        site.begin()
        await until(lambda: site.uplink.connected, "the connection")
        vpp.send_plan(document())
        await until(lambda: vpp.messages_of("edge/ack"), "the courtesy, which does not wait")
        assert vpp.seqs("telemetry") == []
        vpp.say_stored({})
        await until(lambda: vpp.seqs("telemetry") == [1], "the frame")

    @pytest.mark.parametrize("payload", [{"telemetry": 11}, {"telemetry": "x"}], ids=["never sent", "no number"])
    async def test_a_wrong_one_deletes_nothing_and_is_told_once(self, mosquitto, edge, cloud, store, payload):
        broker = mosquitto()
        vpp = await cloud(broker, watermarks=False)
        site = edge(broker)
        for _ in range(10):
            await site.frame()
        site.begin()
        await until(lambda: vpp.complete_to("telemetry") == 10, "all frames")
        for _ in range(3):
            vpp.say_stored(payload)
        await until(vpp.events, "the event")
        vpp.say_stored({"telemetry": 4})
        await until(lambda: site.uplink._told_refusal is None, "a good one")
        assert [event["code"] for event in vpp.events()] == ["watermark_refused"]
        assert await outbox(store) == [5, 6, 7, 8, 9, 10]


class TestPresence:
    async def test_the_status_says_online_and_the_will_says_offline(self, mosquitto, edge, cloud):
        broker = mosquitto()
        vpp = await cloud(broker)
        site = edge(broker).begin()
        await until(lambda: vpp.statuses and vpp.statuses[-1]["online"], "online")
        await site.end()
        await until(lambda: not vpp.statuses[-1]["online"], "offline")
        assert vpp.statuses[-1] == {"schema": "1.0", "site_id": SITE, "online": False}

    async def test_the_forecast_is_retained_and_told_again_on_each_new_connection(self, mosquitto, edge, cloud):
        broker = mosquitto()
        site = edge(broker).begin()
        forecast = forecast_message(SITE, NOW, 50.0, [SlotAhead(NOW, NOW + 1800, 1e5, 9e4, 45.0)], [])
        site.uplink.forecast(forecast)
        await until(lambda: site.uplink.connected, "the connection")
        broker.kill()
        broker.start()
        await until(lambda: not site.uplink.connected, "the loss")
        vpp = await cloud(broker)
        await until(lambda: vpp.messages_of("edge/forecast"), "the forecast")
        assert vpp.messages_of("edge/forecast")[0] == json.loads(forecast)
        late = await cloud(broker)
        await until(lambda: late.messages_of("edge/forecast"), "the retained one")

    async def test_many_changes_at_once_make_few_messages(self, mosquitto, edge, cloud):
        broker = mosquitto()
        vpp = await cloud(broker)
        site = edge(broker).begin()
        await until(lambda: vpp.statuses, "the first status")
        for _ in range(1000):
            site.uplink.status_changed()
        site.now += 1
        await until(lambda: vpp.statuses[-1]["at"] != vpp.statuses[0]["at"], "the new status")
        assert len(vpp.statuses) <= 3

    async def test_another_client_with_our_id_is_an_alarm_that_ends_when_a_connection_holds(
        self, mosquitto, edge, cloud
    ):
        broker = mosquitto()
        vpp = await cloud(broker)
        site = edge(broker, UplinkOptions(link=QUICK, watermark_wait_s=0.1, steady_after_s=0.2))
        for _ in range(3):
            await site.uplink._on_lost(ConnectionLost("Session taken over", 0x8E))
        site.begin()
        await until(lambda: len(vpp.events()) == 2, "raised and cleared")
        raised, cleared = vpp.events()
        assert (raised["code"], raised["state"], raised["severity"]) == ("client_id_taken", "raised", "alarm")
        assert (cleared["code"], cleared["state"]) == ("client_id_taken", "cleared")

    async def test_two_agents_that_throw_each_other_out_are_told_even_by_a_broker_that_does_not(
        self, mosquitto, edge, cloud
    ):
        broker = mosquitto()
        vpp = await cloud(broker)
        site = edge(broker).begin()
        for _ in range(FLAPS_AFTER):
            await until(lambda: site.uplink.connected, "the connection")
            thief = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, f"ems-{SITE}", protocol=mqtt.MQTTv5)
            thief.connect("127.0.0.1", broker.port)
            thief.loop_start()
            await until(lambda: not site.uplink.connected, "the loss")
            thief.disconnect()
            thief.loop_stop()
        await until(vpp.events, "the event")
        assert [(e["code"], e["state"]) for e in vpp.events()] == [("connection_flaps", "raised")]
        assert "second agent" in vpp.events()[0]["text"]

    async def test_two_agents_of_one_site_know_it_at_once_by_the_status_that_the_broker_keeps(self, mosquitto, edge):
        broker = mosquitto()
        mine, other = edge(broker), edge(broker)
        mine.begin()
        await until(lambda: mine.uplink._twin._since_utc_s is not None, "a status is told")
        other.begin()

        def both_told():
            for each in (mine, other):
                each.now += 0.1  # no status is as old as the one before
            return all("client_id_taken" in each.uplink.raised for each in (mine, other))

        await until(both_told, "each is told of the other")
        for each, whose in ((mine, other), (other, mine)):
            severity, text = each.uplink.raised["client_id_taken"]
            assert severity is Severity.ALARM
            assert f"(an agent that started as {whose.boot_id} told its status" in text
            assert "systemctl disable --now ems-agent" in text

    async def test_a_line_that_breaks_again_and_again_is_no_second_agent_and_leaves_no_subscription_to_its_own_status(
        self, mosquitto, edge, cloud
    ):
        broker = mosquitto()
        vpp = await cloud(broker)
        site = edge(broker).begin()
        await until(lambda: vpp.statuses, "the status")
        for cuts in (1, 2, 3):
            site.now += 5
            await until(lambda: site.uplink._connection is not None, "the connection")
            site.uplink._connection._client.socket().shutdown(socket.SHUT_RDWR)
            await until(lambda cuts=cuts: site.uplink._short_connections == cuts, "the loss")
        await until(lambda: site.uplink.connected and site.uplink._twin._may_look, "its own status was seen")
        assert site.uplink.raised == {}
        seen, found = [], site.uplink._twin.found
        site.uplink._twin.found = lambda *statuses: seen.append(statuses) or found(*statuses)
        echoes = []
        for _ in range(4):
            site.now += 5
            known = len(vpp.statuses)
            site.uplink.status_changed()
            await until(lambda known=known: len(vpp.statuses) > known, "a new status")
            echoes.append(len(seen))
        assert echoes[-1] == echoes[1], "none comes back any more"

    async def test_events_come_in_order_and_before_old_telemetry(self, mosquitto, edge, cloud, store):
        broker = mosquitto()
        vpp = await cloud(broker)
        site = edge(broker)
        for _ in range(40):
            await site.frame()
        for i in range(5):
            await store.append_event(Event(NOW + i, EventState.NOTED, Severity.INFO, f"e{i}", "site", "text"))
        site.begin()
        await until(lambda: vpp.complete_to("telemetry") == 40, "everything")
        assert [event["code"] for event in vpp.events()] == ["e0", "e1", "e2", "e3", "e4"]
        streams = [content["stream"] for _, content in vpp.messages if content.get("seq")]
        assert streams.index("telemetry") == 5

    async def test_without_a_broker_nothing_happens_and_nothing_is_lost(self, mosquitto, edge, store):
        broker = mosquitto()
        broker.kill()
        site = edge(broker).begin()
        for _ in range(5):
            await site.frame()
        await until(lambda: site.uplink.last_trouble, "a failed attempt")
        assert not site.uplink.connected
        assert await outbox(store) == [1, 2, 3, 4, 5]

    @pytest.mark.parametrize("turns", range(6))
    async def test_it_ends_when_told_to_even_while_the_status_changes(self, mosquitto, edge, turns):
        broker = mosquitto()
        site = edge(broker).begin()
        await until(lambda: site.uplink.connected, "the connection")
        ending = asyncio.create_task(site.end())
        for _ in range(turns):
            await asyncio.sleep(0)
        site.uplink.status_changed()
        site.uplink.notify()
        async with asyncio.timeout(5):
            await ending


class TestLink:
    async def test_the_reason_that_a_broker_gives_for_throwing_us_out_is_heard(self):
        async def take_over(reader, writer):
            await reader.read(1000)
            writer.write(bytes.fromhex("20 03 00 00 00"))  # CONNACK
            writer.write(bytes.fromhex("e0 02 8e 00"))  # DISCONNECT, session taken over
            await writer.drain()
            writer.close()

        server = await asyncio.start_server(take_over, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        heard = asyncio.get_running_loop().create_future()

        async def session(connection):
            raise await connection.lost

        async def on_lost(lost):
            if not heard.done():
                heard.set_result(lost)

        running = asyncio.create_task(MqttLink(at("127.0.0.1", port), "x", ("t", b"")).run(session, on_lost))
        lost = await asyncio.wait_for(heard, 10)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        server.close()
        assert lost.reason_code == 0x8E

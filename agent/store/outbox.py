"""The numbered messages in telemetry.db: those that wait for the cloud, and those it has, kept to be sent again.

Functions on an open transaction. A message waits until the cloud has confirmed its sequence (`confirmed_seq`) or the
broker has taken it (`delivered`, folded into the confirmed sequence once nothing waits below). What does not wait any
more is kept until the quota needs its room. The full rate of a metered link never waits.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from agent.core.records import Stream
from agent.store.database import Damaged

ROWS_PER_MB = 2000


@dataclass(frozen=True, slots=True)
class Quota:
    """How much is kept. At one frame a minute (2 kB), the default holds about four months."""

    rows: int = 400 * ROWS_PER_MB
    payload_bytes: int = 400 * 1024 * 1024
    other_rows: int = 50_000
    """Acks and events that wait here; beyond it they wait in control.db, none is dropped. Slots of the ledger here too;
    beyond it the oldest go (they stay in the ledger itself)."""
    drop_share: float = 0.01
    """How much of the quota is freed at once, so that a long outage leaves few gap events."""

    @classmethod
    def of_mb(cls, size_mb: int) -> Quota:
        """So many MB of payload, and rows for frames down to a quarter of their usual size."""
        return cls(rows=size_mb * ROWS_PER_MB, payload_bytes=size_mb * 1024 * 1024)


@dataclass(frozen=True, slots=True)
class StreamState:
    """Where one stream stands."""

    last_seq: int
    announced_id: int
    confirmed_seq: int


@dataclass(frozen=True, slots=True)
class Held:
    """What is on disk of one stream."""

    rows: int
    payload_bytes: int
    waiting: int


Span = tuple[float, float]
"""The first and last time that a frame tells of, Unix s."""
ANNOUNCED = (Stream.ACK, Stream.EVENT)
"""Each message of these stands for a row of control.db."""
HAS_TIMES = (Stream.TELEMETRY, Stream.FULL_RATE)
EVICTED_FIRST = (Stream.FULL_RATE, Stream.TELEMETRY, Stream.LEDGER, Stream.EVENT, Stream.ACK)
"""Of what does not wait: no gap is told, for the cloud has it, or did not want it on its metered link."""
MAY_BE_LOST = (Stream.TELEMETRY, Stream.LEDGER)
"""Of what waits: frames, then the energies of slots. Never events or outcomes."""
_WAITS = "stream = ?1 AND seq > ?2 AND seq NOT IN (SELECT seq FROM delivered WHERE stream = ?1)"
_DONE = "stream = ?1 AND (seq <= ?2 OR seq IN (SELECT seq FROM delivered WHERE stream = ?1))"


def table_of(stream: Stream) -> str:
    """Where the messages of a stream lie; a version of the agent that does not know a stream must not meet it."""
    return {Stream.LEDGER: "ledger_outbox", Stream.FULL_RATE: "full_rate_outbox"}.get(stream, "outbox")


def begin_streams(db: sqlite3.Connection, floors: Mapping[Stream, tuple[int, int]]) -> None:
    """Each stream has its rows and goes on above its floor (sequence, row id)."""
    for stream, (seq, announced) in floors.items():
        db.execute(
            "INSERT INTO streams (stream, last_seq, announced_id, confirmed_seq) VALUES (?1, ?2, ?3, 0) "
            "ON CONFLICT DO UPDATE SET "
            "last_seq = max(last_seq, ?2), announced_id = max(announced_id, ?3)",
            (stream.value, seq, announced),
        )
        _count(db, stream)


def state_of(db: sqlite3.Connection, stream: Stream) -> StreamState:
    """The stream's last sequence, the last id announced, and what the cloud confirmed."""
    row = db.execute(
        "SELECT last_seq, announced_id, confirmed_seq FROM streams WHERE stream = ?", (stream.value,)
    ).fetchone()
    assert row is not None, "begin_streams makes a row for each stream"
    if not all(type(cell) is int for cell in row):
        raise Damaged("telemetry", f"the file is damaged: nobody can tell where the {stream} stream stands")
    return StreamState(*row)


def held(db: sqlite3.Connection) -> dict[Stream, Held]:
    """What is on disk, by stream."""
    found: dict[Stream, Held] = {}
    for name, *counts in db.execute("SELECT stream, rows, payload_bytes, waiting FROM held"):
        if name not in tuple(Stream) or not all(type(count) is int for count in counts):
            raise Damaged("telemetry", "the file is damaged: nobody can tell how much it holds")
        found[Stream(name)] = Held(*counts)
    return found


def _count(db: sqlite3.Connection, stream: Stream) -> None:
    """Counts anew only where a version of the agent that does not count was at work: it costs a read of everything."""
    table, name = table_of(stream), stream.value
    (rows,) = db.execute(f"SELECT count(*) FROM {table} WHERE stream = ?", (name,)).fetchone()  # noqa: S608
    known = db.execute("SELECT rows FROM held WHERE stream = ?", (name,)).fetchone()
    if known == (rows,):
        return
    sql = f"SELECT coalesce(sum(length(payload)), 0) FROM {table} WHERE stream = ?"  # noqa: S608 - our own names
    (size,) = db.execute(sql, (name,)).fetchone()
    sql = f"SELECT count(*) FROM {table} WHERE {_WAITS}"  # noqa: S608 - our own names
    (waiting,) = db.execute(sql, (name, _confirmed(db, stream))).fetchone()
    db.execute(
        "INSERT OR REPLACE INTO held (stream, rows, payload_bytes, waiting) VALUES (?, ?, ?, ?)",
        (name, rows, size, waiting),
    )


def _confirmed(db: sqlite3.Connection, stream: Stream) -> int:
    """Nothing up to here waits; of the full rate nothing at all."""
    return 2**62 if stream is Stream.FULL_RATE else state_of(db, stream).confirmed_seq


def _now_holds(db: sqlite3.Connection, stream: Stream, rows: int, payload_bytes: int, waiting: int) -> None:
    sql = "UPDATE held SET rows = rows + ?, payload_bytes = payload_bytes + ?, waiting = waiting + ? WHERE stream = ?"
    db.execute(sql, (rows, payload_bytes, waiting, stream.value))


def insert(
    db: sqlite3.Connection,
    stream: Stream,
    build: Callable[[int], bytes],
    now_utc_s: float,
    *,
    row_id: int | None = None,
    span: Span | None = None,
) -> int:
    """The sequence of the message that `build` makes of it."""
    seq = state_of(db, stream).last_seq + 1
    payload = build(seq)
    columns = "stream, seq, created_utc_s, row_id, payload"
    sql = f"INSERT INTO {table_of(stream)} ({columns}) VALUES (?, ?, ?, ?, ?)"  # noqa: S608 - our own names
    db.execute(sql, (stream.value, seq, now_utc_s, row_id, payload))
    if span is not None:
        db.execute(
            "INSERT INTO frame_times (stream, seq, from_utc_s, to_utc_s) VALUES (?, ?, ?, ?)",
            (stream.value, seq, *span),
        )
    db.execute("UPDATE streams SET last_seq = ? WHERE stream = ?", (seq, stream.value))
    _now_holds(db, stream, 1, len(payload), 0 if stream is Stream.FULL_RATE else 1)
    return seq


def pending(
    db: sqlite3.Connection, stream: Stream, after_seq: int, limit: int, up_to_seq: int | None
) -> list[tuple[int, bytes]]:
    """Waiting messages above `after_seq` (and not above `up_to_seq`) in order, as (sequence, payload)."""
    sql = f"SELECT seq, payload FROM {table_of(stream)} WHERE {_WAITS} AND seq <= ?3 ORDER BY seq LIMIT ?4"  # noqa: S608
    values = (stream.value, max(after_seq, _confirmed(db, stream)), 2**62 if up_to_seq is None else up_to_seq, limit)
    return db.execute(sql, values).fetchall()


def kept(db: sqlite3.Connection, stream: Stream, after_seq: int, up_to_seq: int, limit: int) -> list[tuple[int, bytes]]:
    """Messages above `after_seq` and not above `up_to_seq` in order, whether they wait or not."""
    sql = f"SELECT seq, payload FROM {table_of(stream)} WHERE stream = ? AND seq > ? AND seq <= ? ORDER BY seq LIMIT ?"  # noqa: S608
    return db.execute(sql, (stream.value, after_seq, up_to_seq, limit)).fetchall()


def count_kept(db: sqlite3.Connection, stream: Stream, from_seq: int, to_seq: int) -> int:
    """How many messages from `from_seq` to `to_seq` are on disk."""
    sql = f"SELECT count(*) FROM {table_of(stream)} WHERE stream = ? AND seq BETWEEN ? AND ?"  # noqa: S608
    (count,) = db.execute(sql, (stream.value, from_seq, to_seq)).fetchone()
    return int(count)


def confirm(db: sqlite3.Connection, stream: Stream, seq: int) -> int | None:
    """Nothing up to `seq` waits any more; the newest row of control.db announced by it."""
    before = _confirmed(db, stream)
    # A month of frames is counted in the index alone; only acks and events stand for rows of control.db.
    newest = "max(row_id)" if stream in ANNOUNCED else "NULL"
    sql = f"SELECT count(*), {newest} FROM {table_of(stream)} WHERE {_WAITS} AND seq <= ?3"  # noqa: S608
    count, row_id = db.execute(sql, (stream.value, before, seq)).fetchone()
    if seq > before:
        _confirmed_to(db, stream, seq)
        _now_holds(db, stream, 0, 0, -count)
    return None if row_id is None else int(row_id)


def deliver(db: sqlite3.Connection, stream: Stream, seqs: Iterable[int]) -> int | None:
    """These do not wait any more; the newest row of control.db announced by them."""
    newest: int | None = None
    if stream is Stream.FULL_RATE:
        return newest
    sql = f"SELECT row_id FROM {table_of(stream)} WHERE {_WAITS} AND seq = ?3"  # noqa: S608
    confirmed = state_of(db, stream).confirmed_seq
    for seq in seqs:
        found = db.execute(sql, (stream.value, confirmed, seq)).fetchone()
        if found is None:
            continue
        db.execute("INSERT INTO delivered (stream, seq) VALUES (?, ?)", (stream.value, seq))
        _now_holds(db, stream, 0, 0, -1)
        if found[0] is not None:
            newest = max(newest or 0, found[0])
    lowest = f"SELECT seq FROM {table_of(stream)} WHERE {_WAITS} ORDER BY seq LIMIT 1"  # noqa: S608 - our own names
    waits = db.execute(lowest, (stream.value, confirmed)).fetchone()
    up_to = state_of(db, stream).last_seq if waits is None else waits[0] - 1
    _confirmed_to(db, stream, max(confirmed, up_to))
    return newest


def _confirmed_to(db: sqlite3.Connection, stream: Stream, seq: int) -> None:
    db.execute("UPDATE streams SET confirmed_seq = ? WHERE stream = ?", (seq, stream.value))
    db.execute("DELETE FROM delivered WHERE stream = ? AND seq <= ?", (stream.value, seq))


def make_room(db: sqlite3.Connection, quota: Quota, now_utc_s: float) -> None:
    """The quota holds one more message: what does not wait goes first, then frames, then slots, oldest first.

    What waited and goes is written down as a gap, to be told.
    """
    now = held(db)
    rows, size = sum(one.rows for one in now.values()), sum(one.payload_bytes for one in now.values())
    need = (max(0, rows + 1 - quota.rows), max(0, size - quota.payload_bytes))
    if any(need):
        _evict(db, need, quota.drop_share, now_utc_s)
    for stream in (Stream.LEDGER, Stream.EVENT, Stream.ACK):
        over = now[stream].rows - quota.other_rows
        if over >= 0:
            _drop(db, stream, max(over, int(quota.other_rows * quota.drop_share), 1), waiting=False)
    if now[Stream.LEDGER].waiting >= quota.other_rows:
        dropped = _drop(db, Stream.LEDGER, max(1, int(quota.other_rows * quota.drop_share)), waiting=True)
        _tell_gap(db, Stream.LEDGER, dropped, now_utc_s)


def _evict(db: sqlite3.Connection, need: tuple[int, int], share: float, now_utc_s: float) -> None:
    """At least so many (messages, bytes) go, and of what goes at least this share of all, so that it is not soon again.

    A class is touched only while those before it did not give what is needed.
    """
    now = held(db)
    rows, size = need
    want_rows = max(rows, int(sum(one.rows for one in now.values()) * share)) if rows else 0
    want_size = max(size, int(sum(one.payload_bytes for one in now.values()) * share)) if size else 0
    todo = [(stream, False) for stream in EVICTED_FIRST] + [(stream, True) for stream in MAY_BE_LOST]
    for stream, waiting in todo:
        mean = max(1, now[stream].payload_bytes // max(1, now[stream].rows))
        dropped = _drop(db, stream, max(want_rows, -(-want_size // mean)), waiting=waiting)
        if waiting:
            _tell_gap(db, stream, dropped, now_utc_s)
        freed = sum(length for _, length in dropped)
        rows, size = rows - len(dropped), size - freed
        want_rows, want_size = max(want_rows - len(dropped), 0), max(want_size - freed, 0)
        if rows <= 0 and size <= 0:
            return


def _drop(db: sqlite3.Connection, stream: Stream, count: int, *, waiting: bool) -> Sequence[tuple[int, int]]:
    """The oldest messages that wait, or those that do not, deleted: (sequence, size)."""
    table, which = table_of(stream), _WAITS if waiting else _DONE
    oldest = f"SELECT seq FROM {table} WHERE {which} ORDER BY seq LIMIT ?3"  # noqa: S608 - our own names
    values = (stream.value, _confirmed(db, stream), count)
    sql = f"DELETE FROM {table} WHERE stream = ?1 AND seq IN ({oldest}) RETURNING seq, length(payload)"  # noqa: S608
    gone: list[tuple[int, int]] = sorted(db.execute(sql, values).fetchall())
    if gone and stream in HAS_TIMES:
        sql = "DELETE FROM frame_times WHERE stream = ? AND seq = ?"
        db.executemany(sql, [(stream.value, seq) for seq, _ in gone])
    _now_holds(db, stream, -len(gone), -sum(size for _, size in gone), -len(gone) if waiting else 0)
    return gone


def _tell_gap(db: sqlite3.Connection, stream: Stream, dropped: Sequence[tuple[int, int]], now_utc_s: float) -> None:
    """One record for each range without a hole; the writer makes an event of it."""
    first = 0
    for index in range(1, len(dropped) + 1):
        if index == len(dropped) or dropped[index][0] != dropped[index - 1][0] + 1:
            sql = "INSERT INTO gaps (at_utc_s, from_seq, to_seq, stream) VALUES (?, ?, ?, ?)"
            db.execute(sql, (now_utc_s, dropped[first][0], dropped[index - 1][0], stream.value))
            first = index

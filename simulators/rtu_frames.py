"""RTU frames as a device on a serial line sees them (MODBUS over Serial Line V1.02, chapter 2.5.1).

Written bit by bit from the standard, apart from the library that the agent uses, so that each proves the other.
"""

from __future__ import annotations

CRC_BYTES = 2
WRITE_MANY = 0x10
POLYNOMIAL = 0xA001


def crc(data: bytes) -> bytes:
    """The two bytes that end a frame, low byte first."""
    value = 0xFFFF
    for byte in data:
        value ^= byte
        for _ in range(8):
            value = (value >> 1) ^ POLYNOMIAL if value & 1 else value >> 1
    return value.to_bytes(CRC_BYTES, "little")


def framed(unit: int, pdu: bytes) -> bytes:
    """The frame of a PDU."""
    body = bytes((unit,)) + pdu
    return body + crc(body)


def is_whole(frame: bytes) -> bool:
    """Whether its checksum fits."""
    return crc(frame[:-CRC_BYTES]) == frame[-CRC_BYTES:]


def request_bytes(head: bytes) -> int:
    """How long a request is without its checksum, given its first seven bytes: functions 3, 4, 6 and 16."""
    return 7 + head[6] if head[1] == WRITE_MANY else 6

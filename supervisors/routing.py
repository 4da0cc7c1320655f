"""Which partition a key belongs to: the same one in every process, on every machine, in every release.

Python's own ``hash`` will not do: it is salted anew in each process. So a key is written as bytes, in one way
only, and those are hashed. Keys that Python holds for equal (``1``, ``1.0`` and ``True``) are written alike. What
cannot be written in one way only is refused: an object's identity, or an order that is not there.
"""

from __future__ import annotations

import struct
from hashlib import blake2b
from uuid import UUID

from ..messages.errors import PartitionInvalid
from ..messages.redact import repr_of

__all__ = ["partition_of"]


def partition_of(key: object, partitions: int) -> int:
    """The number of the partition, from 0, that ``key`` belongs to.

    Args:
        key: a whole number belongs to partition ``key % partitions``; a text, bytes, a float, a UUID, None or a
            tuple of such to one that its hash says.
        partitions: how many there are.

    Raises:
        PartitionInvalid: a key of this type would not belong to the same partition everywhere.
    """
    if isinstance(key, int):
        return int(key) % partitions
    if isinstance(key, float) and key.is_integer():
        return int(key) % partitions
    digest = blake2b(_written(key), digest_size=8).digest()
    return int.from_bytes(digest, "big") % partitions


def _written(key: object) -> bytes:
    """The key as bytes: its type, and a text that says where it ends."""
    match key:
        case None:
            return b"n;"
        case int():
            return b"i%x;" % key
        case float() if key.is_integer():
            return b"i%x;" % int(key)
        case float() if key == key:
            return b"f" + struct.pack(">d", key)
        case str():
            return _measured(b"s", key.encode("utf-8", "surrogatepass"))
        case bytes():
            return _measured(b"b", key)
        case UUID():
            return b"u" + key.bytes
        case tuple():
            return b"t%x:" % len(key) + b"".join(map(_written, key))
        case _:
            raise PartitionInvalid(
                f"{repr_of(key)} cannot be a routing key: a {type(key).__name__} is not written alike in every "
                "process; give a whole number, a text, bytes, a UUID, or a tuple of these"
            )


def _measured(tag: bytes, content: bytes) -> bytes:
    return b"%b%x:%b" % (tag, len(content), content)

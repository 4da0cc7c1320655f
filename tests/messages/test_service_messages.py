"""The services' messages: their names, fields and defaults are what other programs rely on."""

from __future__ import annotations

import dataclasses
import inspect
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest

from understudy import messages
from understudy.messages import (
    ActionType,
    AllNotifs,
    CodecError,
    ConsumeNotif,
    CryptoConfig,
    ErrorKind,
    Fence,
    Lease,
    Message,
    NotifData,
    NotifRow,
    NotifsOfOwner,
    ProduceNotif,
    Publish,
    StoreNotifEvent,
    WireRegistry,
    decode,
    decode_named,
    default_registry,
    encode,
    encode_named,
    reply_type_of,
)
from understudy.messages.registry import PREFIXES, SERVICES

SAMPLE = (
    b'{"id":"unqie-id0","receiver_info":"1","action_data":{"pid":200.4},"actioner_info":"2",'
    b'"action_type":"ProductPurchased","fired_at":1714316645,"is_seen":false}'
)
NOTIFICATION = NotifData(
    id="unqie-id0", receiver_info="1", action_data={"pid": 200.4}, actioner_info="2", fired_at=1714316645
)

PUBLIC = [getattr(messages, name) for name in messages.__all__]
BASES = (Message, messages.ReadStatement, messages.TaskPayload, messages.WriteStatement)
"""What message types are derived from: each says its reply itself."""
MESSAGE_TYPES = [item for item in PUBLIC if inspect.isclass(item) and issubclass(item, Message)]


def names(message_type: type[Message[object]]) -> list[str]:
    """The fields as they are called on the wire."""
    return [field.encode_name for field in msgspec.structs.fields(message_type)]


def test_a_notification_is_written_as_other_programs_expect_it() -> None:
    """Field by field, in this order."""
    assert encode(NOTIFICATION) == SAMPLE
    assert decode(SAMPLE, NotifData) == NOTIFICATION


def test_the_action_types_have_their_names() -> None:
    """A purchase is the default."""
    assert [str(action) for action in ActionType] == [
        "ProductPurchased",
        "Zerlog",
        "EventCreated",
        "EventExpired",
        "EventLocked",
    ]
    assert NOTIFICATION.action_type is ActionType.PRODUCT_PURCHASED


@pytest.mark.parametrize(
    ("message_type", "fields"),
    [
        (NotifData, "id receiver_info action_data actioner_info action_type fired_at is_seen"),
        (ProduceNotif, "notif_data exchange_name exchange_type routing_key local_spawn"),
        (ConsumeNotif, "queue exchange_name routing_key tag redis_cache_exp local_spawn cache_on_redis store_in_db"),
        (StoreNotifEvent, "message local_spawn"),
        (CryptoConfig, "secret passphrase unique_key"),
        (NotifRow, "id receiver_info nid action_data actioner_info action_type fired_at is_seen"),
        (NotifsOfOwner, "owner from to page_size"),
        (AllNotifs, "from to page_size"),
    ],
)
def test_fields_keep_the_names_of_the_pipeline(message_type: type[Message[object]], fields: str) -> None:
    """There may be more, which are optional then."""
    required = {field.encode_name for field in msgspec.structs.fields(message_type) if field.required}
    assert set(fields.split()) <= set(names(message_type))
    assert required <= set(fields.split())


def test_reading_starts_with_the_first_ten() -> None:
    """From 0 to 10, ten on a page, unseen ones of an owner."""
    assert decode(b'{"owner":"1"}', NotifsOfOwner) == NotifsOfOwner(
        owner="1", from_=0, to=10, page_size=10, unseen_only=True
    )
    assert encode(AllNotifs()) == b'{"from":0,"to":10,"page_size":10,"unseen_only":false}'


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"id": ""}, "id"),
        ({"id": "x" * 256}, "id"),
        ({"id": 5}, "id"),
        ({"id": "a\0b"}, "id"),
        ({"receiver_info": "\0"}, "receiver_info"),
        ({"actioner_info": "a\n\0"}, "actioner_info"),
        ({"fired_at": -1}, "fired_at"),
        ({"fired_at": 253_402_300_800}, "fired_at"),
        ({"fired_at": "1714316645"}, "fired_at"),
        ({"fired_at": 1714316645.5}, "fired_at"),
        ({"action_type": "Sold"}, "action_type"),
        ({"is_seen": 0}, "is_seen"),
        ({"receiver_info": None}, "receiver_info"),
    ],
)
def test_a_notification_that_is_not_one_is_refused_by_field(change: dict[str, Any], field: str) -> None:
    """Before anything is published or stored."""
    with pytest.raises(CodecError) as caught:
        decode(encode_plain({**msgspec.to_builtins(NOTIFICATION), **change}), NotifData)
    assert (caught.value.kind, caught.value.field) == (ErrorKind.FIELD_INVALID, field)


def encode_plain(value: object) -> bytes:
    """Any value as JSON."""
    return msgspec.json.encode(value)


def test_the_secrets_of_a_crypto_config_are_never_printed() -> None:
    """Not by repr, not inside another message, not by rich."""
    config = CryptoConfig("s3cr3t", "s3cr3t", "s3cr3t")
    produce = ProduceNotif(notif_data=NOTIFICATION, exchange_name="x", encryption_config=config)
    assert "s3cr3t" not in f"{config!r} {config} {produce!r} {list(config.__rich_repr__())}"
    assert config == CryptoConfig("s3cr3t", "s3cr3t", "s3cr3t")


def test_a_lease_gives_the_fence_for_the_work_under_it() -> None:
    """What the lock's holder puts into its messages to the mutator."""
    assert Lease("notifs", "me", 7, 30.0).fence == Fence("notifs", 7)


def test_a_body_of_bytes_crosses_a_wire() -> None:
    """As base64."""
    publish = Publish("x", "", b"\x00\xff")
    assert decode_named(encode_named(publish)) == publish


@pytest.mark.parametrize("message_type", MESSAGE_TYPES, ids=lambda item: item.__name__)
def test_every_message_of_the_services_can_be_sent_and_says_its_reply(message_type: type[Message[object]]) -> None:
    """It can be read from JSON, its fields are described, and an asker knows what comes back."""
    assert msgspec.inspect.type_info(message_type)
    assert inspect.getdoc(message_type)
    if message_type not in BASES:
        assert reply_type_of(message_type) is not None


def test_wire_names_are_grouped_by_service() -> None:
    """The first word says whose message it is."""
    ours = [name for name in default_registry.names() if not default_registry.type_of(name).__module__.startswith("te")]
    assert {name.split(".")[0] for name in ours} == {"broker", "cache", "errorlog", "lock", "notif"}
    assert not any(dataclasses.is_dataclass(default_registry.type_of(name)) for name in ours)


def test_a_program_that_has_imported_no_service_reads_their_messages_all_the_same() -> None:
    program = (
        "from understudy.messages import decode_named\n"
        """print(decode_named(b'{"type":"cache.get","data":{"key":"a"}}'))\n"""
        """print(decode_named(b'{"type":"notif.seen","data":{"id":"a"}}'))\n"""
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    assert (done.stdout, done.stderr) == ("CacheGet(key='a')\nSeenNotif(id='a')\n", "")


def test_every_module_that_registers_messages_is_known_to_the_registry() -> None:
    folder = Path(messages.__file__).parent
    registering = {file.stem for file in folder.glob("*.py") if "\n@register(" in file.read_text(encoding="utf-8")}
    assert registering == set(SERVICES)


def test_the_reserved_first_words_are_those_of_our_own_names() -> None:
    assert {name.partition(".")[0] for name in default_registry.names()} >= set(PREFIXES)
    ours = {
        name
        for name in default_registry.names()
        if default_registry.type_of(name).__module__.startswith(f"{messages.__name__}.")
    }
    assert {name.partition(".")[0] for name in ours} == set(PREFIXES)


@pytest.mark.parametrize("registry", ["default_registry", "WireRegistry(default_registry)"])
@pytest.mark.parametrize("imported_before", [False, True])
@pytest.mark.parametrize("name", ["lock.acquire", "notif.of_ours"])
def test_a_name_like_the_services_own_is_refused_where_it_is_given_away(
    name: str, imported_before: bool, registry: str
) -> None:
    """Whatever has been imported by then; else it would be the import of the service that failed, far away."""
    program = (
        f"{'import understudy.messages.lock' if imported_before else ''}\n"
        "from understudy.messages import CodecError, Message, WireRegistry, default_registry\n"
        "try:\n"
        f"    @{registry}.register({name!r})\n"
        "    class Mine(Message[None]):\n"
        "        pass\n"
        "except CodecError as error:\n"
        "    print(error.kind, '|', error)\n"
        "import understudy.messages.lock, understudy.messages.mutator\n"
        "print(default_registry.type_of('lock.acquire').__name__)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=False)
    assert done.stderr == ""
    refusal, acquire = done.stdout.splitlines()
    assert refusal.startswith("codec.type.duplicate | ")
    assert repr(name.partition(".")[0]) in refusal
    assert "Mine" in refusal
    assert acquire == "AcquireLock"


def test_a_registry_apart_from_ours_may_use_any_name() -> None:
    class Mine(Message[None]):
        """Of nobody else's concern."""

    registry = WireRegistry()
    registry.register("lock.acquire")(Mine)
    assert registry.type_of("lock.acquire") is Mine

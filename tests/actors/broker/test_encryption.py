"""Encrypted notifications: nothing in the clear, and nothing taken that is not whole, from the right key."""

from __future__ import annotations

import queue
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from understudy import (
    Actor,
    ActorSystem,
    BindQueue,
    Broker,
    Child,
    ConsumeNotif,
    CryptoConfig,
    DeadLetters,
    DeclareQueue,
    Delivered,
    EncryptionError,
    ErrorKind,
    Message,
    NotifData,
    ProduceNotif,
    Publish,
    StoreNotifEvent,
    Subscribe,
    Supervisor,
    handles,
)
from understudy.actors.broker.encryption import CONTENT_TYPE, HEADER_SIZE, OVERHEAD, Cipher, cipher_of
from understudy.messages.codec import MAX_BODY

from ...servers.process import poll

KEY = CryptoConfig("s3cr3t-a", "s3cr3t-b", "s3cr3t-c")
OTHER_SECRET = CryptoConfig("s3cr3t-x", "s3cr3t-b", "s3cr3t-c")
OTHER_KEY = CryptoConfig("s3cr3t-a", "s3cr3t-b", "s3cr3t-x")
PATIENCE = 90.0
SEALED = (
    "7573630168c6ad2a5adc93ea05996a87653e1ccce9feaf6d442f97c4be27"
    "8292cec52ff2fdf0e7c18a98c8f7939f9e7a7d32d8cdadf7af66ca3569"
)


def refusal(cipher: Cipher, body: bytes) -> EncryptionError:
    with pytest.raises(EncryptionError) as caught:
        cipher.decrypt(body)
    assert caught.value.response.code == 0xFFAB
    assert caught.value.kind == ErrorKind.CRYPTER_FAILED
    assert b"s3cr3t" not in caught.value.response.to_json()
    return caught.value


# --- bodies ---------------------------------------------------------------------------------------------------


@given(st.binary(max_size=5000))
def test_what_is_encrypted_is_decrypted_and_looks_different_every_time(body: bytes) -> None:
    cipher = cipher_of(KEY)
    first, second = cipher.encrypt(body), cipher.encrypt(body)
    assert first != second
    assert len(first) == len(body) + OVERHEAD
    assert cipher.decrypt(first) == cipher.decrypt(second) == body


def test_the_largest_body_is_decrypted_and_a_larger_one_is_refused() -> None:
    cipher = cipher_of(KEY)
    assert cipher.decrypt(cipher.encrypt(bytes(MAX_BODY))) == bytes(MAX_BODY)
    assert "has 1048617" in str(refusal(cipher, cipher.encrypt(bytes(MAX_BODY + 1))))


def test_another_process_makes_the_same_key() -> None:
    """A body from a file of the past: the format and the making of the key must not change under version 1."""
    sealed = bytes.fromhex(SEALED)
    assert Cipher(KEY).decrypt(sealed) == b'{"from":"the past"}'


@pytest.mark.parametrize("position", range(OVERHEAD + 4))
def test_a_changed_bit_anywhere_is_noticed(position: int) -> None:
    sealed = bytearray(cipher_of(KEY).encrypt(b"body"))
    sealed[position] ^= 1
    refusal(cipher_of(KEY), bytes(sealed))


@pytest.mark.parametrize("size", range(OVERHEAD + 4))
def test_a_body_cut_anywhere_is_refused(size: int) -> None:
    refusal(cipher_of(KEY), cipher_of(KEY).encrypt(b"body")[:size])


def test_a_body_with_something_behind_it_is_refused() -> None:
    refusal(cipher_of(KEY), cipher_of(KEY).encrypt(b"body") + b"x")


@given(st.binary(max_size=200))
def test_any_other_bytes_are_refused(body: bytes) -> None:
    refusal(cipher_of(KEY), body)
    refusal(cipher_of(KEY), cipher_of(KEY).encrypt(b"")[:HEADER_SIZE] + body)


def test_another_secret_under_the_same_key_id_is_refused() -> None:
    error = refusal(cipher_of(OTHER_SECRET), cipher_of(KEY).encrypt(b"body"))
    assert "made of another secret or passphrase" in str(error)


def test_another_key_is_refused_and_both_keys_are_named() -> None:
    error = refusal(cipher_of(OTHER_KEY), cipher_of(KEY).encrypt(b"body"))
    assert str(error).count("key ") == 2


def test_secret_and_passphrase_do_not_run_into_each_other() -> None:
    sealed = Cipher(CryptoConfig("ab", "c", "k")).encrypt(b"body")
    refusal(Cipher(CryptoConfig("a", "bc", "k")), sealed)


@pytest.mark.parametrize("part", ["secret", "passphrase", "unique_key"])
@pytest.mark.parametrize("value", ["", "\ud800 s3cr3t", None, 1, b"s3cr3t"])
def test_a_key_of_nothing_is_no_key(part: str, value: Any) -> None:
    parts: dict[str, Any] = {"secret": "a", "passphrase": "b", "unique_key": "c", part: value}
    with pytest.raises(EncryptionError, match=part) as caught:
        Cipher(CryptoConfig(**parts))
    assert b"s3cr3t" not in caught.value.response.to_json()


def test_without_its_package_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cryptography.exceptions", None)
    with pytest.raises(EncryptionError, match=r"pip install 'understudy\[encryption\]'") as caught:
        Cipher(KEY)
    assert (caught.value.kind, caught.value.response.code) == (ErrorKind.CRYPTER_UNAVAILABLE, 0xFFAB)


# --- the pipeline ---------------------------------------------------------------------------------------------


class Stage:
    """A broker, a mutator that only remembers, and somebody who reads what travels."""

    def __init__(self, system: ActorSystem, stored: queue.SimpleQueue[Any], seen: queue.SimpleQueue[Any]) -> None:
        self.system, self._stored, self._seen = system, stored, seen

    def ask(self, message: Message[Any]) -> Any:
        return self.system.ask("notifications/broker", message, timeout=PATIENCE)

    def consume(self, key: CryptoConfig | None, *, local_spawn: bool = True) -> None:
        self.ask(
            ConsumeNotif(
                queue="TestOnion",
                exchange_name="SavageEx",
                tag="cons_tag0",
                store_in_db=True,
                delivery_limit=1,
                local_spawn=local_spawn,
                decryption_config=key,
            )
        )
        self.ask(DeclareQueue("wire"))
        self.ask(BindQueue("wire", "SavageEx"))
        self.ask(Subscribe("wire", "notifications/spy", "spy"))

    def produce(self, nid: str, key: CryptoConfig | None, *, local_spawn: bool = True) -> None:
        self.ask(produce(nid, key, local_spawn=local_spawn))

    def stored(self) -> NotifData:
        event: StoreNotifEvent = self._stored.get(timeout=PATIENCE)
        return event.message

    def on_the_wire(self) -> Delivered:
        delivered: Delivered = self._seen.get(timeout=PATIENCE)
        return delivered

    def dead_letters(self, number: int) -> list[str]:
        poll(lambda: len(self.ask(DeadLetters("TestOnion"))) >= number, "dead letters", PATIENCE)
        return [letter.message_id for letter in self.ask(DeadLetters("TestOnion"))]


class Remembering(Actor):
    """Keeps what it is given."""

    def __init__(self, kept: queue.SimpleQueue[Any]) -> None:
        super().__init__()
        self.kept = kept

    @handles
    def store(self, message: StoreNotifEvent) -> None:
        self.kept.put(message)

    @handles
    def delivered(self, message: Delivered) -> None:
        self.kept.put(message)


def produce(nid: str, key: CryptoConfig | None, *, local_spawn: bool = True) -> ProduceNotif:
    notif = NotifData(
        id=nid, receiver_info="1", action_data={"pid": 200.4}, actioner_info="2", fired_at=1_714_316_645
    )  # fmt: skip
    return ProduceNotif(notif_data=notif, exchange_name="SavageEx", encryption_config=key, local_spawn=local_spawn)


@pytest.fixture(params=["memory", "amqp_url"])
def stage(request: pytest.FixtureRequest) -> Iterator[Stage]:
    url = "memory://" if request.param == "memory" else request.getfixturevalue(request.param)
    stored: queue.SimpleQueue[Any] = queue.SimpleQueue()
    seen: queue.SimpleQueue[Any] = queue.SimpleQueue()
    tree = Supervisor(
        "notifications",
        children=[
            Child(Remembering, name="mutator", args=(stored,)),
            Child(Remembering, name="spy", args=(seen,)),
            Child(Broker, name="broker", args=(url,)),
        ],
    )
    with ActorSystem("shop", tree) as system:
        yield Stage(system, stored, seen)


@pytest.mark.parametrize("local_spawn", [True, False])
def test_a_notification_travels_encrypted_and_is_stored_as_it_was(stage: Stage, local_spawn: bool) -> None:
    stage.consume(KEY, local_spawn=local_spawn)
    stage.produce("a", KEY, local_spawn=local_spawn)
    assert stage.stored() == produce("a", None).notif_data
    wire = stage.on_the_wire()
    assert (wire.message_id, wire.content_type) == ("a", CONTENT_TYPE)
    for word in (b"pid", b"receiver_info", b"s3cr3t"):
        assert word not in wire.body
    assert "s3cr3t" not in str(wire.headers)


def test_what_cannot_be_decrypted_is_a_dead_letter_and_stays_encrypted(stage: Stage) -> None:
    """Another secret, another key, cut, and sent in the clear."""
    stage.consume(KEY)
    stage.produce("another secret", OTHER_SECRET)
    stage.produce("another key", OTHER_KEY)
    whole = cipher_of(KEY).encrypt(b'{"id": "cut"}')
    stage.ask(Publish("SavageEx", "", whole[:-1], "cut"))
    stage.produce("in the clear", None)
    stage.produce("good", KEY)
    assert stage.stored().id == "good"
    assert sorted(stage.dead_letters(4)) == ["another key", "another secret", "cut", "in the clear"]
    bodies = {letter.message_id: letter.body for letter in stage.ask(DeadLetters("TestOnion"))}
    assert b"pid" not in bodies["another key"]
    assert bodies["cut"] == whole[:-1]


def test_a_consumer_without_a_key_refuses_what_is_encrypted(
    stage: Stage, caplog: pytest.LogCaptureFixture
) -> None:  # fmt: skip
    stage.consume(None)
    stage.produce("a", KEY)
    assert stage.dead_letters(1) == ["a"]
    poll(lambda: "this consumer was given no key" in caplog.text, "the log")


@pytest.mark.parametrize("local_spawn", [True, False])
def test_if_encryption_fails_nothing_is_sent(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, local_spawn: bool
) -> None:  # fmt: skip
    stage.consume(None)
    monkeypatch.setitem(sys.modules, "cryptography.exceptions", None)
    key = CryptoConfig("s3cr3t", "of", f"this test {local_spawn}")
    with pytest.raises(EncryptionError) as caught:
        stage.produce("a", key, local_spawn=local_spawn)
    assert caught.value.kind == ErrorKind.CRYPTER_UNAVAILABLE
    assert caught.value.response.actor == "notifications/broker"
    assert b"s3cr3t" not in caught.value.response.to_json()
    with pytest.raises(EncryptionError, match="secret: "):
        stage.produce("b", CryptoConfig("", "b", "c"), local_spawn=local_spawn)
    stage.produce("c", None)
    assert stage.on_the_wire().message_id == stage.stored().id == "c"


def test_a_consumer_that_cannot_decrypt_is_refused_at_once(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cryptography.exceptions", None)
    with pytest.raises(EncryptionError, match="install"):
        stage.consume(CryptoConfig("s3cr3t", "of another", "test"))

"""Wire names: both ways, unique, and kept apart per registry."""

from __future__ import annotations

import pytest

from understudy.messages import CodecError, ErrorKind, Message, WireRegistry, default_registry, entry_of


class Deposit(Message[int]):
    amount: int


class Withdraw(Message[int]):
    amount: int


def test_a_registered_type_is_found_by_name_and_named_by_type() -> None:
    """The decorator gives the class back unchanged."""
    registry = WireRegistry()
    assert registry.register("bank.deposit")(Deposit) is Deposit
    assert registry.type_of("bank.deposit") is Deposit
    assert registry.name_of(Deposit) == registry.name_of(Deposit(5)) == "bank.deposit"
    assert "bank.deposit" in registry
    assert registry.names() == ["bank.deposit"]


def test_a_name_belongs_to_one_type() -> None:
    """A second type under the same name is refused, and the first one stays."""
    registry = WireRegistry()
    registry.register("bank.deposit")(Deposit)
    with pytest.raises(CodecError, match=r"'bank\.deposit' belongs to .*Deposit") as caught:
        registry.register("bank.deposit")(Withdraw)
    assert caught.value.kind is ErrorKind.TYPE_DUPLICATE
    assert registry.type_of("bank.deposit") is Deposit
    with pytest.raises(CodecError):
        registry.name_of(Withdraw)


def test_a_type_has_one_name() -> None:
    """Else a peer could not tell which one it will get."""
    registry = WireRegistry()
    registry.register("bank.deposit")(Deposit)
    with pytest.raises(CodecError) as caught:
        registry.register("bank.credit")(Deposit)
    assert caught.value.kind is ErrorKind.TYPE_DUPLICATE


def test_registering_the_same_type_again_is_harmless() -> None:
    """As happens when a module is run through twice."""
    registry = WireRegistry()
    registry.register("bank.deposit")(Deposit)
    registry.register("bank.deposit")(Deposit)
    assert registry.names() == ["bank.deposit"]


def test_an_unknown_name_suggests_the_nearest() -> None:
    """The likeliest reason for an unknown name is a slip of the pen."""
    registry = WireRegistry()
    registry.register("bank.deposit")(Deposit)
    with pytest.raises(CodecError, match=r"did you mean 'bank\.deposit'\?") as caught:
        registry.type_of("bank.depsoit")
    assert caught.value.kind is ErrorKind.TYPE_UNKNOWN


def test_an_unknown_name_of_a_megabyte_is_refused_shortly() -> None:
    """What a peer sends does not decide how long an error is, or how long it takes."""
    with pytest.raises(CodecError) as caught:
        default_registry.type_of("x" * 1_000_000)
    assert len(str(caught.value)) < 1000


def test_an_unregistered_type_has_no_name() -> None:
    """A message crosses a wire under a name that was meant to, never under its import path."""
    with pytest.raises(CodecError, match="register") as caught:
        WireRegistry().name_of(Deposit(5))
    assert caught.value.kind is ErrorKind.TYPE_UNREGISTERED


def test_a_subclass_does_not_inherit_the_name() -> None:
    """It has other fields, so it is another message on the wire."""

    class LargeDeposit(Deposit):
        pass

    registry = WireRegistry()
    registry.register("bank.deposit")(Deposit)
    with pytest.raises(CodecError):
        registry.name_of(LargeDeposit(5))


@pytest.mark.parametrize("name", ["", ".", "a.", ".a", "a..b", "a b", "ä", "a/b", "x" * 256, "a\n", None, 5])
def test_a_name_of_another_form_is_refused(name: object) -> None:
    """Names are compared, logged and put into headers: they are plain words joined by dots."""
    with pytest.raises(CodecError) as caught:
        WireRegistry().register(name)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    assert caught.value.kind is ErrorKind.TYPE_INVALID


@pytest.mark.parametrize("not_a_message", [int, 5, None, Deposit(5), CodecError])
def test_only_message_types_can_be_registered(not_a_message: object) -> None:
    """The error names what was given instead."""
    with pytest.raises(CodecError) as caught:
        WireRegistry().register("a.b")(not_a_message)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    assert caught.value.kind is ErrorKind.TYPE_INVALID


def test_registries_are_kept_apart() -> None:
    """Two systems in one process may use one name for two types."""
    first, second = WireRegistry(), WireRegistry()
    first.register("bank.change")(Deposit)
    second.register("bank.change")(Withdraw)
    assert first.type_of("bank.change") is Deposit
    assert second.type_of("bank.change") is Withdraw


def test_a_registry_on_top_of_another_sees_its_names_and_hides_its_own() -> None:
    """One's own messages beside those of the services."""
    own = WireRegistry(default_registry)
    own.register("bank.deposit")(Deposit)
    assert own.type_of("notif.produce") is default_registry.type_of("notif.produce")
    assert own.name_of(default_registry.type_of("notif.produce")) == "notif.produce"
    assert {"bank.deposit", "notif.produce"} <= set(own.names())
    assert "bank.deposit" not in default_registry
    with pytest.raises(CodecError) as caught:
        own.register("notif.produce")(Withdraw)
    assert caught.value.kind is ErrorKind.TYPE_DUPLICATE


def test_every_kind_of_the_registry_is_in_the_catalogue() -> None:
    """So each of these errors says what to do."""
    for kind in (ErrorKind.TYPE_INVALID, ErrorKind.TYPE_UNKNOWN, ErrorKind.TYPE_DUPLICATE):
        assert entry_of(kind) is not None

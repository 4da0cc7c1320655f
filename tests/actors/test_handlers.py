"""`@handles`: what a class declares is read once, and what is wrong with it is an error that names the method."""

from __future__ import annotations

import functools
from collections.abc import AsyncIterator, Iterator
from typing import Any, Generic, TypeVar

import pytest

from understudy import Actor, ActorSystem, ErrorCode, ErrorKind, Message, Request, handles, handles_batch
from understudy.messages.errors import HandlerDeclarationError

from ..naming import shown

T = TypeVar("T")


class Ping(Message[str]):
    pass


class Pong(Message[str]):
    pass


class Loud(Ping):
    pass


class Box(Message[T], Generic[T]):
    content: T


def test_a_handler_without_an_annotation_is_refused_by_name() -> None:
    with pytest.raises(HandlerDeclarationError, match=r"Faulty\.silent does not say what it handles") as caught:

        class Faulty(Actor):
            @handles
            def silent(self, message) -> str:  # type: ignore[no-untyped-def]
                return "never"

    assert caught.value.kind == ErrorKind.HANDLER_MISSING_ANNOTATION
    assert caught.value.code == ErrorCode.CONFIG
    assert isinstance(caught.value, TypeError)


def test_a_handler_without_a_message_parameter_is_refused_by_name() -> None:
    with pytest.raises(HandlerDeclarationError, match=r"Faulty\.nothing does not say") as caught:

        class Faulty(Actor):
            @handles
            def nothing(self) -> str:
                return "never"

    assert caught.value.kind == ErrorKind.HANDLER_MISSING_ANNOTATION


def test_an_annotation_that_cannot_be_resolved_is_refused_by_name() -> None:
    with pytest.raises(HandlerDeclarationError, match=r"Faulty\.lost .*'Nowhere'.* TYPE_CHECKING") as caught:

        class Faulty(Actor):
            @handles
            def lost(self, message: Nowhere) -> str:  # type: ignore[name-defined]  # noqa: F821
                return "never"

    assert caught.value.kind == ErrorKind.HANDLER_MISSING_ANNOTATION


def test_two_handlers_for_one_message_are_refused_by_name() -> None:
    with pytest.raises(HandlerDeclarationError, match=r"Faulty\.second and .*Faulty\.first both") as caught:

        class Faulty(Actor):
            @handles
            def first(self, message: Ping) -> str:
                return "first"

            @handles
            def second(self, message: Ping) -> str:
                return "second"

    assert caught.value.kind == ErrorKind.HANDLER_DUPLICATE


def test_a_union_that_repeats_what_another_handles_is_refused() -> None:
    with pytest.raises(HandlerDeclarationError, match="Ping") as caught:

        class Faulty(Actor):
            @handles
            def both(self, message: Ping | Pong) -> str:
                return "both"

            @handles
            def one(self, message: Ping) -> str:
                return "one"

    assert caught.value.kind == ErrorKind.HANDLER_DUPLICATE


def test_a_second_handler_in_a_subclass_is_refused_too() -> None:
    class Base(Actor):
        @handles
        def first(self, message: Ping) -> str:
            return "first"

    with pytest.raises(HandlerDeclarationError, match=r"Derived\.first") as caught:

        class Derived(Base):
            @handles
            def second(self, message: Ping) -> str:
                return "second"

    assert caught.value.kind == ErrorKind.HANDLER_DUPLICATE


@pytest.mark.parametrize("annotation", [int, str, "list[Ping]", "Message", Any, "Ping | int", None])
def test_what_is_no_message_is_refused_by_name(annotation: Any) -> None:
    def odd(self: Any, message: Any) -> None: ...

    odd.__annotations__["message"] = annotation
    with pytest.raises(HandlerDeclarationError, match=r"Faulty\.odd is declared to handle") as caught:
        type("Faulty", (Actor,), {"odd": handles(odd), "__module__": __name__})
    assert caught.value.kind == ErrorKind.HANDLER_NOT_A_MESSAGE


@pytest.mark.parametrize("annotation", ["Ping", "list[Ping]", "Request[Ping]", "list[Request[int]]", "list"])
def test_a_batch_handler_that_takes_no_list_of_requests_is_refused_by_name(annotation: str) -> None:
    def odd(self: Any, requests: Any) -> None: ...

    odd.__annotations__["requests"] = annotation
    with pytest.raises(HandlerDeclarationError, match=r"Faulty\.odd") as caught:
        type("Faulty", (Actor,), {"odd": handles_batch(odd), "__module__": __name__})
    assert caught.value.kind == ErrorKind.HANDLER_NOT_A_MESSAGE


@pytest.mark.parametrize("wrapper", [staticmethod, classmethod])
def test_a_handler_that_is_no_method_is_refused_by_name(wrapper: Any) -> None:
    def odd(self: Any, message: Ping) -> str:
        return "never"

    for declared in (handles(wrapper(odd)), wrapper(handles(odd))):
        with pytest.raises(HandlerDeclarationError, match=r"Faulty\.odd"):
            type("Faulty", (Actor,), {"odd": declared, "__module__": __name__})


def generator(_self: Any, message: Ping) -> Iterator[str]:
    yield str(message)


async def async_generator(_self: Any, message: Ping) -> AsyncIterator[str]:
    yield str(message)


def wants_more(_self: Any, message: Ping, colour: str) -> str:
    return f"{message} {colour}"


def wants_more_by_name(_self: Any, message: Ping, *, colour: str) -> str:
    return f"{message} {colour}"


def wants_it_by_name(_self: Any, *, message: Ping) -> str:
    return str(message)


def batch_generator(_self: Any, requests: list[Request[Ping]]) -> Iterator[str]:
    yield str(requests)


async def async_batch_generator(_self: Any, requests: list[Request[Ping]]) -> AsyncIterator[str]:
    yield str(requests)


def batch_wants_more(_self: Any, requests: list[Request[Ping]], colour: str) -> None: ...


@pytest.mark.parametrize(
    ("method", "text"),
    [
        (generator, "is a generator function"),
        (async_generator, "is an asynchronous generator function"),
        (wants_more, "needs 'colour' beside the message"),
        (wants_more_by_name, "needs 'colour' beside the message"),
        (wants_it_by_name, "takes 'message' by name only"),
        (batch_generator, "is a generator function"),
        (async_batch_generator, "is an asynchronous generator function"),
        (batch_wants_more, "needs 'colour' beside the message"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_a_handler_that_could_not_be_called_is_refused_by_name(method: Any, text: str) -> None:
    """When the class is defined, not when the first message comes; also where only an override is so."""

    class Sound(Actor):
        @handles
        def single(self, message: Ping) -> None: ...

        @handles_batch
        def batch(self, requests: list[Request[Pong]]) -> None: ...

    in_batches = "batch" in method.__name__
    with pytest.raises(HandlerDeclarationError) as caught:
        type("Derived", (Sound,), {"batch" if in_batches else "single": method})
    assert f"Derived.{'batch' if in_batches else 'single'} {text}" in str(caught.value)
    assert caught.value.kind == ErrorKind.HANDLER_UNCALLABLE
    with pytest.raises(HandlerDeclarationError) as caught:
        type("Faulty", (Actor,), {"odd": handles_batch(method) if in_batches else handles(method)})
    assert f"Faulty.odd {text}" in str(caught.value)
    assert caught.value.kind == ErrorKind.HANDLER_UNCALLABLE


def test_a_handler_that_is_overridden_by_what_is_no_method_is_refused_by_name() -> None:
    """It would be found out when a message comes."""

    class Sound(Actor):
        @handles
        def odd(self, message: Ping) -> None: ...

    with pytest.raises(HandlerDeclarationError, match=r"Derived\.odd is a NoneType"):
        type("Derived", (Sound,), {"odd": None})


@pytest.mark.parametrize("thing", [5, None, property(lambda self: self), functools.partial(print), object()], ids=shown)
def test_what_is_no_method_is_no_handler(thing: Any) -> None:
    """It would be overlooked when the class is read."""
    decorators: list[Any] = [handles, handles_batch, handles_batch(max_size=3)]
    for declare in decorators:
        if thing is None and declare is handles_batch:
            continue  # that is how it is given arguments
        with pytest.raises(HandlerDeclarationError) as caught:
            declare(thing)
        assert caught.value.kind == ErrorKind.HANDLER_UNCALLABLE


@pytest.mark.parametrize("size", [0, -1, 1.5, "3", True, None], ids=shown)
def test_a_batch_has_room_for_one_at_least(size: Any) -> None:
    """And for a whole number of them."""
    with pytest.raises(HandlerDeclarationError, match="max_size="):
        handles_batch(max_size=size)


def test_a_handler_may_have_parameters_that_need_not_be_given(system: ActorSystem) -> None:
    """Those with defaults, those of any number, and those that a decorator gives."""

    def coloured(method: Any) -> Any:
        @functools.wraps(method)
        def with_colour(self: Actor, message: Message[Any]) -> Any:
            return method(self, message, "red")

        return with_colour

    class Sound(Actor):
        @handles
        def ping(self, message: Ping, *rest: str, colour: str = "blue", **others: str) -> str:
            return f"{colour}{rest}{others}"

        @handles
        @coloured
        def pong(self, message: Pong, colour: str) -> str:
            return colour

    sound = system.spawn(Sound)
    assert sound.ask(Ping()) == "blue(){}"
    assert sound.ask(Pong()) == "red"


def test_a_union_declares_several_messages(system: ActorSystem) -> None:
    class Both(Actor):
        @handles
        def both(self, message: Ping | Pong) -> str:
            return type(message).__name__

    ref = system.spawn(Both)
    assert (ref.ask(Ping()), ref.ask(Pong())) == ("Ping", "Pong")


def test_a_subclass_inherits_handlers(system: ActorSystem) -> None:
    class Base(Actor):
        @handles
        def ping(self, message: Ping) -> str:
            return "base"

    class Derived(Base):
        @handles
        def pong(self, message: Pong) -> str:
            return "derived"

    ref = system.spawn(Derived)
    assert (ref.ask(Ping()), ref.ask(Pong())) == ("base", "derived")


@pytest.mark.parametrize("declared_again", [True, False])
def test_a_subclass_overrides_a_handler(system: ActorSystem, declared_again: bool) -> None:
    class Base(Actor):
        @handles
        def ping(self, message: Ping) -> str:
            return "base"

    def ping(self: Any, message: Ping) -> str:
        return "derived"

    derived = type("Derived", (Base,), {"ping": handles(ping) if declared_again else ping, "__module__": __name__})
    assert system.spawn(derived).ask(Ping()) == "derived"
    assert system.spawn(Base).ask(Ping()) == "base"


def test_an_overridden_handler_may_take_another_message(system: ActorSystem) -> None:
    class Base(Actor):
        @handles
        def take(self, message: Ping) -> str:
            return "base"

    class Derived(Base):
        @handles
        def take(self, message: Pong) -> str:  # type: ignore[override]
            return "derived"

    ref = system.spawn(Derived)
    assert ref.ask(Pong()) == "derived"
    with pytest.raises(Exception, match="no handler for Ping"):
        ref.ask(Ping())


def test_handlers_of_several_bases_come_together(system: ActorSystem) -> None:
    class Left(Actor):
        @handles
        def ping(self, message: Ping) -> str:
            return "left"

    class Right(Actor):
        @handles
        def pong(self, message: Pong) -> str:
            return "right"

    class Joined(Left, Right):
        pass

    ref = system.spawn(Joined)
    assert (ref.ask(Ping()), ref.ask(Pong())) == ("left", "right")


def test_a_message_of_a_subclass_goes_to_the_nearest_handler(system: ActorSystem) -> None:
    class Base(Actor):
        @handles
        def ping(self, message: Ping) -> str:
            return f"ping {type(message).__name__}"

    class Exact(Base):
        @handles
        def loud(self, message: Loud) -> str:
            return "loud"

    assert system.spawn(Base).ask(Loud()) == "ping Loud"
    assert system.spawn(Exact).ask(Loud()) == "loud"
    assert system.spawn(Base).ask(Loud()) == "ping Loud"


def test_a_generic_message_is_handled_whatever_its_parameter(system: ActorSystem) -> None:
    class Opener(Actor):
        @handles
        def open(self, message: Box[Any]) -> Any:
            return message.content

    ref = system.spawn(Opener)
    assert (ref.ask(Box(1)), ref.ask(Box("two"))) == (1, "two")


def test_messages_may_be_defined_where_the_class_is(system: ActorSystem) -> None:
    class Local(Message[int]):
        pass

    class Here(Actor):
        class Nested(Message[int]):
            pass

        @handles
        def local(self, message: Local) -> int:
            return 1

        @handles
        def nested(self, message: Nested) -> int:
            return 2

    ref = system.spawn(Here)
    assert (ref.ask(Local()), ref.ask(Here.Nested())) == (1, 2)


def test_what_no_handler_takes_goes_to_on_receive(system: ActorSystem) -> None:
    class Old(Actor):
        @handles
        def ping(self, message: Ping) -> str:
            return "handled"

        def on_receive(self, message: Any) -> Any:
            return f"received {message}"

    ref = system.spawn(Old)
    assert (ref.ask(Ping()), ref.ask("hello")) == ("handled", "received hello")


def test_an_unhandled_message_is_told_what_is_handled(system: ActorSystem) -> None:
    class Known(Actor):
        @handles
        def both(self, message: Ping | Pong) -> str:
            return "known"

    with pytest.raises(Exception, match=r"known \(Known\) has no handler for str; it handles: Ping, Pong"):
        system.spawn(Known, name="known").ask("hello")


def test_one_coroutine_among_the_handlers_puts_the_actor_on_the_event_loop() -> None:
    class Plain(Actor):
        @handles
        def ping(self, message: Ping) -> str:
            return "plain"

    class Mixed(Plain):
        @handles
        async def pong(self, message: Pong) -> str:
            return "awaited"

    assert (Plain.dispatcher, Mixed.dispatcher) == ("pool", "asyncio")


def test_the_table_is_built_once_per_class(system: ActorSystem) -> None:
    class Once(Actor):
        @handles
        def ping(self, message: Ping) -> str:
            return "ping"

    table = Once._table
    refs = [system.spawn(Once) for _ in range(3)]
    assert all(ref._cell.handlers is table for ref in refs)


def test_a_batch_handler_is_inherited_with_its_size(system: ActorSystem) -> None:
    class Base(Actor):
        @handles_batch(max_size=2)
        def ping(self, requests: list[Request[Ping]]) -> None:
            for request in requests:
                request.reply(str(len(requests)))

    class Derived(Base):
        pass

    assert system.spawn(Derived).ask(Ping()) == "1"

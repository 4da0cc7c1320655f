"""User code that raises where nobody expects it: the actor comes back, the system stops, the asker gets a code."""

from typing import Any

import pytest

from understudy import Actor, ActorError, ActorSystem, Event, Message, handles
from understudy.actors.events import SystemStopping


class Crash(Message[None]):
    with_: str = "value"


class Ask(Message[int]):
    pass


RAISED: dict[str, BaseException] = {
    "value": ValueError("no"),
    "exit": SystemExit(3),
    "interrupt": KeyboardInterrupt(),
    "base": BaseException("odd"),
}


class Fragile(Actor):
    hook = "value"

    @handles
    def crash(self, message: Crash) -> None:
        raise RAISED[message.with_]

    @handles
    def ask(self, _message: Ask) -> int:
        return 1

    def on_failure(self, exception_type: Any, exception_value: Any, traceback: Any) -> None:
        raise RAISED[self.hook]


class OnThread(Fragile):
    dispatcher = "thread"


@pytest.mark.parametrize("hook", RAISED)
@pytest.mark.parametrize("kind", [Fragile, OnThread])
def test_whatever_on_failure_raises_the_actor_is_restarted(kind: type[Fragile], hook: str) -> None:
    class Worse(kind):  # type: ignore[misc, valid-type]
        pass

    Worse.hook = hook
    with ActorSystem("hooks") as system:
        system.spawn(Worse, name="a")
        with pytest.raises(ActorError) as raised:
            system.ask("a", Crash(), timeout=10)
        assert raised.value.kind == "actor.handler.failed"
        assert system.ask("a", Ask(), timeout=10) == 1
        assert system.lookup("a").incarnation == 2


class Mute(Exception):
    """Its text cannot be had."""

    def __str__(self) -> str:
        raise BaseException("no text")


class BadRefusals(Actor):
    """What it refuses was broken after its class had been defined, so that only its failures come upon it."""

    stopped = 0

    @handles
    def crash(self, _message: Crash) -> None:
        raise KeyError("k")

    @handles
    def ask(self, _message: Ask) -> int:
        raise Mute

    def on_failure(self, exception_type: Any, exception_value: Any, traceback: Any) -> None:
        BadRefusals.stopped += 1


@pytest.mark.parametrize("block", [True, False])
@pytest.mark.parametrize("dispatcher", ["pool", "thread", "asyncio"])
@pytest.mark.parametrize("refusals", [LookupError, ("x",), None, ()])
def test_a_failure_that_cannot_be_dealt_with_answers_the_asker_and_ends_the_incarnation(
    refusals: Any, dispatcher: Any, block: bool
) -> None:
    class Bad(BadRefusals):
        pass

    Bad.dispatcher = dispatcher
    Bad.refusals = refusals
    with ActorSystem("refusals", intensity=100) as system:
        ref = system.spawn(Bad, name="a")
        before = BadRefusals.stopped
        for message in (Crash(), Ask()):
            with pytest.raises(ActorError) as raised:
                ref.ask(message, timeout=60) if block else ref.ask(message, block=False).get(timeout=60)
            assert raised.value.kind == "actor.handler.failed"
            assert raised.value.actor == "a"
        with pytest.raises(ActorError) as raised:  # whose answer comes from the third incarnation
            system.ask("a", Crash(), timeout=60)
        assert raised.value.incarnation == 3
        assert BadRefusals.stopped >= before + 2  # the third hook may still be to come


def test_a_failure_that_cannot_be_dealt_with_ends_an_actor_without_a_supervisor() -> None:
    class Bad(BadRefusals):
        pass

    Bad.refusals = LookupError  # type: ignore[assignment]
    ref = Bad.start()
    with pytest.raises(ActorError) as raised:
        ref.ask(Crash(), timeout=60)
    assert raised.value.kind == "actor.handler.failed"
    assert ref.actor_stopped.wait(60)
    assert not ref.is_alive()


def test_a_handler_that_exits_does_not_end_the_program_that_asks_whoever_runs_it() -> None:
    with ActorSystem("exits", intensity=10) as system:
        system.spawn(Fragile, name="a")
        for _ in range(3):  # on the pool at first, on the asking thread later
            assert system.ask("a", Ask(), timeout=10) == 1
            with pytest.raises(ActorError) as raised:
                system.ask("a", Crash("exit"), timeout=10)
            assert raised.value.kind == "actor.handler.failed"


@pytest.mark.parametrize("name", RAISED)
def test_a_subscriber_that_raises_anything_breaks_nothing(name: str) -> None:
    def subscriber(_event: Event) -> None:
        raise RAISED[name]

    system = ActorSystem("watched")
    system.events.subscribe(Event, subscriber)
    system.spawn(Fragile, name="a")
    assert system.ask("a", Ask(), timeout=10) == 1
    assert system.stop(timeout=10)


def test_a_subscriber_to_the_stop_may_ask_for_the_stop() -> None:
    system = ActorSystem("again")

    def stop_again(_event: SystemStopping) -> None:
        system.stop(timeout=10)

    system.events.subscribe(SystemStopping, stop_again)
    system.spawn(Fragile)
    assert system.stop(timeout=10)


class Nameless(Exception):
    """What it is an instance of cannot be asked."""

    @property
    def __class__(self) -> Any:
        raise RuntimeError("no class")

    @__class__.setter
    def __class__(self, value: Any) -> None: ...


class InCoroutine(Actor):
    @handles
    async def crash(self, _message: Crash) -> None:
        raise Nameless

    @handles
    async def ask(self, _message: Ask) -> int:
        return 1


def test_an_exception_that_cannot_be_looked_at_ends_a_coroutines_incarnation_too() -> None:
    """As one of a plain handler; it hung for ever."""
    with ActorSystem("odd") as system:
        ref = system.spawn(InCoroutine, shutdown=0.1)
        with pytest.raises(ActorError) as caught:
            ref.ask(Crash(), timeout=10.0)
        assert caught.value.kind == "actor.handler.failed"
        assert ref.ask(Ask(), timeout=60.0) == 1
        assert ref.incarnation == 2

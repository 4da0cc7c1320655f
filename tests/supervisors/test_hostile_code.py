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

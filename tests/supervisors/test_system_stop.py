"""The ordered stop, in virtual time: who is stopped when, what becomes of what waits, and who may begin it."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from understudy import Actor, ActorSystem, Child, DynamicSupervisor, Future, Message, Supervisor, handles
from understudy.actors.events import (
    ActorCrashed,
    DeadLetter,
    HandlerAbandoned,
    SupervisorGaveUp,
    SystemStopped,
    SystemStopping,
)
from understudy.messages.errors import (
    AskTimeout,
    HandlerFailed,
    MailboxClosed,
    SpecInvalid,
    StartFailed,
    UnknownActor,
)
from understudy.messages.errors import SystemStopped as SystemStoppedError
from understudy.testing import SimulatedDispatcher

from .bank import Account, Balance, Deposit, Recorder, Rob, in_thread


class Take(Message[str]):
    """Be busy for some virtual seconds."""

    seconds: float


class Leave(Message[None]):
    """Stop this actor, the whole system, or the whole system by force."""

    what: str


class Member(Actor):
    """Notes when it starts and stops, and can be busy or stuck."""

    def __init__(self, log: list[str], name: str, *, stopping: float = 0.0, fails: bool = False) -> None:
        super().__init__()
        self.log = log
        self.name = name
        self.stopping = stopping
        self.fails = fails

    def on_start(self) -> None:
        self.log.append(f"start {self.name}")

    def on_stop(self) -> None:
        pause(self.stopping)
        self.log.append(f"stop {self.name}")
        if self.fails:
            raise OSError("the disk is full")

    @handles
    def take(self, message: Take) -> str:
        pause(message.seconds)
        self.log.append(f"done {self.name}")
        return self.name

    @handles
    def crash(self, _message: Rob) -> None:
        raise RuntimeError("robbed")


def pause(seconds: float) -> None:
    """Let virtual seconds pass."""
    if seconds:
        with pytest.raises(AskTimeout):
            Future[None]().get(timeout=seconds)


class Troupe:
    """A simulated system and what its members did."""

    def __init__(self, seed: int = 7) -> None:
        self.log: list[str] = []
        self.simulation = SimulatedDispatcher(seed)

    def system(self, tree: Any = None) -> ActorSystem:
        """A system of its own."""
        return ActorSystem("troupe", tree, dispatcher=self.simulation)

    def child(self, name: str, **options: Any) -> Child:
        """The spec of a member."""
        kwargs: dict[str, Any] = {key: options.pop(key) for key in ("stopping", "fails") if key in options}
        return Child(Member, (self.log, name), kwargs, name=name, **options)


@pytest.fixture(name="troupe")
def new_troupe() -> Troupe:
    """A troupe of the test's own."""
    return Troupe()


def test_everything_stops_in_reverse_order_of_its_start(troupe: Troupe) -> None:
    """Trees from the bottom up; what was spawned later before the tree."""
    inner = Supervisor("inner", children=[troupe.child("b"), troupe.child("c")])
    system = troupe.system(Supervisor("tree", children=[troupe.child("a"), inner, troupe.child("d")]))
    system.spawn(troupe.child("e"))
    assert system.stop()
    assert troupe.log == [
        *("start a", "start b", "start c", "start d", "start e"),
        *("stop e", "stop d", "stop c", "stop b", "stop a"),
    ]


def test_the_tree_outlives_the_last_of_the_spawned_actors(troupe: Troupe) -> None:
    """They may still need it while they stop."""
    system = troupe.system(Supervisor("tree", children=[troupe.child("a")]))
    system.spawn(troupe.child("slow", stopping=3.0))
    assert system.stop()
    assert troupe.log[-2:] == ["stop slow", "stop a"]


def test_a_busy_actor_gets_its_time(troupe: Troupe) -> None:
    """It finishes what it is at, then stops; whoever asked has the answer."""
    system = troupe.system()
    member = system.spawn(troupe.child("a", shutdown=5.0))
    asked = member.ask(Take(3.0), block=False)
    troupe.simulation.run_until_idle()
    assert system.stop()
    assert troupe.simulation.clock() == 3.0
    assert asked.get() == "a"
    assert troupe.log == ["start a", "done a", "stop a"]
    assert (system.abandoned, system.left_behind) == (0, 0)


def test_who_outlives_its_shutdown_time_is_killed_and_reported(troupe: Troupe) -> None:
    """The asker is told; the others are stopped in order all the same."""
    system = troupe.system(Supervisor("tree", children=[troupe.child("a"), troupe.child("b", shutdown=2.0)]))
    recorder = Recorder(system)
    asked = system.ask("tree/b", Take(100.0), block=False, timeout=None)
    troupe.simulation.run_until_idle()
    assert not system.stop()
    assert troupe.simulation.clock() == 2.0
    with pytest.raises(HandlerFailed, match="was killed while handling Take"):
        asked.get()
    assert troupe.log == ["start a", "start b", "stop a"]
    (abandoned,) = recorder.of(HandlerAbandoned)
    assert (abandoned.path, abandoned.message_type, abandoned.incarnation) == ("tree/b", "Take", 1)
    assert (system.abandoned, system.left_behind) == (1, 1)


def test_the_whole_stop_has_a_deadline_too(troupe: Troupe) -> None:
    """However much time the specs allow."""
    tree = Supervisor(
        "tree", children=[troupe.child("a"), troupe.child("b", shutdown=1000.0), troupe.child("c", stopping=0.5)]
    )
    system = troupe.system(tree)
    system.tell("tree/b", Take(100.0))
    troupe.simulation.run_until_idle()
    assert not system.stop(timeout=4.0)
    assert 4.0 <= troupe.simulation.clock() < 5.0
    assert "stop c" in troupe.log
    assert "stop b" not in troupe.log
    assert not list(system.cells())


def test_a_stop_without_any_time_kills(troupe: Troupe) -> None:
    """Also with many levels, and with what is still being stopped."""
    inner = Supervisor("inner", children=[troupe.child("a", stopping=1000.0, shutdown=2000.0)])
    system = troupe.system(Supervisor("tree", children=[inner]))
    assert not system.stop(timeout=0)
    assert troupe.simulation.clock() < 1.0
    assert system.down


def test_what_waits_is_answered_or_a_dead_letter(troupe: Troupe) -> None:
    """The stop overtakes it."""
    system = troupe.system()
    recorder = Recorder(system)
    member = system.spawn(troupe.child("a"))
    member.tell(Take(1.0))
    troupe.simulation.run_until_idle()
    asked = [member.ask(Take(1.0), block=False) for _ in range(3)]
    member.tell(Take(1.0))
    assert system.stop()
    for each in asked:
        with pytest.raises(MailboxClosed, match="stopped before handling the message"):
            each.get()
    assert [(event.path, event.reason) for event in recorder.of(DeadLetter)] == [("a", "closed")]
    assert troupe.log == ["start a", "done a", "stop a"]


def test_who_raises_while_it_stops_is_reported_and_harms_nobody(troupe: Troupe) -> None:
    """The others are stopped in order."""
    children = [troupe.child("a"), troupe.child("b", fails=True), troupe.child("c")]
    system = troupe.system(Supervisor("tree", children=children))
    recorder = Recorder(system)
    assert system.stop()
    assert troupe.log[-3:] == ["stop c", "stop b", "stop a"]
    (crash,) = recorder.of(ActorCrashed)
    assert (crash.path, str(crash.error), crash.message_type) == ("tree/b", "the disk is full", "")


def test_the_stop_is_told_first_and_last(troupe: Troupe) -> None:
    """With its cause, and with what had to be killed."""
    system = troupe.system()
    system.spawn(troupe.child("a", shutdown="brutal_kill")).tell(Take(100.0))
    troupe.simulation.run_until_idle()
    recorder = Recorder(system)
    system.stop(cause="the shop closes")
    assert isinstance(recorder.events[0], SystemStopping)
    assert (recorder.events[0].path, recorder.events[0].cause) == ("troupe", "the shop closes")
    last = recorder.events[-1]
    assert isinstance(last, SystemStopped)
    assert (last.path, last.abandoned) == ("troupe", 1)


# --- who stops it -------------------------------------------------------------------------------------------


def test_a_second_stop_does_nothing(troupe: Troupe) -> None:
    """And gives the result of the first."""
    system = troupe.system()
    recorder = Recorder(system)
    assert system.stop()
    assert system.stop(timeout=0)
    assert len(recorder.of(SystemStopped)) == 1
    system.kill()
    assert system.outcome == "stopped"


def test_the_end_of_a_with_block_stops() -> None:
    """Also when it is left by an exception."""
    system = ActorSystem("bank")
    account = system.spawn(Account)
    with pytest.raises(UnknownActor), system:
        system.lookup("nobody")
    assert system.down
    assert not account.is_alive()


class Stopper(Actor):
    """Stops the system from within."""

    def __init__(self, system: ActorSystem, answers: list[Any]) -> None:
        super().__init__()
        self.system = system
        self.answers = answers

    @handles
    def leave(self, message: Leave) -> None:
        if message.what == "stop":
            self.answers.append(self.system.stop(drain=1.0))
            self.answers.append(self.system.stop())
        elif message.what == "kill":
            self.system.kill()
            self.answers.append("killed")
        else:
            self.stop()

    def on_stop(self) -> None:
        self.answers.append("stopped")


@pytest.mark.parametrize("kind", ["bank", "simulated"])
def test_an_actor_may_stop_the_system_that_runs_it(kind: str, request: pytest.FixtureRequest) -> None:
    """It only begins the stop, and returns; then it is stopped like the others."""
    system: ActorSystem = request.getfixturevalue(kind)
    answers: list[Any] = []
    stopper = system.spawn(Stopper, system, answers)
    stopper.tell(Leave("stop"))
    assert system.wait(60)
    assert answers == [True, True, "stopped"]
    assert system.outcome == "stopped"
    assert not stopper.is_alive()


@pytest.mark.parametrize("kind", ["bank", "simulated"])
def test_an_actor_may_kill_the_system_that_runs_it(kind: str, request: pytest.FixtureRequest) -> None:
    """Itself included."""
    system: ActorSystem = request.getfixturevalue(kind)
    answers: list[Any] = []
    stopper = system.spawn(Stopper, system, answers)
    stopper.tell(Leave("kill"))
    assert system.wait(60)
    assert "stopped" not in answers
    assert not stopper.is_alive()


def test_many_may_stop_it_at_once() -> None:
    """One does, the others wait; all get the same answer."""
    system = ActorSystem("bank")
    recorder = Recorder(system)
    for _ in range(20):
        system.spawn(Account)
    barrier = threading.Barrier(6)

    def stop() -> bool:
        barrier.wait(60)
        return system.stop()

    results = [in_thread(stop) for _ in range(6)]
    assert [result() for result in results] == [True] * 6
    assert len(recorder.of(SystemStopping)) == len(recorder.of(SystemStopped)) == 1


def test_who_comes_second_and_has_less_time_forces_the_stop(troupe: Troupe) -> None:
    """Its own deadline counts for it."""
    system = troupe.system()
    stuck = system.spawn(troupe.child("a", shutdown=1000.0))
    system.spawn(Stopper, system, [], name="stopper")
    stuck.tell(Take(10_000.0))
    troupe.simulation.run_until_idle()
    system.tell("stopper", Leave("stop"))
    troupe.simulation.run_until_idle()
    assert system.outcome == "stopped"
    assert not system.down
    assert not system.stop(timeout=2.0)
    assert troupe.simulation.clock() < 3.0
    assert system.down


def test_kill_does_not_run_the_hooks(troupe: Troupe) -> None:
    """Nothing is waited for."""
    system = troupe.system(Supervisor("tree", children=[troupe.child("a", stopping=5.0), troupe.child("b")]))
    stuck = system.spawn(troupe.child("c", shutdown="infinity"))
    stuck.tell(Take(10_000.0))
    troupe.simulation.run_until_idle()
    system.kill()
    assert troupe.log == ["start a", "start b", "start c"]
    assert troupe.simulation.clock() < 1.0
    assert system.down
    assert (system.outcome, system.left_behind) == ("stopped", 1)


def test_kill_cuts_a_stop_short(troupe: Troupe) -> None:
    """The one that is under way returns, and says that something had to be killed."""
    system = troupe.system()
    system.spawn(troupe.child("a", stopping=100.0, shutdown=1000.0))
    system.spawn(Stopper, system, [], name="stopper")
    system.tell("stopper", Leave("stop"))
    troupe.simulation.run_until_idle()
    system.kill()
    assert system.down
    assert troupe.simulation.clock() < 2.0
    assert not system.stop()


def test_a_subscriber_may_kill_what_is_being_stopped() -> None:
    """On the very thread that stops it: the stop goes on, by force."""
    system = ActorSystem("bank")
    system.spawn(Account)
    system.events.subscribe(SystemStopping, lambda _: system.kill())
    in_thread(system.stop)()
    assert system.down


# --- draining -----------------------------------------------------------------------------------------------


def test_draining_lets_everything_be_handled_that_waits(troupe: Troupe) -> None:
    """From outside nothing comes in any more; what actors say to each other does."""
    system = troupe.system()
    member = system.spawn(troupe.child("a"))
    asked = [member.ask(Take(1.0), block=False) for _ in range(3)]
    assert system.stop(drain=10.0)
    assert [each.get() for each in asked] == ["a", "a", "a"]
    assert troupe.log == ["start a", "done a", "done a", "done a", "stop a"]
    assert 3.0 <= troupe.simulation.clock() < 4.0


def test_draining_follows_what_is_handed_on(troupe: Troupe) -> None:
    """From one actor to the next."""
    system = troupe.system()
    received: list[int] = []

    class Hop(Message[None]):
        left: int

    class Link(Actor):
        def __init__(self, following: Any) -> None:
            super().__init__()
            self.following = following

        @handles
        def hop(self, message: Hop) -> None:
            pause(0.1)
            if self.following is None:
                received.append(message.left)
            else:
                self.following.tell(message)

    ref: Any = None
    for _ in range(10):
        ref = system.spawn(Link, ref)
    for number in range(5):
        ref.tell(Hop(number))
    assert system.stop(drain=100.0)
    assert received == [0, 1, 2, 3, 4]


def test_draining_waits_for_replies_that_are_owed(troupe: Troupe) -> None:
    """A deferred one, too."""
    system = troupe.system()

    class Later(Message[str]):
        pass

    class Now(Message[None]):
        pass

    class Defers(Actor):
        @handles
        def later(self, _message: Later) -> Any:
            self.request = self.defer_reply()
            self.after(2.0, Now())

        @handles
        def now(self, _message: Now) -> None:
            self.request.reply("here it is")

    asked = system.spawn(Defers).ask(Later(), block=False)
    assert system.stop(drain=100.0)
    assert asked.get() == "here it is"


def test_draining_has_an_end(troupe: Troupe) -> None:
    """Then the ordered stop begins, within the same deadline."""
    system = troupe.system()
    member = system.spawn(troupe.child("a", shutdown=1.0))
    member.tell(Take(1000.0))
    troupe.simulation.run_until_idle()
    assert not system.stop(drain=3.0)
    assert 4.0 <= troupe.simulation.clock() < 4.1


def test_draining_an_idle_system_takes_no_time(troupe: Troupe) -> None:
    """It looks first."""
    system = troupe.system(Supervisor("tree", children=[troupe.child("a")]))
    system.spawn(troupe.child("b"))
    assert system.stop(drain=100.0)
    assert troupe.simulation.clock() == 0.0


def test_a_system_that_drains_takes_nothing_from_outside(troupe: Troupe) -> None:
    """Neither names nor new actors; who has a reference is not refused as long as its actor runs."""
    system = troupe.system()
    member = system.spawn(troupe.child("a"))
    stopper = system.spawn(Stopper, system, [], name="stopper")
    member.tell(Take(1.0))
    stopper.tell(Leave("stop"))
    troupe.simulation.run_until_idle()
    assert not system.down
    with pytest.raises(SystemStoppedError):
        system.tell("a", Take(1.0))
    asked = member.ask(Take(0.1), block=False)
    assert system.wait(60)
    assert asked.get() == "a"


# --- systems that end by themselves -------------------------------------------------------------------------


def test_a_system_ends_with_its_tree(troupe: Troupe) -> None:
    """Normally, if that does; what was spawned beside it is stopped."""
    tree = Supervisor(
        "tree",
        auto_shutdown="any_significant",
        children=[Child(Stopper, name="a", args=(None, []), restart="transient", significant=True)],
    )
    system = troupe.system(tree)
    beside = system.spawn(troupe.child("b"))
    system.tell("tree/a", Leave("me"))
    assert system.wait(60)
    assert system.outcome == "stopped"
    assert not beside.is_alive()
    assert troupe.log == ["start b", "stop b"]


@pytest.mark.parametrize("kind", ["tree", "spawned", "one actor"])
def test_a_system_whose_tree_gives_up_says_so(troupe: Troupe, kind: str) -> None:
    """A clean end and a tree that nothing could help are told apart."""
    match kind:
        case "tree":
            system = troupe.system(Supervisor("tree", intensity=0, children=[troupe.child("a")]))
            victim = "tree/a"
        case "spawned":
            system = ActorSystem("troupe", dispatcher=troupe.simulation, intensity=0)
            system.spawn(troupe.child("a"))
            victim = "a"
        case _:
            system = troupe.system(troupe.child("a"))
            victim = "a"
    recorder = Recorder(system)
    beside = system.spawn(troupe.child("b"))
    system.tell(victim, Rob())
    assert system.wait(60)
    assert system.outcome == "gave_up"
    assert not beside.is_alive()
    assert system.stop()
    assert len(recorder.of(SupervisorGaveUp)) == (kind != "one actor")
    with pytest.raises(SystemStoppedError, match="gave_up"):
        system.spawn(Account)


def test_a_tree_that_is_terminated_takes_the_system_along(troupe: Troupe) -> None:
    """By its reference, or by order to the system's supervisor."""
    for terminate in ("stop", "terminate_child"):
        system = troupe.system(Supervisor("tree", children=[troupe.child("a")]))
        tree = system.lookup("tree")
        if terminate == "stop":
            tree.stop()
        else:
            system.root.terminate_child(tree)
        assert system.wait(60)
        assert system.outcome == "stopped"
        troupe.simulation = SimulatedDispatcher(8)


def test_a_tree_that_does_not_start_leaves_nothing_behind(troupe: Troupe) -> None:
    """What had started is stopped again, in reverse order."""

    class Broke(Actor):
        def on_start(self) -> None:
            raise ValueError("no money")

    tree = Supervisor("tree", children=[troupe.child("a"), troupe.child("b"), Child(Broke, name="broke")])
    with pytest.raises(StartFailed, match="'broke' failed") as caught:
        troupe.system(tree)
    assert troupe.log == ["start a", "start b", "stop b", "stop a"]
    sources = [caught.value.response.source]
    cause = caught.value.response.cause
    while cause is not None:
        sources.append(cause.source)
        cause = cause.cause
    assert sources[-1] == "ValueError: no money"


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"name": "a/b"}, "name="),
        ({"name": ""}, "name="),
        ({"name": None}, "name="),
        ({"name": 5}, "name="),
        ({"name": "a", "tree": 42}, "tree="),
        ({"name": "a", "tree": Account}, "tree="),
        ({"name": "a", "tree": []}, "tree="),
        ({"name": "a", "pool_size": 0}, "pool_size="),
        ({"name": "a", "pool_size": 1.5}, "pool_size="),
        ({"name": "a", "intensity": -1}, "intensity="),
        ({"name": "a", "period": 0}, "period="),
    ],
)
def test_a_system_that_cannot_be_is_refused(options: dict[str, Any], named: str) -> None:
    """With a code, naming the argument; nothing is started."""
    threads = set(threading.enumerate())
    with pytest.raises(SpecInvalid, match=named) as caught:
        ActorSystem(**options)
    assert caught.value.response.code == 0xFFF5
    assert set(threading.enumerate()) <= threads


def test_a_dynamic_supervisor_may_be_the_tree(troupe: Troupe) -> None:
    """Any child spec may."""
    with troupe.system(DynamicSupervisor("tree")) as system:
        supervisor: Any = system.lookup("tree")
        supervisor.start_child(Child(Account, name="account"))
        assert system.ask("tree/account", Deposit(1)) == 1
        assert system.ask("tree/account", Balance()) == 1


@pytest.mark.parametrize("simulated", [False, True])
@pytest.mark.parametrize("block", [True, False])
def test_to_stop_the_root_is_to_stop_the_system(block: bool, simulated: bool) -> None:
    log: list[str] = []
    system = ActorSystem("stage", dispatcher=SimulatedDispatcher() if simulated else None)
    root, member = system.root, system.spawn(Member, log, "a")
    stopped = root.stop(timeout=60) if block else root.stop(block=False).get(timeout=60)
    assert stopped is True
    assert (system.down, system.outcome, log) == (True, "stopped", ["start a", "stop a"])
    assert not member.is_alive()
    assert root.stop(timeout=60) is False


def test_the_root_that_is_stopping_is_told_again_and_an_actor_may_tell_it() -> None:
    log: list[str] = []
    system = ActorSystem("stage")
    orders: list[Any] = []

    class Ender(Member):
        @handles
        def leave(self, _message: Leave) -> None:
            orders.extend(system.root.stop(block=False) for _ in range(2))

    system.spawn(Ender, log, "a").tell(Leave("root"))
    assert system.wait(60)
    assert [order.get(timeout=60) for order in orders] == [True, True]
    assert log == ["start a", "stop a"]

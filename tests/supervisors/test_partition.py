"""Partition supervisors: copies of one child, the routing of keys to them, resizing."""

from __future__ import annotations

import enum
import os
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from typing import Any, ClassVar, cast
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from understudy import (
    Actor,
    ActorSystem,
    Backoff,
    Child,
    DynamicSupervisor,
    Message,
    PartitionRef,
    PartitionSupervisor,
    Supervisor,
    SupervisorRef,
    handles,
)
from understudy.messages.errors import (
    ChildNotFound,
    MailboxClosed,
    NotSupported,
    PartitionInvalid,
    SpecInvalid,
    StartFailed,
)
from understudy.supervisors.partition import Resize
from understudy.supervisors.routing import partition_of
from understudy.testing import SimulatedDispatcher

from ..naming import shown


class Who(Message[Any]):
    """Say with what you were made."""


class Write(Message[list[str]]):
    """Remember a text; the reply is everything so far."""

    text: str


class Break(Message[None]):
    """Raise."""


class Page(Actor):
    def __init__(self, *made_with: Any) -> None:
        super().__init__()
        self.made_with = made_with
        self.texts: list[str] = []

    @handles
    def who(self, message: Who) -> Any:
        return self.made_with

    @handles
    def write(self, message: Write) -> list[str]:
        self.texts.append(message.text)
        return self.texts

    @handles
    def break_(self, message: Break) -> None:
        raise RuntimeError("torn")


class Stubborn(Actor):
    """Does not start where its number is in ``refuses``."""

    refuses: ClassVar[set[int]] = set()

    def __init__(self, number: int) -> None:
        super().__init__()
        if number in self.refuses:
            raise OSError(f"no {number}")


@pytest.fixture
def simulation() -> SimulatedDispatcher:
    return SimulatedDispatcher(11)


@pytest.fixture
def system(simulation: SimulatedDispatcher) -> Iterator[ActorSystem]:
    system = ActorSystem("library", dispatcher=simulation, intensity=0)
    yield system
    system.stop()
    assert list(system.runtime.directory._cells) == [], "a name was not freed"
    assert simulation.stuck == []


def start(system: ActorSystem, spec: PartitionSupervisor) -> PartitionRef:
    return system.spawn(spec)


def pages(count: int, **fields: Any) -> PartitionSupervisor:
    return PartitionSupervisor("pages", Child(Page), partitions=count, **fields)


def paths(ref: PartitionRef) -> list[str]:
    """Where the keys 0, 1, 2 … go."""
    return [ref.route(number).path for number in range(ref.partitions)]


# --- routing ---------------------------------------------------------------------------------------------

# What these keys have always belonged to. A change here moves every user's data to another partition.
FIXED: list[tuple[object, int, int]] = [
    (0, 7, 0),
    (23, 7, 2),
    (-1, 7, 6),
    (True, 7, 1),
    (2.0, 7, 2),
    ("", 7, 2),
    ("ada", 7, 6),
    ("ada", 16, 3),
    ("Ωmega", 16, 14),
    (b"ada", 16, 0),
    (None, 16, 11),
    (0.5, 16, 14),
    (("ada", 1), 16, 4),
    (("ada", (1, None)), 16, 12),
    (UUID("12345678-1234-5678-1234-567812345678"), 16, 15),
]


@pytest.mark.parametrize(("key", "partitions", "expected"), FIXED)
def test_a_key_belongs_to_the_partition_it_always_belonged_to(key: object, partitions: int, expected: int) -> None:
    assert partition_of(key, partitions) == expected


def test_another_process_routes_alike_whatever_its_hash_seed() -> None:
    program = (
        "from understudy.supervisors.routing import partition_of\n"
        "keys = ['ada', ('ada', 1), b'x', 0.25, None]\n"
        "print([partition_of(key, 1_000_003) for key in keys])"
    )
    answers = {
        subprocess.run(
            [sys.executable, "-c", program],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    expected = [partition_of(key, 1_000_003) for key in ("ada", ("ada", 1), b"x", 0.25, None)]
    assert answers == {f"{expected}\n"}


@given(number=st.integers(), partitions=st.integers(1, 100))
def test_a_whole_number_belongs_to_its_remainder(number: int, partitions: int) -> None:
    assert partition_of(number, partitions) == number % partitions


scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary() | st.uuids()
keys = st.recursive(scalars, lambda inner: st.lists(inner, max_size=3).map(tuple))


@given(one=keys, other=keys)
def test_equal_keys_belong_together_and_different_ones_are_told_apart(one: object, other: object) -> None:
    """The number of partitions is so large that two keys meet by chance only if they are written alike."""
    together = partition_of((one,), 2**61) == partition_of((other,), 2**61)
    assert together == (one == other)


def test_texts_spread_over_the_partitions_evenly() -> None:
    counts = Counter(partition_of(f"user-{number}", 8) for number in range(8_000))
    assert set(counts) == set(range(8))
    assert max(counts.values()) - min(counts.values()) < 200


class Colour(enum.Enum):
    RED = 1


class Shade(enum.StrEnum):
    DARK = "dark"


@pytest.mark.parametrize(
    "key",
    [object(), Colour.RED, [1], {1: 2}, {1, 2}, frozenset({1}), float("nan"), ("ada", object()), bytearray(b"x"), Page],
    ids=shown,
)
def test_a_key_that_is_not_written_alike_everywhere_is_refused(key: object) -> None:
    with pytest.raises(PartitionInvalid, match="cannot be a routing key") as caught:
        partition_of(key, 3)
    assert caught.value.response.kind == "supervisor.partition.invalid"


def test_an_enumeration_of_texts_belongs_where_its_text_does() -> None:
    assert partition_of(Shade.DARK, 97) == partition_of("dark", 97)


def test_a_key_finds_its_partition_and_each_partition_has_a_state_of_its_own(system: ActorSystem) -> None:
    ref = start(system, pages(3))
    assert paths(ref) == ["pages/0", "pages/1", "pages/2"]
    assert ref.route(4) == system.lookup("pages/1")
    ref.route("ada").tell(Write("one"))
    ref.route(partition_of("ada", 3) + 1).tell(Write("elsewhere"))
    assert ref.route("ada").ask(Write("two")) == ["one", "two"]


def test_routing_costs_no_message(system: ActorSystem, simulation: SimulatedDispatcher) -> None:
    ref = start(system, pages(2))
    simulation.run_until_idle()
    before = simulation.steps
    ref.route("ada")
    assert ref.partitions == 2
    assert simulation.steps == before


def test_a_reference_that_was_looked_up_routes_too(system: ActorSystem) -> None:
    start(system, pages(2))
    ref: object = system.lookup("pages")
    assert isinstance(ref, PartitionRef)
    assert ref.route(1).path == "pages/1"


# --- the copies ------------------------------------------------------------------------------------------


def test_each_copy_is_made_with_the_arguments_of_its_number(system: ActorSystem) -> None:
    spec = PartitionSupervisor(
        "pages",
        Child(Page, ("x",), name="not this"),
        partitions=2,
        with_arguments=lambda args, number: (*args, number),
    )
    ref = start(system, spec)
    assert [ref.route(number).ask(Who()) for number in (0, 1)] == [("x", 0), ("x", 1)]


def test_a_copy_keeps_its_arguments_when_it_is_restarted(system: ActorSystem) -> None:
    spec = PartitionSupervisor("pages", Child(Page), partitions=2, with_arguments=lambda args, number: (number,))
    ref = start(system, spec)
    ref.route(1).tell(Break())
    assert ref.route(1).ask(Who()) == (1,)
    assert ref.route(1).incarnation == 2
    assert ref.route(0).incarnation == 1


def test_the_copies_are_shown_by_their_numbers(system: ActorSystem) -> None:
    ref = start(system, pages(3))
    assert [info.id for info in ref.which_children()] == ["2", "1", "0"]
    assert ref.count_children() == (3, 3, 0, 3)
    assert ref.which_child("1").ref == ref.route(1)
    assert ref.get_childspec("2").name == "2"


def test_there_is_one_copy_per_core_unless_told_otherwise(system: ActorSystem, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.cpu_count", lambda: 5)
    assert start(system, PartitionSupervisor("pages", Child(Page))).partitions == 5
    monkeypatch.setattr("os.cpu_count", lambda: None)
    assert PartitionSupervisor("more", Child(Page)).partitions == 1


def test_supervisors_can_be_copied(system: ActorSystem) -> None:
    spec = PartitionSupervisor("groups", DynamicSupervisor(), partitions=2)
    ref = start(system, spec)
    for name in ("ada", "bob", "eve", "joe"):
        cast("SupervisorRef", ref.route(name)).start_child(Child(Page, (name,), name=name))
    assert ref.count_children() == (2, 2, 2, 0)
    expected = f"groups/{partition_of('eve', 2)}/eve"
    assert system.lookup(expected).ask(Who()) == ("eve",)


def test_the_strategy_holds_among_the_copies(system: ActorSystem, simulation: SimulatedDispatcher) -> None:
    ref = start(system, pages(3, strategy="one_for_all"))
    ref.route(1).tell(Break())
    simulation.run_until_idle()
    assert [ref.route(number).incarnation for number in range(3)] == [2, 2, 2]


def test_references_outlive_a_restart_of_the_supervisor(system: ActorSystem, simulation: SimulatedDispatcher) -> None:
    """Its intensity is used up, so its own supervisor starts it anew: with all partitions, in their old places."""
    outer = Supervisor("outer", children=[pages(2, intensity=0)])
    system.spawn(outer)
    ref = cast("PartitionRef", system.lookup("outer/pages"))
    ref.resize(1)
    partition = ref.route(0)
    partition.tell(Break())
    partition.tell(Write("waits"))
    simulation.run_until_idle()
    assert ref.incarnation == 2
    assert ref.partitions == 2
    assert ref.route(0) == partition
    assert partition.ask(Write("more")) == ["waits", "more"]
    assert ref.route(1).is_alive()


def test_after_the_stop_messages_to_the_partitions_are_refused(system: ActorSystem) -> None:
    ref = start(system, pages(2))
    partition = ref.route(1)
    ref.stop()
    for closed in (partition, ref.route(0)):
        with pytest.raises(MailboxClosed):
            closed.tell(Write("too late"))


def test_there_is_nothing_to_route_to_before_the_start(system: ActorSystem) -> None:
    caught: list[BaseException] = []

    class Early(Actor):
        def on_start(self) -> None:
            try:
                cast("PartitionRef", self.lookup("early")).route("ada")
            except PartitionInvalid as error:
                caught.append(error)

    ref = start(system, PartitionSupervisor("early", Child(Early), partitions=1))
    assert [str(error) for error in caught] == ["'early' has not started its partitions yet"]
    assert ref.route("ada").path == "early/0"


# --- resizing --------------------------------------------------------------------------------------------


def test_it_becomes_smaller_and_grows_again_to_what_it_was(system: ActorSystem) -> None:
    ref = start(system, pages(4))
    ref.route(0).tell(Write("stays"))
    ref.route(3).tell(Write("goes"))
    ref.resize(2)
    assert ref.partitions == 2
    assert ref.count_children() == (2, 2, 0, 2)
    assert ref.route(3).path == "pages/1"
    ref.resize(2)
    ref.resize(4)
    assert paths(ref) == ["pages/0", "pages/1", "pages/2", "pages/3"]
    assert ref.route(0).ask(Write("still")) == ["stays", "still"]
    assert ref.route(3).ask(Write("new")) == ["new"]


def test_it_never_grows_above_what_was_declared(system: ActorSystem) -> None:
    ref = start(system, pages(2))
    ref.resize(1)
    with pytest.raises(PartitionInvalid, match="declared with 2 partitions and cannot have 3"):
        ref.resize(3)
    assert ref.partitions == 1


BAD_COUNTS: list[Any] = [0, -1, 1.0, "2", None, True, (1,)]


@pytest.mark.parametrize("count", BAD_COUNTS, ids=shown)
def test_a_bad_number_of_partitions_is_refused_at_the_declaration(count: Any) -> None:
    with pytest.raises(PartitionInvalid, match="give a whole number, 1 or more") as caught:
        pages(count)
    assert caught.value.response.kind == "supervisor.partition.invalid"


@pytest.mark.parametrize("count", BAD_COUNTS, ids=shown)
def test_a_bad_number_of_partitions_is_refused_in_resize_and_nothing_changes(system: ActorSystem, count: Any) -> None:
    ref = start(system, pages(2))
    with pytest.raises(PartitionInvalid):
        ref.resize(count)
    assert (ref.partitions, ref.incarnation) == (2, 1)


def test_the_reference_of_a_removed_partition_is_closed_and_what_waited_there_is_answered(
    system: ActorSystem, simulation: SimulatedDispatcher
) -> None:
    ref = start(system, pages(2))
    removed = ref.route(1)
    simulation.run_until_idle()
    resized = ref.ask(Resize(1), block=False)
    waits = removed.ask(Write("too late"), block=False)
    resized.get()
    with pytest.raises(MailboxClosed):
        waits.get()
    ref.resize(2)
    assert ref.route(1) != removed
    assert not removed.is_alive()


def test_a_removed_partition_is_not_brought_back_by_the_restart_of_the_others(
    system: ActorSystem, simulation: SimulatedDispatcher
) -> None:
    ref = start(system, pages(3, strategy="one_for_all"))
    ref.resize(2)
    ref.route(0).tell(Break())
    simulation.run_until_idle()
    assert ref.route(1).incarnation == 2
    assert ref.count_children() == (2, 2, 0, 2)
    with pytest.raises(ChildNotFound):
        ref.restart_child("2")


def test_a_partition_that_waits_for_its_restart_can_be_removed(
    system: ActorSystem, simulation: SimulatedDispatcher
) -> None:
    spec = PartitionSupervisor("pages", Child(Page, backoff=Backoff(5.0, 5.0, jitter=0.0)), partitions=2)
    ref = start(system, spec)
    ref.route(1).tell(Break())
    simulation.run_until_idle()
    assert ref.which_child("1").ref == "restarting"
    ref.resize(1)
    simulation.advance(60.0)
    assert ref.count_children() == (1, 1, 0, 1)


def test_when_a_partition_does_not_start_the_size_stays(system: ActorSystem, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = PartitionSupervisor("s", Child(Stubborn), partitions=4, with_arguments=lambda args, number: (number,))
    ref = start(system, spec)
    ref.resize(1)
    monkeypatch.setattr(Stubborn, "refuses", {3})
    with pytest.raises(StartFailed, match="OSError: no 3"):
        ref.resize(4)
    assert ref.partitions == 1
    assert ref.count_children() == (1, 1, 0, 1)
    monkeypatch.setattr(Stubborn, "refuses", set())
    ref.resize(4)
    assert ref.count_children() == (4, 4, 0, 4)


# --- what is refused -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"child": Page}, "child="),
        ({"child": Child(Page, alias="one")}, "alias"),
        ({"child": Child(Page, restart="transient", significant=True)}, "significant"),
        ({"strategy": "one_for_some"}, "strategy='one_for_some'.*did you mean"),
        ({"with_arguments": "no function"}, "with_arguments="),
        ({"with_arguments": lambda args, number: args, "child": DynamicSupervisor()}, "has no arguments"),
        ({"intensity": -1}, "intensity=-1"),
    ],
)
def test_a_bad_declaration_is_refused_and_names_the_field(fields: dict[str, Any], says: str) -> None:
    with pytest.raises(SpecInvalid, match=says):
        PartitionSupervisor("pages", **{"child": Child(Page), "partitions": 2, **fields})


def test_a_hook_that_fails_keeps_the_supervisor_from_starting(system: ActorSystem) -> None:
    def no_tuple(args: tuple[Any, ...], number: int) -> Any:
        return [number]

    with pytest.raises(StartFailed, match=r"args=\[0\]"):
        system.spawn(pages(1, with_arguments=no_tuple))


@pytest.mark.parametrize("operation", ["start_child", "delete_child"])
def test_the_children_are_made_by_counting_only(system: ActorSystem, operation: str) -> None:
    ref = start(system, pages(1))
    argument: Any = Child(Page, name="more") if operation == "start_child" else "0"
    with pytest.raises(NotSupported, match="resize it"):
        getattr(ref, operation)(argument)
    assert ref.incarnation == 1


def test_a_partition_can_be_terminated_and_restarted(system: ActorSystem) -> None:
    ref = start(system, pages(2))
    ref.terminate_child("1")
    with pytest.raises(MailboxClosed):
        ref.route(1).tell(Write("nobody"))
    ref.restart_child("1")
    assert ref.route(1).ask(Write("new")) == ["new"]


# --- on real threads -------------------------------------------------------------------------------------


def test_on_threads_every_message_is_answered_or_refused_while_the_number_changes() -> None:
    """Routing takes no lock: at worst it finds a partition that is just being stopped."""
    names = ("ada", "bob", "eve", "joe")
    seen: Counter[str] = Counter()
    enough = threading.Event()

    def write_on_and_on() -> None:
        while not enough.is_set():
            for name in names:
                try:
                    seen[ref.route(name).ask(Write(name), timeout=60.0)[-1]] += 1
                except BaseException as error:
                    seen[type(error).__name__] += 1

    with ActorSystem("threads") as system:
        ref = start(system, pages(4))
        writer = threading.Thread(target=write_on_and_on)
        writer.start()
        for _ in range(20):
            ref.resize(1)
            ref.resize(4)
        enough.set()
        writer.join()
        assert set(seen) <= {*names, "MailboxClosed"}
        assert [ref.route(name).ask(Write(name))[-1] for name in names] == list(names)

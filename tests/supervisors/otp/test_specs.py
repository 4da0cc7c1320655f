"""Specs and flags: what is filled in, and what is refused (cases 13 to 15, 26 to 28)."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from understudy import Backoff, Child, ChildSpec, DynamicSupervisor, ErrorKind, Mailbox, Supervisor, check_childspecs
from understudy.actors.mailbox import DEFAULT_MAILBOX
from understudy.messages.errors import ChildNotFound, NotSupported, SpecInvalid

from ..players import Player, Stage, refused


@pytest.mark.otp(13, "sup_start_map")
def test_get_childspec_fills_the_defaults_in(stage: Stage) -> None:
    sup = stage.supervise(
        stage.child("a"), stage.child("b", shutdown="brutal_kill"), Supervisor("c"), DynamicSupervisor("d")
    )
    plain = sup.get_childspec("a")
    assert (plain.restart, plain.shutdown, plain.kind, plain.significant) == ("permanent", 5.0, "worker", False)
    assert plain.mailbox == DEFAULT_MAILBOX
    assert isinstance(plain, Child)
    assert plain.actor is Player
    assert sup.get_childspec("b").shutdown == "brutal_kill"
    for name in ("c", "d"):
        nested = sup.get_childspec(name)
        assert (nested.restart, nested.shutdown, nested.kind) == ("permanent", "infinity", "supervisor")
    assert refused(ChildNotFound, sup.get_childspec, "e").code == 0xFFF8


@pytest.mark.otp(14, "sup_start_map_simple")
def test_get_childspec_of_a_dynamic_child_goes_by_reference(stage: Stage) -> None:
    sup = stage.supervise_dynamic()
    child = sup.start_child(stage.extra("a", restart="transient"))
    assert child is not None
    spec = sup.get_childspec(child)
    assert (spec.restart, spec.shutdown, spec.kind) == ("transient", 5.0, "worker")
    stranger = stage.start(stage.child("stranger"))
    refused(ChildNotFound, sup.get_childspec, stranger)
    refused(NotSupported, sup.get_childspec, "a")


@pytest.mark.otp(15, "sup_start_map_faulty_specs")
def test_faulty_specs_are_refused_by_what_is_wrong_with_them(stage: Stage) -> None:
    """OTP tolerates an unknown field. Here a spec read from a file may have a misspelt one, so it is refused."""
    sup = stage.supervise()
    assert "needs a name" in str(refused(SpecInvalid, sup.start_child, Child(Player)))
    assert "needs a name" in str(refused(SpecInvalid, Supervisor, children=[Child(Player)]))
    assert "'actor' is missing" in str(refused(SpecInvalid, Child.of, {"name": "a"}))
    assert "did you mean 'restart'" in str(refused(SpecInvalid, Child.of, {"actor": Player, "restrat": "permanent"}))
    assert "'silly'" in str(refused(SpecInvalid, Child.of, {"actor": Player, "silly": True}))
    assert "'child4'" in str(refused(SpecInvalid, sup.start_child, "child4"))
    assert "'child4'" in str(refused(SpecInvalid, Supervisor, children=["child4"]))
    assert sup.which_children() == []


@pytest.mark.otp(15, "sup_start_map_faulty_specs")
@pytest.mark.parametrize("children", [5, None, Child(Player, name="a"), {"actor": Player}, "abc"])
def test_children_that_are_no_list_of_specs_are_refused_with_a_code(children: Any) -> None:
    error = refused(SpecInvalid, Supervisor, children=children)
    assert error.code == 0xFFF5
    wrong = check_childspecs(children)
    assert wrong
    assert all(each.kind is ErrorKind.CHILD_SPEC_INVALID for each in wrong)


@pytest.mark.parametrize("fields", [{5: 1, "actor": Player}, {"actor": Player, "name": 5}, [("actor", Player)], None])
def test_a_mapping_that_is_none_or_has_odd_names_is_refused_with_a_code(fields: Any) -> None:
    assert refused(SpecInvalid, Child.of, fields).kind is ErrorKind.CHILD_SPEC_INVALID


@pytest.mark.otp(15, "sup_start_map_faulty_specs")
def test_a_mapping_is_as_good_as_a_spec(stage: Stage) -> None:
    children: Any = [{"actor": Player, "name": "a", "args": (stage, "a"), "shutdown": 1.0}]
    sup = stage.supervise(*children)
    assert sup.get_childspec("a").shutdown == 1.0


BAD_FIELDS: list[tuple[dict[str, Any], str]] = [
    ({"actor": "module:Class"}, "actor"),
    ({"actor": None}, "actor"),
    ({"actor": int}, "actor"),
    ({"restart": "prmanent"}, "restart"),
    ({"restart": None}, "restart"),
    ({"restart": []}, "restart"),
    ({"shutdown": -10}, "shutdown"),
    ({"shutdown": "5"}, "shutdown"),
    ({"shutdown": True}, "shutdown"),
    ({"shutdown": float("nan")}, "shutdown"),
    ({"shutdown": []}, "shutdown"),
    ({"significant": "yes"}, "significant"),
    ({"significant": 1}, "significant"),
    ({"significant": True}, "significant"),
    ({"name": ""}, "name"),
    ({"name": "a/b"}, "name"),
    ({"name": 5}, "name"),
    ({"alias": "a/b"}, "alias"),
    ({"args": [1]}, "args"),
    ({"kwargs": [1]}, "kwargs"),
    ({"mailbox": 10}, "mailbox"),
    ({"backoff": 1.0}, "backoff"),
    ({"between_lives": "wait"}, "between_lives"),
]


@pytest.mark.otp(26, "child_specs")
@pytest.mark.parametrize(("fields", "named"), BAD_FIELDS)
def test_a_bad_value_is_refused_by_field_and_value(fields: dict[str, Any], named: str) -> None:
    good = {"actor": Player, "name": "child"}
    error = refused(SpecInvalid, Child.of, {**good, **fields})
    assert error.kind is ErrorKind.CHILD_SPEC_INVALID
    assert f"{named}={fields[named]!r}" in str(error)
    wrong = check_childspecs([{**good, **fields}, good])
    assert [str(each) for each in wrong] == [str(error)]


@pytest.mark.otp(26, "child_specs")
def test_good_specs_are_found_good_without_starting_anything() -> None:
    good: list[ChildSpec] = [
        Child(Player, name="a", shutdown="infinity"),
        Child(Player, name="b", restart="temporary", shutdown=0),
        Child(Player, name="c", restart="transient", shutdown="brutal_kill"),
        Child(lambda: Player(Stage()), name="d", shutdown=float("inf")),
        Supervisor("e", shutdown=1.0),
        Supervisor("f", shutdown="infinity", children=[Child(Player, name="a")]),
        DynamicSupervisor("g"),
    ]
    assert check_childspecs(good) == []


@pytest.mark.otp(26, "child_specs")
def test_two_children_of_one_name_are_refused(stage: Stage) -> None:
    twice = [Child(Player, name="twin"), Child(Player, name="twin", shutdown=1.0)]
    (wrong,) = check_childspecs(twice)
    assert "'twin'" in str(wrong)
    assert "'twin'" in str(refused(SpecInvalid, Supervisor, children=twice))


@pytest.mark.otp(26, "child_specs")
def test_a_dynamic_supervisor_refuses_what_is_no_spec(stage: Stage) -> None:
    sup = stage.supervise_dynamic()
    for rubbish in ("hej", None, Player, {"actor": Player}):
        assert refused(SpecInvalid, sup.start_child, rubbish).kind is ErrorKind.CHILD_SPEC_INVALID
    assert sup.which_children() == []


def _values() -> dict[str, list[tuple[Any, bool]]]:
    """Values of every field, and whether each is good by itself."""
    return {
        "auto_shutdown": [("never", True), ("any_significant", True), ("all_significant", True), ("some", False)],
        "restart": [("permanent", True), ("transient", True), ("temporary", True), ("often", False)],
        "significant": [(True, True), (False, True), (None, False)],
        "shutdown": [(None, True), (0, True), (2.5, True), ("brutal_kill", True), ("infinity", True), (-1, False)],
        "between_lives": [("buffer", True), ("refuse", True), ("lose", False)],
        "mailbox": [(None, True), (Mailbox(3), True), (3, False)],
        "kind": [("worker", True), ("supervisor", True)],
        "backoff": [(None, True), (Backoff(1, 2), True)],
    }


@pytest.mark.otp(27, "child_specs_map")
def test_every_combination_of_values_is_accepted_or_refused_as_the_rules_say() -> None:
    """Each good by itself; and a significant child is neither permanent nor in a supervisor that does not care."""
    values = _values()
    count = accepted = 0
    for combination in itertools.product(*values.values()):
        fields = {name: value for name, (value, _) in zip(values, combination, strict=True)}
        auto_shutdown, kind = fields.pop("auto_shutdown"), fields.pop("kind")
        expected = all(good for _, good in combination)
        if fields["significant"] and (fields["restart"] == "permanent" or auto_shutdown == "never"):
            expected = False
        try:
            child = Child(Player, name="x", **fields) if kind == "worker" else Supervisor("x", **fields)
            Supervisor(children=[child], auto_shutdown=auto_shutdown)
            found = True
        except SpecInvalid:
            found = False
        assert found == expected, (auto_shutdown, kind, fields)
        count += 1
        accepted += found
    assert count == 10_368 >= 7_200
    assert accepted == 1_040


BAD_FLAGS: list[tuple[dict[str, Any], str]] = [
    ({"strategy": "none_for_one"}, "strategy"),
    ({"strategy": None}, "strategy"),
    ({"intensity": "infinity"}, "intensity"),
    ({"intensity": -1}, "intensity"),
    ({"intensity": 1.5}, "intensity"),
    ({"intensity": True}, "intensity"),
    ({"period": 0}, "period"),
    ({"period": -1.0}, "period"),
    ({"period": "infinity"}, "period"),
    ({"period": float("nan")}, "period"),
    ({"period": True}, "period"),
    ({"auto_shutdown": "sometimes"}, "auto_shutdown"),
    ({"auto_shutdown": False}, "auto_shutdown"),
]


@pytest.mark.otp(28, "sup_flags")
@pytest.mark.parametrize(("flags", "named"), BAD_FLAGS)
def test_a_bad_flag_is_refused_by_name_and_value(flags: dict[str, Any], named: str) -> None:
    error = refused(SpecInvalid, Supervisor, **flags)
    assert error.kind is ErrorKind.SUPERVISOR_FLAGS_INVALID
    assert f"{named}={flags[named]!r}" in str(error)
    assert error.code == 0xFFF5


@pytest.mark.otp(28, "sup_flags")
@pytest.mark.parametrize(
    ("flags", "named"),
    [
        ({"intensity": -1}, "intensity"),
        ({"period": 0}, "period"),
        ({"max_children": -1}, "max_children"),
        ({"max_children": "many"}, "max_children"),
        ({"max_children": True}, "max_children"),
        ({"extra_arguments": [1]}, "extra_arguments"),
    ],
)
def test_a_bad_flag_of_a_dynamic_supervisor_is_refused_by_name(flags: dict[str, Any], named: str) -> None:
    error = refused(SpecInvalid, DynamicSupervisor, **flags)
    assert error.kind is ErrorKind.SUPERVISOR_FLAGS_INVALID
    assert f"{named}={flags[named]!r}" in str(error)


@pytest.mark.otp(28, "sup_flags")
def test_an_unknown_flag_is_refused_by_name() -> None:
    """OTP ignores it; here it is an argument that does not exist."""
    flags: dict[str, Any] = {"silly_flag": True}
    for kind in (Supervisor, DynamicSupervisor):
        with pytest.raises(SpecInvalid, match="silly_flag"):
            kind(**flags)


@pytest.mark.otp(28, "sup_flags")
def test_the_defaults_are_three_restarts_in_five_seconds_one_for_one() -> None:
    flags = Supervisor()
    assert (flags.strategy, flags.intensity, flags.period, flags.auto_shutdown) == ("one_for_one", 3, 5.0, "never")
    assert (DynamicSupervisor().intensity, DynamicSupervisor().period) == (3, 5.0)
    assert (DynamicSupervisor().max_children, DynamicSupervisor().extra_arguments) == (None, ())


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"min": 0}, "min"),
        ({"min": -1}, "min"),
        ({"min": "1"}, "min"),
        ({"min": True}, "min"),
        ({"min": float("nan")}, "min"),
        ({"min": float("inf"), "max": float("inf")}, "min"),
        ({"max": 0.5}, "max"),
        ({"max": None}, "max"),
        ({"jitter": 1.5}, "jitter"),
        ({"jitter": "some"}, "jitter"),
        ({"reset_after": -1}, "reset_after"),
        ({"reset_after": None}, "reset_after"),
    ],
)
def test_a_bad_backoff_is_refused_by_name(fields: dict[str, Any], named: str) -> None:
    values: dict[str, Any] = {"min": 1.0, "max": 30.0, **fields}
    error = refused(SpecInvalid, Backoff, **values)
    assert error.kind is ErrorKind.BACKOFF_INVALID
    assert f"{named}={fields[named]!r}" in str(error)

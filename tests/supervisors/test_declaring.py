"""Declarations that are called as they cannot be: an error with a code, that names the argument."""

from __future__ import annotations

import contextvars
import copy
import dataclasses
import pickle
from typing import Any

import pytest

from understudy import (
    Backoff,
    Child,
    DynamicSupervisor,
    ErrorKind,
    Mailbox,
    PartitionSupervisor,
    SpecInvalid,
    Supervisor,
    TaskSupervisor,
)
from understudy.supervisors.requests import StartChild
from understudy.supervisors.working import Job

from .bank import Account

SPEC, FLAGS = ErrorKind.CHILD_SPEC_INVALID, ErrorKind.SUPERVISOR_FLAGS_INVALID


@pytest.mark.parametrize(
    ("declare", "args", "kwargs", "kind", "text"),
    [
        (Supervisor, ("t",), {"foo": 1}, FLAGS, "Supervisor: unknown argument foo=1; there are alias, auto_shutdown"),
        (Supervisor, ("t",), {"strateggy": 1}, FLAGS, "Supervisor: unknown argument strateggy=1; did you mean 'strat"),
        (DynamicSupervisor, ("t",), {"max_childs": 1}, FLAGS, "did you mean 'max_children'"),
        (TaskSupervisor, (), {"max_childs": 1}, FLAGS, "did you mean 'max_children'"),
        (PartitionSupervisor, ("t", Child(Account)), {"partition": 1}, FLAGS, "did you mean 'partitions'"),
        (PartitionSupervisor, ("t",), {}, FLAGS, "PartitionSupervisor: 'child' is missing"),
        (Supervisor, ("t", [], "one_for_one", "never", 3), {}, FLAGS, "5 arguments without a name, at most 4"),
        (Supervisor, ("t",), {"name": "u"}, FLAGS, "name is given twice: by its place, and as name='u'"),
        (Child, (), {}, SPEC, "Child: 'actor' is missing"),
        (Child, (), {"name": "a"}, SPEC, "Child: 'actor' is missing"),
        (Child, (Account,), {"restrat": "permanent"}, SPEC, "did you mean 'restart'"),
        (Child, (Account, (), {}, "permanent"), {}, SPEC, "at most 3 (actor, args, kwargs)"),
        (Mailbox, (), {"capactiy": 3}, ErrorKind.MAILBOX_INVALID, "did you mean 'capacity'"),
        (Backoff, (1.0,), {}, ErrorKind.BACKOFF_INVALID, "Backoff: 'max' is missing"),
        (Backoff, (1.0, 2.0), {"jiter": 1}, ErrorKind.BACKOFF_INVALID, "did you mean 'jitter'"),
    ],
)
def test_a_declaration_names_the_argument_that_is_wrong(
    declare: Any, args: tuple[Any, ...], kwargs: dict[str, Any], kind: ErrorKind, text: str
) -> None:
    """Unknown, missing, twice, or one too many."""
    with pytest.raises(SpecInvalid) as caught:
        declare(*args, **kwargs)
    assert caught.value.kind == kind
    assert text in str(caught.value)
    assert caught.value.code.hex == "0xFFF5"


@pytest.mark.parametrize(
    "declared",
    [
        Child(Account, name="account", kwargs={"balance": 3}),
        Supervisor("t", [Child(Account, name="account")], strategy="one_for_all"),
        Mailbox(5, "drop_oldest"),
        Backoff(0.1, 3.0),
    ],
    ids=lambda declared: type(declared).__name__,
)
def test_declarations_are_copied_as_every_dataclass_is(declared: Any) -> None:
    """By `copy`, by `pickle`, and by `dataclasses.replace`."""
    assert copy.copy(declared) == declared
    assert copy.deepcopy(declared) == declared
    assert dataclasses.replace(declared) == declared
    assert pickle.loads(pickle.dumps(declared)) == declared


def test_what_children_are_started_with_is_not_shown() -> None:
    """Arguments hold URLs, and those hold passwords; what shows a declaration goes to logs."""
    secret = "amqp://ada:hunter2@host/"
    child = Child(Account, (secret,), {"balance": secret}, name="account")
    shown = [
        child,
        Supervisor("tree", [child]),
        DynamicSupervisor("dynamic", extra_arguments=(secret,)),
        StartChild(child, (secret,), {"balance": secret}),
        Job(print, (secret,), {"balance": secret}, contextvars.copy_context(), None),
    ]
    assert [each for each in shown if "hunter2" in repr(each)] == []
    assert repr(child).startswith("Child(name='account', ")
    assert "Account" in repr(child)
    assert "Account" in repr(shown[3])

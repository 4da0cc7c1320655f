"""Reports: what a supervisor tells of what went wrong (case 89)."""

from __future__ import annotations

import json
import logging

import pytest

from understudy import Backoff
from understudy.actors.events import (
    ActorCrashed,
    ActorRestarted,
    ChildStartFailed,
    RestartScheduled,
    ShutdownError,
    SupervisorGaveUp,
)
from understudy.messages.errors import StartFailed

from ..players import Note, Stage, refused
from .test_stopping import raise_while_stopping


@pytest.mark.otp(89, "format_log_1")
def test_a_child_that_crashed_is_reported_with_reason_traceback_and_what_it_was_doing(stage: Stage) -> None:
    """OTP's ``child_terminated``: the offender's path begins with its supervisor's."""
    stage.supervise(stage.child("a"))
    stage.end("sup/a")
    (crashed,) = stage.of(ActorCrashed)
    assert (crashed.path, crashed.incarnation, crashed.message_type) == ("sup/a", 1, "Crash")
    assert str(crashed.error) == "a crashes"
    assert "RuntimeError: a crashes" in crashed.traceback
    (restarted,) = stage.of(ActorRestarted)
    assert (restarted.path, restarted.incarnation) == ("sup/a", 2)


@pytest.mark.otp(89, "format_log_1")
def test_a_child_that_did_not_start_is_reported_with_supervisor_offender_and_reason(stage: Stage) -> None:
    """OTP's ``start_error``."""
    sup = stage.supervise()
    stage.starts("a", ValueError("no"))
    refused(StartFailed, sup.start_child, stage.child("a"))
    (report,) = stage.of(ChildStartFailed)
    assert (report.path, report.child) == ("sup", "sup/a")
    assert "ValueError: no" in str(report.error)


@pytest.mark.otp(89, "format_log_1")
def test_a_child_that_did_not_stop_as_asked_is_reported_with_supervisor_offender_and_reason(stage: Stage) -> None:
    """OTP's ``shutdown_error``."""
    stage.stops("a", raise_while_stopping)
    sup = stage.supervise(stage.child("a"))
    sup.terminate_child("a")
    (report,) = stage.of(ShutdownError)
    assert (report.path, report.child, report.reason) == ("sup", "sup/a", "error(OSError: the disk is full)")


@pytest.mark.otp(89, "format_log_1")
def test_a_supervisor_that_gave_up_is_reported_with_limits_offender_and_reason(stage: Stage) -> None:
    """OTP's ``shutdown`` with ``reached_max_restart_intensity``."""
    stage.supervise(stage.child("a"), intensity=0, period=5.0)
    stage.end("sup/a")
    (report,) = stage.of(SupervisorGaveUp)
    assert (report.path, report.child, report.intensity, report.period) == ("sup", "sup/a", 0, 5.0)
    assert report.reason == "error(RuntimeError: a crashes)"


@pytest.mark.otp(89, "format_log_1")
def test_a_restart_that_is_put_off_is_reported_with_supervisor_offender_and_delay(stage: Stage) -> None:
    stage.supervise(stage.child("a", backoff=Backoff(2.0, 2.0, jitter=0.0)))
    stage.end("sup/a")
    (report,) = stage.of(RestartScheduled)
    assert (report.path, report.child, report.delay) == ("sup", "sup/a", 2.0)


@pytest.mark.otp(89, "format_log_1")
def test_the_log_has_each_report_once_with_the_event_and_the_error_as_json(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.DEBUG, "understudy"):
        stage = Stage()
        stage.supervise(stage.child("a"), intensity=1)
        stage.ref("sup/a").tell(Note(1))
        stage.end("sup/a")
        stage.end("sup/a")
        stage.close()
    records = [record for record in caplog.records if hasattr(record, "event")]
    kinds = [type(vars(record)["event"]).__name__ for record in records]
    assert kinds.count("ActorCrashed") == 2
    assert kinds.count("ActorRestarted") == 1
    assert kinds.count("SupervisorGaveUp") == 1
    crash = json.loads(records[kinds.index("ActorCrashed")].getMessage())
    assert (crash["code"], crash["actor"], crash["incarnation"]) == ("0xFFF9", "sup/a", 1)
    assert (crash["message_type"], crash["source"]) == ("Crash", "RuntimeError: a crashes")
    gave_up = json.loads(records[kinds.index("SupervisorGaveUp")].getMessage())
    assert (gave_up["code"], gave_up["kind"], gave_up["actor"]) == ("0xFFF8", "supervisor.gave_up", "sup")

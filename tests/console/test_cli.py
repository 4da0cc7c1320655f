"""``understudy run module:tree``: exit statuses, signals, and what is shown when it cannot start."""

from __future__ import annotations

import json
import signal
import sys
from pathlib import Path
from typing import Any

import pytest

from understudy import ActorSystem, __version__
from understudy.console import cli
from understudy.console.cli import main

from .conftest import Start

TREE = 'tree = Supervisor("shop", children=[Child(Member, name=name, args=(name,)) for name in "abc"])\n'
WAITING = 'tree = Supervisor("shop", children=[Child(Waiting, name="a", args=("a", 3), shutdown={shutdown})])\n'
FORCED = 128


def error_in(output: str) -> dict[str, Any]:
    """The error response that the command shows on a line of its own."""
    (line,) = [line for line in output.splitlines() if line.startswith('{"code"')]
    found: dict[str, Any] = json.loads(line)
    return found


# --- signals ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_everything_in_order(start: Start, number: signal.Signals) -> None:
    """Status 0; the log says why it stopped."""
    command = start(TREE)
    command.read_until("c starts")
    command.send(number)
    assert command.wait() == 0
    assert command.said() == ["a starts", "b starts", "c starts", "c stops", "b stops", "a stops"]
    assert f"shop: stopping: signal {number.name}" in command.output
    assert "shop: stopped; 0 ended by force" in command.output


def test_a_signal_drains_the_mailboxes(start: Start) -> None:
    """What waits is handled before anything is stopped."""
    command = start(WAITING.format(shutdown=60), "run", "shop:tree", "--drain", "60")
    command.read_until("a begins 0")
    command.send(signal.SIGTERM)
    command.read_until("stopping: signal SIGTERM")
    for _ in range(3):
        command.write_line()
    assert command.wait() == 0
    assert command.said()[-3:] == ["a begins 2", "a ends 2", "a stops"]


def test_without_draining_what_is_being_handled_still_gets_its_time(start: Start) -> None:
    """Its shutdown time; what waits may be dropped."""
    command = start(WAITING.format(shutdown=60), "run", "shop:tree", "--drain", "0")
    command.read_until("a begins 0")
    command.send(signal.SIGTERM)
    command.read_until("stopping: signal SIGTERM")
    for _ in range(3):
        command.write_line()
    assert command.wait() == 0
    assert command.said()[:3] == ["a starts", "a begins 0", "a ends 0"]
    assert command.said()[-1] == "a stops"


@pytest.mark.parametrize("second", [signal.SIGTERM, signal.SIGINT])
def test_a_second_signal_forces_it_down(start: Start, second: signal.Signals) -> None:
    """At once, whatever still runs; the status has the second signal's number."""
    command = start(WAITING.format(shutdown=1000), "run", "shop:tree", "--drain", "1000", "--timeout", "2000")
    command.read_until("a begins 0")
    command.send(signal.SIGTERM)
    command.read_until("stopping: signal SIGTERM")
    command.send(second)
    assert command.wait() == FORCED + second
    assert command.said() == ["a starts", "a begins 0"]


def test_a_stop_that_had_to_kill_has_a_status_of_its_own(start: Start) -> None:
    """And a line in the log."""
    command = start(WAITING.format(shutdown=0.05), "run", "shop:tree", "--drain", "0")
    command.read_until("a begins 0")
    command.send(signal.SIGTERM)
    assert command.wait() == 3
    assert "shop/a: incarnation 1 was ended by force while handling Go" in command.output


def test_the_whole_stop_has_a_deadline(start: Start) -> None:
    """Whatever the specs allow."""
    command = start(WAITING.format(shutdown=1000), "run", "shop:tree", "--drain", "0", "--timeout", "0.1")
    command.read_until("a begins 0")
    command.send(signal.SIGTERM)
    assert command.wait() == 3


def test_threads_that_never_end_do_not_keep_the_process(start: Start) -> None:
    """The interpreter would wait for a worker of asyncio's, which waits for ever."""
    command = start(
        """
class Stuck(Actor):
    async def on_start(self):
        say("ready")
        self.actor_ref.tell(Go())

    @handles
    async def go(self, message: Go) -> None:
        await asyncio.to_thread(self.block)

    def block(self):
        say("blocks")
        threading.Event().wait()

tree = Child(Stuck, name="stuck", shutdown=0.05)
""",
        *("run", "shop:tree", "--drain", "0"),
    )
    command.read_until("blocks")
    command.send(signal.SIGTERM)
    assert command.wait() == 3


def test_a_signal_during_the_start_takes_effect_after_it(start: Start) -> None:
    """Everything starts, and stops again in order."""
    command = start(
        """
class Slow(Member):
    def on_start(self):
        say("begins to start")
        sys.stdin.readline()
        super().on_start()

tree = Supervisor("shop", children=[Child(Member, name="a", args=("a",)), Child(Slow, name="b", args=("b",))])
"""
    )
    command.read_until("begins to start")
    command.send(signal.SIGTERM)
    command.write_line()
    assert command.wait() == 0
    assert command.said() == ["a starts", "b starts", "b stops", "a stops"]


def test_a_second_signal_during_the_start_ends_the_process(start: Start) -> None:
    """However long the start takes."""
    command = start(
        """
class Slow(Member):
    def on_start(self):
        import signal
        taken = signal.getsignal(signal.SIGTERM)
        say("begins to start")
        while not taken.__self__.received:
            pass
        say("has the first signal")
        sys.stdin.readline()

tree = Child(Slow, name="slow")
"""
    )
    command.read_until("begins to start")
    command.send(signal.SIGTERM)
    command.read_until("has the first signal")
    command.send(signal.SIGINT)
    assert command.wait() == FORCED + signal.SIGINT


# --- trees that end by themselves ---------------------------------------------------------------------------


def test_a_tree_that_ends_normally_ends_the_command(start: Start) -> None:
    """Status 0."""
    command = start(
        """
class Done(Member):
    @handles
    def go(self, message: Go) -> None:
        self.stop()

    def on_start(self):
        super().on_start()
        self.actor_ref.tell(Go())

tree = Supervisor("shop", auto_shutdown="any_significant", children=[
    Child(Member, name="a", args=("a",)),
    Child(Done, name="b", args=("b",), restart="transient", significant=True),
])
"""
    )
    assert command.wait() == 0
    assert command.said() == ["a starts", "b starts", "b stops", "a stops"]


def test_a_tree_that_gives_up_has_a_status_of_its_own(start: Start) -> None:
    """Status 1, with the reason and the traceback of the crash in the log."""
    command = start('tree = Supervisor("shop", intensity=2, children=[Child(Crashing, name="a")])')
    assert command.wait() == 1
    assert command.said().count("member starts") == 3
    errors = [json.loads(line.partition("understudy.errors ")[2]) for line in command.lines if "errors {" in line]
    assert [error["kind"] for error in errors] == ["actor.handler.failed"] * 3 + ["supervisor.gave_up"]
    assert errors[0]["actor"] == "shop/a"
    assert 'raise RuntimeError("crashed as ordered")' in command.output


def test_a_tree_that_has_nothing_to_do_ends_at_once(start: Start) -> None:
    """Status 0."""
    command = start(
        """
class Idle(Actor):
    def on_start(self):
        return IGNORE

tree = Child(Idle, name="idle")
"""
    )
    assert command.wait() == 0
    assert "IGNORE" in command.output


def test_a_tree_that_has_ended_before_anybody_looks_ends_cleanly(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Its supervisor is gone by then, and cannot be asked for its children."""

    class Brief(ActorSystem):
        def __init__(self, *args: Any, **options: Any) -> None:
            super().__init__(*args, **options)
            assert self.wait(30.0)

    (tmp_path / "brief.py").write_text(
        "from understudy import Actor, Child, Message, Supervisor, handles\n"
        "class Go(Message[None]): pass\n"
        "class Brief(Actor):\n"
        "    def on_start(self): self.continue_with(Go())\n"
        "    @handles\n"
        "    def go(self, message: Go) -> None: self.stop()\n"
        "brief = Child(Brief, name='brief', restart='transient', significant=True)\n"
        "tree = Supervisor('top', children=[brief], auto_shutdown='any_significant')\n"
    )
    monkeypatch.setattr(cli, "ActorSystem", Brief)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    assert cli.main(["run", "brief:tree"]) == 0


# --- what cannot be started ---------------------------------------------------------------------------------


def test_a_child_that_does_not_start_is_shown_with_its_id_and_traceback(start: Start) -> None:
    """Status 2; what had started is stopped again."""
    command = start(
        """
class Broke(Actor):
    def on_start(self):
        raise ValueError("no money")

tree = Supervisor("shop", children=[
    Child(Member, name="a", args=("a",)),
    Supervisor("inner", children=[Child(Broke, name="broke")]),
])
"""
    )
    assert command.wait() == 2
    assert command.said() == ["a starts", "a stops"]
    assert "Traceback (most recent call last)" in command.output
    assert 'raise ValueError("no money")' in command.output
    shown = error_in(command.output)
    assert (shown["code"], shown["kind"]) == ("0xFFF8", "supervisor.child.start_failed")
    assert "'broke' failed" in shown["source"]
    assert shown["cause"]["cause"]["cause"]["source"] == "ValueError: no money"


@pytest.mark.parametrize(
    ("reference", "text"),
    [
        ("shop", "give module:attribute"),
        ("shop:", "give module:attribute"),
        (":tree", "give module:attribute"),
        ("shpo:tree", "'shpo' cannot be imported: ModuleNotFoundError"),
        ("shop.inner:tree", "cannot be imported"),
        ("..shop:tree", "cannot be imported"),
        ("shop:treee", "did you mean 'tree'?"),
        ("shop:tree.children.first", "there is no 'first'"),
        ("shop:Go", "is Go(number=0): declare a Supervisor"),
        ("shop:number", "is 5: declare a Supervisor"),
        ("shop:raises", "raised KeyError: 'x'"),
        ("shop:leaves", "raised SystemExit: 7"),
        ("shop:needs", "raised TypeError"),
    ],
)
def test_a_tree_that_cannot_be_found_is_told_with_a_code(
    reference: str, text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Status 2, the kind and the code of the error, and what was perhaps meant."""
    _import_from(tmp_path, monkeypatch)
    assert main(["run", reference]) == 2
    shown = error_in(capfd.readouterr().err)
    assert (shown["code"], shown["kind"]) == ("0xFFF5", "config.tree.invalid")
    assert text in shown["source"]


@pytest.mark.parametrize(("text", "error"), [("1 / 0", "ZeroDivisionError"), ("raise SystemExit(0)", "SystemExit")])
def test_a_module_that_raises_is_shown_with_its_traceback(start: Start, text: str, error: str) -> None:
    """Status 2, even where it leaves with another."""
    command = start(text)
    assert command.wait() == 2
    assert "shop.py" in command.output
    assert error_in(command.output)["cause"]["source"].startswith(error)


def test_a_declaration_that_cannot_be_is_shown(start: Start) -> None:
    """Status 2."""
    command = start('tree = Supervisor("shop", strategy="one_for_al")')
    assert command.wait() == 2
    assert "did you mean 'one_for_all'?" in command.output
    assert error_in(command.output)["cause"]["kind"] == "config.supervisor_flags.invalid"


def test_what_is_shown_of_a_failure_holds_no_credentials(start: Start) -> None:
    """Neither the traceback, nor the text, nor the response."""
    command = start(
        "class Broken(Member):\n"
        "    def on_start(self):\n"
        "        word = 'hunter%d' % 2\n"
        "        raise OSError(f'no server at postgresql://app:{word}@db, Cookie: session={word}')\n"
        'tree = Supervisor("shop", children=[Child(Broken, name="store")])\n'
    )
    assert command.wait() == 2
    assert "hunter2" not in command.output
    assert "postgresql://app:***@db" in command.output


def test_a_name_that_cannot_be_is_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: Any) -> None:
    """As the tree's."""
    _import_from(tmp_path, monkeypatch)
    assert main(["run", "shop:tree", "--name", "a/b"]) == 2
    assert "name='a/b'" in capfd.readouterr().err


def _import_from(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (directory / "shop.py").write_text(
        "from understudy import Message, Supervisor\n"
        "class Go(Message[None]):\n    number: int = 0\n"
        "number = 5\n"
        "def raises():\n    raise KeyError('x')\n"
        "def leaves():\n    raise SystemExit(7)\n"
        "def needs(what): ...\n"
        "tree = Supervisor('shop')\n"
    )
    monkeypatch.syspath_prepend(str(directory))
    monkeypatch.delitem(sys.modules, "shop", raising=False)


# --- how a tree is named ------------------------------------------------------------------------------------


@pytest.mark.parametrize("reference", ["shop:make", "shop:Trees.main"])
def test_a_tree_may_be_made_by_a_function_or_stand_in_a_class(start: Start, reference: str) -> None:
    """A function without arguments; a dotted name."""
    command = start(
        TREE + "def make():\n    return tree\n\nclass Trees:\n    main = tree\n", "run", reference, "--name", "market"
    )
    command.read_until("c starts")
    command.send(signal.SIGTERM)
    assert command.wait() == 0
    assert "market: stopping" in command.output


def test_the_set_up_of_logging_is_the_modules_if_it_has_one(start: Start) -> None:
    """Otherwise there is a line for everything from INFO upwards."""
    command = start('import logging\nlogging.basicConfig(format="LOG %(message)s", level="INFO")\n' + TREE)
    command.read_until("c starts")
    command.send(signal.SIGTERM)
    assert command.wait() == 0
    assert "LOG shop: stopping: signal SIGTERM" in command.lines


def test_the_log_level_is_an_option(start: Start) -> None:
    """``debug`` shows every start."""
    command = start(TREE, "run", "shop:tree", "--log-level", "debug")
    command.read_until("shop/c: started (Member)")
    command.send(signal.SIGTERM)
    assert command.wait() == 0


# --- help ---------------------------------------------------------------------------------------------------


def test_help_names_the_command_and_the_statuses(capsys: pytest.CaptureFixture[str]) -> None:
    """For both levels."""
    with pytest.raises(SystemExit) as left:
        main(["--help"])
    assert left.value.code == 0
    assert "run a declared tree until SIGTERM or SIGINT" in capsys.readouterr().out
    with pytest.raises(SystemExit) as left:
        main(["run", "--help"])
    assert left.value.code == 0
    out = capsys.readouterr().out
    for line in ("0        it ended", "1        the tree gave up", "2        it could not", "128 + N"):
        assert line in out


def test_the_version_is_the_packages(capsys: pytest.CaptureFixture[str]) -> None:
    """One number."""
    with pytest.raises(SystemExit):
        main(["--version"])
    assert capsys.readouterr().out == f"understudy {__version__}\n"


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["runn"],
        ["run"],
        ["run", "a:b", "--drain", "-1"],
        ["run", "a:b", "--timeout", "nan"],
        ["run", "a:b", "--timeout", "soon"],
        ["run", "a:b", "--log-level", "loud"],
        ["run", "a:b", "--bogus"],
    ],
)
def test_a_wrong_command_line_is_refused(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """As argparse does: status 2, and what is wrong."""
    with pytest.raises(SystemExit) as left:
        main(arguments)
    assert left.value.code == 2
    assert "error:" in capsys.readouterr().err


def test_the_package_can_be_run(start: Start) -> None:
    """``python -m understudy`` is the command."""
    command = start("", "--help")
    assert command.wait() == 0
    assert "usage: understudy" in command.output

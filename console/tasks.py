"""``understudy tasks``: look at queues of tasks, and manage them, from a terminal."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

from ..actors.tasks.engine import QueueInfo
from ..actors.tasks.inspector import Inspector
from ..messages.tasks import RawTask, TaskInfo, TaskState

__all__ = ["add_tasks_parser", "run_tasks"]

STATES = [str(state) for state in TaskState]
SHOWN_BYTES = 60
"""How much of a payload is shown in a list."""

Command = Callable[[Inspector, argparse.Namespace], None]


def run_tasks(options: argparse.Namespace) -> int:
    """Carry out one of the commands.

    Args:
        options: the command line, read.

    Returns:
        the exit status 0.

    Raises:
        ActorError: the URL names no queues, they cannot be reached, or they refuse what was asked.
    """
    with Inspector(options.url) as inspector:
        options.tasks_command(inspector, options)
    return 0


def add_tasks_parser(commands: Any, run: Callable[[argparse.Namespace], int]) -> None:
    """Add ``tasks`` and its commands to the command line.

    Args:
        commands: the sub-parsers that it is one of.
        run: what is called with the command line.
    """
    tasks = commands.add_parser(
        "tasks",
        help="look at queues of tasks, and manage them",
        description="Look at queues of durable tasks, and manage them; see docs/tasks.md for the states.",
    )
    tasks.set_defaults(command=run)
    each = tasks.add_subparsers(required=True, metavar="COMMAND")
    where = argparse.ArgumentParser(add_help=False)
    where.add_argument("--url", metavar="URL", help="by default UNDERSTUDY_TASKS_URL, or else sqlite:///understudy.db")
    where.add_argument("--json", action="store_true", help="print lines of JSON")

    def add(name: str, command: Command, text: str, *arguments: str) -> argparse.ArgumentParser:
        made: argparse.ArgumentParser = each.add_parser(name, help=text, description=text, parents=[where])
        for argument in arguments:
            made.add_argument(argument, metavar=argument.upper())
        made.set_defaults(tasks_command=command)
        return made

    add("stats", _stats, "how many tasks each queue has, in which states").add_argument("queue", nargs="*")
    listed = add("ls", _ls, "the tasks of a queue, a page of one state", "queue")
    listed.add_argument("--state", choices=STATES, default="pending", help="(%(default)s)")
    listed.add_argument("--page", type=int, default=1, help="counted from 1 (%(default)s)")
    listed.add_argument("--size", type=int, default=30, help="tasks on a page (%(default)s)")
    listed.add_argument("--group", default="", help="of aggregating tasks, only those of this group")
    add("show", _show, "one task, with its payload, its error and its result", "queue", "id")
    add("history", _history, "attempts of each day", "queue").add_argument("--days", type=int, default=10)
    add("servers", _servers, "the processors that run, and what each works on")
    add("groups", _groups, "the groups of a queue, and how many tasks each has", "queue")
    add("cron", _cron, "the periodic tasks of the schedulers that run").add_argument(
        "--history", metavar="ID", help="when this one was enqueued, the latest first"
    )
    made = add("enqueue", _enqueue, "put a task into its queue", "type")
    made.add_argument("--payload", default="", metavar="TEXT", help="by default an empty one")
    for name, kind, text in _OPTIONS:
        made.add_argument(f"--{name}", type=kind, metavar=name.upper(), dest=name.replace("-", "_"), help=text)
    add("pause", _pause, "let no task of a queue be begun", "queue")
    add("resume", _resume, "take a pause back", "queue")
    for name, text in (("run", "make a task pending now"), ("archive", "archive a task"), ("delete", "delete a task")):
        which = add(name, _change, f"{text}, or all of a state", "queue")
        which.set_defaults(change=name)
        one_or_all = which.add_mutually_exclusive_group(required=True)
        one_or_all.add_argument("id", nargs="?", metavar="ID")
        one_or_all.add_argument("--all", choices=STATES, metavar="STATE", help="all tasks in this state")
        which.add_argument("--group", default="", help="of all aggregating tasks, only those of this group")
    add("cancel", _cancel, "have the attempt at an active task cancelled", "id")
    add("rm", _rm, "remove a queue that has no tasks", "queue").add_argument(
        "--force", action="store_true", help="with all that wait in it, but never with active ones"
    )


# --- looking ---------------------------------------------------------------------------------------------------


def _stats(inspector: Inspector, options: argparse.Namespace) -> None:
    infos = [inspector.queue(name) for name in options.queue or inspector.queues()]
    memory = {info.name: inspector.memory_usage(info.name) for info in infos}
    if options.json:
        _lines({**_of_queue(info), "memory": memory[info.name]} for info in infos)
        return
    states = [state.upper() for state in STATES]
    heads = ["QUEUE", *states, "LATENCY", "TODAY", "FAILED", "TOTAL", "FAILED", "KIB", ""]
    rows = [
        [
            info.name,
            *(str(info.sizes[state]) for state in TaskState),
            f"{info.latency:.1f}s",
            str(info.processed),
            str(info.failed),
            str(info.processed_total),
            str(info.failed_total),
            f"{memory[info.name] / 1024:.0f}",
            "paused" if info.paused else "",
        ]
        for info in infos
    ]
    _table(heads, rows)


def _of_queue(info: QueueInfo) -> dict[str, Any]:
    return {
        "queue": info.name,
        **{str(state): number for state, number in info.sizes.items()},
        "latency": info.latency,
        "processed": info.processed,
        "failed": info.failed,
        "processed_total": info.processed_total,
        "failed_total": info.failed_total,
        "paused": info.paused,
        "groups": info.groups,
    }


def _ls(inspector: Inspector, options: argparse.Namespace) -> None:
    infos = inspector.tasks(options.queue, options.state, page=options.page, size=options.size, group=options.group)
    if options.json:
        _lines(_of_task(info) for info in infos)
        return
    rows = [
        [
            info.id,
            info.type,
            _instant(info.next_process_at),
            f"{info.message.retried}/{info.message.max_retry}",
            _text(info.message.payload[:SHOWN_BYTES]),
            info.message.error_msg,
        ]
        for info in infos
    ]
    _table(["ID", "TYPE", "NEXT", "RETRIED", "PAYLOAD", "ERROR"], rows)


def _show(inspector: Inspector, options: argparse.Namespace) -> None:
    shown = _of_task(inspector.task(options.queue, options.id))
    if options.json:
        _lines([shown])
        return
    for name, value in shown.items():
        print(f"{name}: {_text(value)}")


def _of_task(info: TaskInfo) -> dict[str, Any]:
    message = info.message
    return {
        "id": info.id,
        "type": info.type,
        "queue": info.queue,
        "state": str(info.state) + (" (orphaned)" if info.orphaned else ""),
        "payload": _decoded(message.payload),
        "next_process_at": _instant(info.next_process_at),
        "retried": message.retried,
        "max_retry": message.max_retry,
        "error": message.error_msg,
        "last_failed_at": _instant(message.last_failed_at),
        "timeout": message.timeout,
        "deadline": _instant(message.deadline),
        "retention": message.retention,
        "completed_at": _instant(message.completed_at),
        "group": message.group_key,
        "headers": message.headers,
        "result": _decoded(info.result),
    }


def _history(inspector: Inspector, options: argparse.Namespace) -> None:
    days = inspector.history(options.queue, options.days)
    if options.json:
        _lines({"day": day, "processed": processed, "failed": failed} for day, processed, failed in days)
        return
    _table(["DAY", "PROCESSED", "FAILED"], [[day, str(processed), str(failed)] for day, processed, failed in days])


def _servers(inspector: Inspector, options: argparse.Namespace) -> None:
    servers = inspector.servers()
    if options.json:
        _lines(
            {
                "id": server.id,
                "host": server.host,
                "pid": server.pid,
                "status": server.status,
                "concurrency": server.concurrency,
                "queues": server.queues,
                "started_at": _instant(server.started_at),
                "workers": [
                    {
                        "id": each.task_id,
                        "type": each.task_type,
                        "queue": each.queue,
                        "since": _instant(each.started_at),
                    }
                    for each in server.workers
                ],
            }
            for server in servers
        )
        return
    rows = []
    for server in servers:
        queues = " ".join(f"{name}:{weight}" for name, weight in server.queues.items())
        busy = f"{len(server.workers)}/{server.concurrency}"
        rows.append([server.host, str(server.pid), server.status, busy, queues, _instant(server.started_at)])
    _table(["HOST", "PID", "STATUS", "BUSY", "QUEUES", "SINCE"], rows)


def _groups(inspector: Inspector, options: argparse.Namespace) -> None:
    sizes = inspector.group_sizes(options.queue)
    if options.json:
        _lines({"group": group, "size": size} for group, size in sizes.items())
        return
    _table(["GROUP", "SIZE"], [[group, str(size)] for group, size in sizes.items()])


def _cron(inspector: Inspector, options: argparse.Namespace) -> None:
    if options.history is not None:
        _cron_history(inspector, options)
        return
    entries = inspector.schedule()
    if options.json:
        _lines(
            {
                "id": entry.id,
                "spec": entry.spec,
                "type": entry.task_type,
                "payload": _decoded(entry.payload),
                "options": list(entry.options),
                "next": _instant(entry.next),
                "prev": _instant(entry.prev),
            }
            for entry in entries
        )
        return
    rows = [
        [entry.spec, entry.task_type, _instant(entry.next), _instant(entry.prev), " ".join(entry.options), entry.id]
        for entry in entries
    ]
    _table(["SPEC", "TYPE", "NEXT", "PREVIOUS", "OPTIONS", "ID"], rows)


def _cron_history(inspector: Inspector, options: argparse.Namespace) -> None:
    events = inspector.enqueued(options.history)
    if options.json:
        _lines({"id": event.task_id, "at": _instant(event.at)} for event in events)
        return
    _table(["AT", "TASK"], [[_instant(event.at), event.task_id] for event in events])


# --- managing --------------------------------------------------------------------------------------------------


_OPTIONS: tuple[tuple[str, type, str], ...] = (
    ("queue", str, "its name; default unless said"),
    ("task-id", str, "a new one unless said"),
    ("max-retry", int, "how often it is tried again; 25 unless said"),
    ("process-in", float, "seconds"),
    ("timeout", float, "seconds that one attempt may take"),
    ("retention", float, "seconds that it is kept when it is done"),
    ("unique", float, "seconds for which no other like it is taken"),
    ("group", str, "to be processed as one with the others of it"),
)
"""Of ``enqueue``: the name, its type, and what it is."""


def _enqueue(inspector: Inspector, options: argparse.Namespace) -> None:
    names = [name.replace("-", "_") for name, _, _ in _OPTIONS]
    given: Any = {name: value for name in names if (value := getattr(options, name)) is not None}
    info = inspector.enqueue(RawTask(options.type, options.payload.encode()), **given)
    _done(options, str(info.state), queue=info.queue, id=info.id)


def _pause(inspector: Inspector, options: argparse.Namespace) -> None:
    inspector.pause(options.queue)
    _done(options, "paused", queue=options.queue)


def _resume(inspector: Inspector, options: argparse.Namespace) -> None:
    inspector.unpause(options.queue)
    _done(options, "resumed", queue=options.queue)


def _change(inspector: Inspector, options: argparse.Namespace) -> None:
    said = {"run": "pending", "archive": "archived", "delete": "deleted"}[options.change]
    if options.all is None:
        getattr(inspector, options.change)(options.queue, options.id)
        _done(options, said, queue=options.queue, id=options.id)
    else:
        number = getattr(inspector, f"{options.change}_all")(options.queue, options.all, group=options.group)
        _done(options, said, queue=options.queue, number=number)


def _cancel(inspector: Inspector, options: argparse.Namespace) -> None:
    inspector.cancel(options.id)
    _done(options, "told every processor to cancel", id=options.id)


def _rm(inspector: Inspector, options: argparse.Namespace) -> None:
    inspector.remove_queue(options.queue, force=options.force)
    _done(options, "removed", queue=options.queue)


# --- printing --------------------------------------------------------------------------------------------------


def _done(options: argparse.Namespace, what: str, **about: Any) -> None:
    if options.json:
        _lines([{"done": what, **about}])
    else:
        print(f"{what}: " + ", ".join(f"{name} {_text(value)}" for name, value in about.items()))


def _lines(items: Iterable[dict[str, Any]]) -> None:
    for item in items:
        print(json.dumps(item))


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Columns as wide as they must be; what could move a terminal's cursor is escaped."""
    lines = [list(heads), *([_text(cell) for cell in row] for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(heads))]
    for line in lines:
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())


def _text(value: object) -> str:
    text = _decoded(value) if isinstance(value, bytes) else str(value)
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


def _decoded(value: bytes) -> str:
    return value.decode("utf-8", "backslashreplace")


def _instant(at: float) -> str:
    if not at:
        return ""
    try:
        return datetime.fromtimestamp(at, UTC).isoformat(timespec="seconds")
    except (ValueError, OverflowError, OSError):  # a time that somebody else wrote
        return str(at)

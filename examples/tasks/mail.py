"""A program's own tasks, in six steps: payload, distributor, handlers, and what puts them together."""

from __future__ import annotations

import threading
from typing import Any, ClassVar, Protocol, Unpack

from understudy import (
    ActorTaskDistributor,
    Backoff,
    Child,
    Distributor,
    Periodic,
    Processor,
    ProcessorSettings,
    Scheduler,
    SkipRetry,
    Supervisor,
    TaskContext,
    TaskDistributor,
    TaskInfo,
    TaskOptions,
    TaskPayload,
    TaskProcessor,
    TaskRouter,
)


# 1. The payload: a message with a task type.
class SendVerifyEmail(TaskPayload[str]):
    """Ask a new user to verify an address."""

    task_type = "task:send_verify_email"
    task_options: ClassVar[TaskOptions] = {"queue": "critical", "max_retry": 10, "retention": 3600}

    username: str


class CountSent(TaskPayload[None]):
    """Note how many emails were sent."""

    task_type = "task:count_sent"


# 2. What the program must be able to distribute.
class MailDistributor(TaskDistributor, Protocol):
    """Distributes the program's tasks."""

    def send_verify_email(self, payload: SendVerifyEmail, **options: Unpack[TaskOptions]) -> TaskInfo:
        """Have an email sent."""
        ...


# 3. How it is done: through the distributor actor. Tests give the program another one.
class QueuedMailDistributor(ActorTaskDistributor):
    """A ``MailDistributor`` on durable queues."""

    def send_verify_email(self, payload: SendVerifyEmail, **options: Unpack[TaskOptions]) -> TaskInfo:
        """Have an email sent."""
        return self.distribute(payload, **options)


# 4. What the program must be able to process.
class MailProcessor(TaskProcessor, Protocol):
    """Processes the program's tasks."""

    def send_verify_email(self, payload: SendVerifyEmail, context: TaskContext) -> str:
        """Send an email."""
        ...


# 5. How it is done: handlers with what they need, and the routes to them.
class Mailer:
    """A ``MailProcessor`` whose mail server refuses every third attempt at first."""

    def __init__(self) -> None:
        self.sent: list[str] = []
        self.changed = threading.Condition()

    def routes(self) -> TaskRouter:
        """The handlers by task type."""
        router = TaskRouter()
        router.add(SendVerifyEmail, self.send_verify_email)
        router.add(CountSent, self.count_sent)
        return router

    def send_verify_email(self, payload: SendVerifyEmail, context: TaskContext) -> str:
        """Send an email, and return its receipt."""
        if not payload.username:
            raise SkipRetry("a user without a name has no address")
        if context.retried == 0 and int(payload.username[-1]) % 3 == 0:
            raise ConnectionError("the mail server is busy")
        with self.changed:
            self.sent.append(payload.username)
            self.changed.notify_all()
        return f"receipt:{payload.username}"

    async def count_sent(self, _payload: CountSent) -> None:
        """A coroutine may be a handler as well."""
        print(f"  every second: {len(self.sent)} sent so far")


# 6. The tree: what distributes, what processes, what is enqueued again and again.
def declare(url: str, mailer: MailProcessor) -> Supervisor:
    """Distributor, processor and scheduler under one supervisor."""
    settings = ProcessorSettings(
        concurrency=10,
        queues={"critical": 6, "default": 3},
        retry_delay=lambda _retried, _error, _task: 0.2,
        forward=0.2,
    )
    children: list[Any] = [
        Child(Distributor, (url,), name="distributor", backoff=Backoff(0.1, 5.0)),
        Child(Processor, (mailer, url, settings), name="processor", backoff=Backoff(0.1, 5.0)),
        Child(Scheduler, ([Periodic("@every 1s", CountSent())], url), name="scheduler", backoff=Backoff(0.1, 5.0)),
    ]
    return Supervisor("tasks", children=children)

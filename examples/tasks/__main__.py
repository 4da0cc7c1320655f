"""Durable tasks: 100 emails, a mail server that is busy, and one that can never be sent.

python -m examples.tasks [redis://127.0.0.1:6379/0]

Without a URL the queues are in a file that is removed afterwards. In a Redis they are asynq's, and stay.
"""

from __future__ import annotations

import logging
import sys
import tempfile

from understudy import ActorSystem, Inspector, TaskState

from .mail import MailDistributor, Mailer, QueuedMailDistributor, SendVerifyEmail, declare

USERS = 100
PATIENCE = 30.0


def main() -> int:
    """Distribute, wait, and show where every task stands; 0 if all that can be sent was."""
    logging.basicConfig(format="%(levelname)s %(message)s")
    logging.getLogger("understudy").setLevel(logging.WARNING)
    mailer = Mailer()
    with tempfile.TemporaryDirectory() as folder:
        url = sys.argv[1] if len(sys.argv) > 1 else f"sqlite:///{folder}/tasks.db"
        with ActorSystem("mail", declare(url, mailer)) as system:
            distributor: MailDistributor = QueuedMailDistributor(system.lookup("tasks/distributor"))
            for number in range(USERS):
                distributor.send_verify_email(SendVerifyEmail(f"user{number}"), process_in=number % 3)
            distributor.send_verify_email(SendVerifyEmail(""))
            with mailer.changed:
                complete = mailer.changed.wait_for(lambda: len(mailer.sent) >= USERS, PATIENCE)
        with Inspector(url) as inspector:
            show(inspector)
            kept = {info.result.decode() for info in inspector.each("critical", TaskState.COMPLETED)}
    return 0 if complete and len(kept) == USERS else 1


def show(inspector: Inspector) -> None:
    """Print where the tasks of each queue stand."""
    for name in inspector.queues():
        info = inspector.queue(name)
        sizes = ", ".join(f"{number} {state}" for state, number in info.sizes.items() if number) or "empty"
        print(f"  queue {name}: {sizes}; {info.processed} attempts, {info.failed} failed")
        for task in inspector.each(name, TaskState.ARCHIVED):
            print(f"    {task.id}: {task.message.error_msg}")


if __name__ == "__main__":
    sys.exit(main())

"""What a system offers to those who talk to its actors by name."""

from __future__ import annotations

from typing import Any, Literal, TypeVar, overload

import pykka

from ..actors.future import Future
from ..actors.ref import ActorRef
from ..actors.runtime import Runtime, forked
from ..messages.errors import ActorError, SystemStopped, UnknownActor
from ..messages.message import Message
from .ending import Ending

__all__ = ["Sending"]

A = TypeVar("A", bound=pykka.Actor)
R = TypeVar("R")

ASK_TIMEOUT = 5.0
"""Seconds that ``ActorSystem.ask`` waits unless told otherwise (gen_server's default)."""


class Sending:
    """The part of ``ActorSystem`` that finds actors and sends to them."""

    name: str
    runtime: Runtime
    _ending: Ending

    @overload
    def lookup(self, path: str) -> ActorRef[Any]: ...
    @overload
    def lookup(self, path: str, actor_class: type[A]) -> ActorRef[A]: ...

    def lookup(self, path: str, actor_class: type[Any] | None = None) -> ActorRef[Any]:
        """The reference of the actor at ``path`` (or of that alias).

        Args:
            path: its path, or its alias.
            actor_class: the class that it must be of, so that a type checker knows it.

        Raises:
            UnknownActor: there is none; the text names close ones. Or (``actor.name.other_class``) it is of another
                class.
            SystemStopped: the system is stopping; its own actors can look up what still runs.
        """
        self._refuse_if_over("lookup")
        ref = self._resolve(path, "lookup")
        return ref if actor_class is None else self.runtime.directory.resolve_as(path, actor_class)

    def tell(self, target: str | ActorRef[Any], message: Any, *, method: str | None = None) -> None:
        """Send a message to the actor at a path, or of a reference, and wait for nothing.

        Raises:
            UnknownActor: there is no such actor.
            SystemStopped: the system is stopping; its own actors can send to what still runs.
            MailboxFull, MailboxClosed, ActorRestarting: see ``ActorRef.tell``.
        """
        try:
            self._refuse_if_over("tell")
            ref = target if isinstance(target, ActorRef) else self._resolve(target, "tell")
            ref.tell(message, method=method)
        except ActorError as error:
            error.note_call(method, str(target), "tell")
            error.note_message(type(message).__name__, self.runtime.new_id)
            raise

    @overload
    def ask(
        self,
        target: str | ActorRef[Any],
        message: Message[R],
        *,
        block: Literal[True] = True,
        timeout: float | None = ASK_TIMEOUT,
        method: str | None = None,
    ) -> R: ...
    @overload
    def ask(
        self,
        target: str | ActorRef[Any],
        message: Message[R],
        *,
        block: Literal[False],
        timeout: float | None = ASK_TIMEOUT,
        method: str | None = None,
    ) -> Future[R]: ...
    @overload
    def ask(
        self,
        target: str | ActorRef[Any],
        message: Any,
        *,
        block: Literal[False],
        timeout: float | None = ASK_TIMEOUT,
        method: str | None = None,
    ) -> Future[Any]: ...
    @overload
    def ask(
        self,
        target: str | ActorRef[Any],
        message: Any,
        *,
        block: bool = True,
        timeout: float | None = ASK_TIMEOUT,
        method: str | None = None,
    ) -> Any: ...

    def ask(
        self,
        target: str | ActorRef[Any],
        message: Any,
        *,
        block: bool = True,
        timeout: float | None = ASK_TIMEOUT,
        method: str | None = None,
    ) -> Any:
        """Send a message and wait for the reply, or get an awaitable future of it.

        Args:
            target: a path, or a reference.
            message: what to say; the reply to a ``Message[R]`` is an ``R``.
            block: False returns a ``Future`` at once; its errors come when it is read.
            timeout: seconds until it fails with ``actor.mailbox.timeout``; 5 unless told otherwise, None for no
                limit. Below 0 is as 0: it has passed already.
            method: the dotted name that an error carries instead of the calling function's.

        Raises:
            UnknownActor: there is no such actor.
            SpecInvalid: ``config.timeout.invalid``: the timeout is no number.
            SystemStopped: the system is stopping; its own actors can ask what still runs.
            AskTimeout, MailboxFull, HandlerFailed, AskCycle …: see ``ActorRef.ask``.
        """
        try:
            self._refuse_if_over("ask")
            ref = target if isinstance(target, ActorRef) else self._resolve(target, "ask")
            return ref.ask(message, block=block, timeout=timeout, method=method)
        except ActorError as error:
            error.note_call(method, str(target), "ask")
            error.note_message(type(message).__name__, self.runtime.new_id)
            if block:
                raise
            future: Future[Any] = Future()
            future.try_fail(error)
            return future

    def _resolve(self, path: str, verb: str) -> ActorRef[Any]:
        try:
            return self.runtime.directory.resolve(path, verb)
        except UnknownActor:
            self._refuse_if_over(verb)  # it was there a moment ago, maybe: that is what has happened to it
            raise

    def _refuse_if_over(self, verb: str) -> None:
        """Refuse what comes from outside once the system is stopping, and everything once it is down."""
        if forked.happened:
            self.runtime.refuse_if_forked(verb)
        ending = self._ending
        if ending.outcome != "running" and (ending.over or verb == "spawn" or not ending.inside):
            raise self._stopped(verb)

    def _stopped(self, verb: str, cause: BaseException | None = None) -> SystemStopped:
        return SystemStopped(
            f"the system {self.name!r} is stopping or has stopped ({self._ending.outcome}): no {verb} any more",
            target=self.name,
            verb=verb,
            cause=cause,
        )

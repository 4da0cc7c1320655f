"""What a system offers to those who start actors: ``spawn``, under the system's own supervisor."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal, TypeVar, overload

from ..actors import execution
from ..actors.actor import Actor
from ..actors.future import Future
from ..actors.mailbox import Mailbox
from ..actors.ref import ActorRef
from ..messages.errors import ActorError, ErrorKind, HandlerFailed, LoopBlocked, MailboxClosed, SpecInvalid, StartFailed
from .backoff import Backoff
from .child import BetweenLives, Child, ChildSpec, Restart, Shutdown
from .ref import SupervisorRef
from .requests import StartChild, StartedChild
from .sending import Sending
from .supervisor import SupervisorSpec

if TYPE_CHECKING:
    from .partition import PartitionRef, PartitionSupervisor
    from .tasks import TaskSupervisor, TaskSupervisorRef

__all__ = ["Starting"]

A = TypeVar("A", bound=Actor)

MAX_TEMPLATES = 1_000
"""How many kinds of nameless actors are remembered."""

_OPTIONS = ("name", "restart", "shutdown", "mailbox", "backoff", "between_lives", "alias")
_ALL_NONE = (None,) * len(_OPTIONS)
_NONE_GIVEN: dict[str, Any] = {}


class Starting(Sending):
    """The part of ``ActorSystem`` that starts actors."""

    _templates: dict[Any, Child]

    @property
    def root(self) -> SupervisorRef:
        """The reference of the system's own dynamic supervisor, the parent of everything. Its path is empty."""
        raise NotImplementedError

    @overload
    def spawn(self, actor: PartitionSupervisor, /) -> PartitionRef: ...
    @overload
    def spawn(self, actor: TaskSupervisor, /) -> TaskSupervisorRef: ...
    @overload
    def spawn(self, actor: SupervisorSpec, /) -> SupervisorRef: ...
    @overload
    def spawn(self, actor: ChildSpec, /, *, block: Literal[True] = True) -> ActorRef[Any]: ...
    @overload
    def spawn(self, actor: ChildSpec, /, *, block: Literal[False]) -> Future[ActorRef[Any]]: ...
    @overload
    def spawn(
        self,
        actor: type[A] | Callable[..., A],
        /,
        *args: Any,
        block: Literal[True] = True,
        name: str | None = None,
        restart: Restart | None = None,
        shutdown: Shutdown | None = None,
        mailbox: Mailbox | None = None,
        backoff: Backoff | None = None,
        between_lives: BetweenLives | None = None,
        alias: str | None = None,
        **kwargs: Any,
    ) -> ActorRef[A]: ...
    @overload
    def spawn(
        self,
        actor: type[A] | Callable[..., A],
        /,
        *args: Any,
        block: Literal[False],
        name: str | None = None,
        restart: Restart | None = None,
        shutdown: Shutdown | None = None,
        mailbox: Mailbox | None = None,
        backoff: Backoff | None = None,
        between_lives: BetweenLives | None = None,
        alias: str | None = None,
        **kwargs: Any,
    ) -> Future[ActorRef[A]]: ...

    def spawn(
        self,
        actor: Any,
        /,
        *args: Any,
        block: bool = True,
        name: str | None = None,
        restart: Restart | None = None,
        shutdown: Shutdown | None = None,
        mailbox: Mailbox | None = None,
        backoff: Backoff | None = None,
        between_lives: BetweenLives | None = None,
        alias: str | None = None,
        **kwargs: Any,
    ) -> Any:
        """Start an actor under the system's own supervisor.

        Args:
            actor: its class, a function that makes one, or a spec (then nothing else is to be given).
            args: positional arguments of its constructor.
            block: False returns a ``Future`` of the reference at once: ``await`` it in a coroutine.
            name: its name, which is its path; None: it is reached by its reference only.
            restart: ``permanent`` (unless told otherwise), ``transient`` or ``temporary``; see ``ChildSpec``.
            shutdown: seconds it may take to stop, ``"infinity"`` or ``"brutal_kill"``; 5 seconds.
            mailbox: bound and overflow policy; what its class says, or 10,000 messages and ``reject``.
            backoff: wait between restarts; none.
            between_lives: what happens to mail while it is being restarted: ``buffer`` (unless told otherwise) or
                ``refuse``.
            alias: a name of its own in the whole system.
            kwargs: keyword arguments of its constructor. Where one has the name of an option of this method,
                give a ``Child`` with ``kwargs``.

        Returns:
            its reference, or a future of it.

        Raises:
            NameTaken: another actor has the name; ``ref`` is its reference.
            StartFailed: its constructor or ``on_start`` raised, or said ``IGNORE``.
            SpecInvalid: an option is not what it may be.
            LoopBlocked: called by an ``async def`` handler: write ``await system.spawn(…, block=False)``.
            SystemStopped: the system is stopping.
        """
        options = (name, restart, shutdown, mailbox, backoff, between_lives, alias)
        given = _NONE_GIVEN if options == _ALL_NONE else _given(options)
        try:
            self._refuse_if_over("spawn")
            order = self._order(actor, args, kwargs, given)
            if block:
                self._refuse_on_loop()
                return self._ref_of(self.root.ask(order), actor)
            return self._later(order, actor)
        except (MailboxClosed, HandlerFailed) as error:
            raise self._why_not(error) from error
        except ActorError as error:
            error.note_call(None, self.name, "spawn")
            raise

    def _order(self, actor: Any, args: tuple[Any, ...], kwargs: dict[str, Any], given: dict[str, Any]) -> StartChild:
        if isinstance(actor, ChildSpec):
            if args or kwargs or given:
                raise SpecInvalid("spawn(spec) takes nothing beside the spec: put it all into the spec")
            return StartChild(actor)
        if "name" in given or "alias" in given:
            return StartChild(Child(actor, args, kwargs, **given))
        return StartChild(self._template(actor, given), args, kwargs)

    def _template(self, actor: Any, given: dict[str, Any]) -> Child:
        """The spec that all nameless actors of a kind share: a million of them need no million specs."""
        key = (actor, *given.items()) if given else actor
        try:
            template = self._templates.get(key)
        except TypeError:  # something in it cannot be a key: a wrong value, which the spec will refuse
            return Child(actor, **given)
        if template is None:
            template = Child(actor, **given)
            if len(self._templates) >= MAX_TEMPLATES:
                self._templates.clear()  # factories made on the fly: let them go
            self._templates[key] = template
        return template

    def _later(self, order: StartChild, actor: Any) -> Future[ActorRef[Any]]:
        started = self.root.ask(order, block=False)
        future: Future[ActorRef[Any]] = Future()
        future.target = started.target
        future.method = ""
        future.verb = "spawn"

        def hand_over() -> None:
            try:
                future.try_set(self._ref_of(started.get(), actor))
            except (MailboxClosed, HandlerFailed) as error:
                future.try_fail(self._why_not(error))
            except Exception as error:
                future.try_fail(error)

        started.on_done(hand_over)
        return future

    def _refuse_on_loop(self) -> None:
        """On the loop that runs actors, waiting for a start would also hold up what is to be started."""
        if execution.host.loop_of is not None and self._ending.inside:
            raise LoopBlocked(
                "spawn would hold up the event loop that runs actors, maybe the one to be started: write "
                "`await system.spawn(…, block=False)`",
                target=self.name,
                verb="spawn",
            )

    @staticmethod
    def _ref_of(started: StartedChild, actor: Any) -> ActorRef[Any]:
        if started.ref is None:
            raise StartFailed(
                f"{actor!r} said IGNORE when it was started: there is no actor to refer to",
                kind=ErrorKind.CHILD_START_FAILED,
                verb="start",
            )
        return started.ref

    def _why_not(self, error: ActorError) -> ActorError:
        """The system's supervisor is gone, or ended meanwhile: then so does the system."""
        return self._stopped("spawn", error) if self._ending.outcome != "running" else error


def _given(options: tuple[Any, ...]) -> dict[str, Any]:
    return {option: value for option, value in zip(_OPTIONS, options, strict=True) if value is not None}

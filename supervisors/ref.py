"""The reference of a supervisor: its children's administration."""

from __future__ import annotations

from typing import Any

from ..actors.ref import ActorRef
from .child import ChildSpec
from .requests import (
    ChildId,
    ChildInfo,
    CountChildren,
    Counts,
    DeleteChild,
    GetChildSpec,
    RestartChild,
    StartChild,
    StartedChild,
    TerminateChild,
    WhichChild,
    WhichChildren,
)

__all__ = ["SupervisorRef"]


class SupervisorRef(ActorRef[Any]):
    """A supervisor's reference. Children are named by their id, in dynamic supervisors by their reference.

    Every method is an ask, which waits without limit: starting a child takes as long as its ``on_start``,
    stopping one as long as its spec allows. Inside a handler the deadline of what is being handled applies.
    """

    def start_child(
        self, spec: ChildSpec, *args: Any, timeout: float | None = None, **kwargs: Any
    ) -> ActorRef[Any] | None:
        """Add a child and start it.

        Args:
            spec: what to start.
            args: in a dynamic supervisor, further arguments of the constructor.
            timeout: seconds to wait for it.
            kwargs: likewise, by name.

        Returns:
            its reference; None if its ``on_start`` said ``IGNORE``.

        Raises:
            NameTaken: it runs already (``supervisor.child.already_started``, with its ``ref``), there is a spec of
                that name (``already_present``), or another actor has its name or alias (``system.name.taken``).
            StartFailed: it did not start; its spec is not kept.
            MaxChildren: a dynamic supervisor has as many as it may.
        """
        return self.start_child_info(spec, *args, timeout=timeout, **kwargs).ref

    def start_child_info(
        self, spec: ChildSpec, *args: Any, timeout: float | None = None, **kwargs: Any
    ) -> StartedChild:
        """As ``start_child``, with the information that ``on_start`` returned by ``Started(info)``."""
        return self.ask(StartChild(spec, args, kwargs or None), timeout=timeout)

    def terminate_child(self, child: ChildId, *, timeout: float | None = None) -> None:
        """Stop a child, which is not restarted; also ends a pending restart. Fine if it does not run.

        A static supervisor keeps the spec, unless it is temporary. A child that has itself terminated, or one
        above it, is ended too, but cannot wait for that: it gets ``AskCycle``. It means ``self.stop()``.

        Raises:
            ChildNotFound: there is no such child.
        """
        # Not run by the asking thread: that may be the very child's, or one's below it.
        self.ask(TerminateChild(child), block=False, timeout=timeout).get()

    def restart_child(self, child: str, *, timeout: float | None = None) -> StartedChild:
        """Start a child again that was terminated, ended, or said ``IGNORE``.

        Raises:
            ChildRunning: it runs, or its restart is pending.
            ChildNotFound: there is no such child.
            StartFailed: it did not start; its spec stays.
        """
        return self.ask(RestartChild(child), timeout=timeout)

    def delete_child(self, child: str, *, timeout: float | None = None) -> None:
        """Forget the spec of a child that does not run.

        Raises:
            ChildRunning: it runs, or its restart is pending.
            ChildNotFound: there is no such child.
        """
        self.ask(DeleteChild(child), timeout=timeout)

    def which_children(self, *, timeout: float | None = None) -> list[ChildInfo]:
        """List the children, newest first."""
        return self.ask(WhichChildren(), timeout=timeout)

    def which_child(self, child: ChildId, *, timeout: float | None = None) -> ChildInfo:
        """Show one child; raises ``ChildNotFound``."""
        return self.ask(WhichChild(child), timeout=timeout)

    def count_children(self, *, timeout: float | None = None) -> Counts:
        """Count specs, living children, supervisors and workers."""
        return self.ask(CountChildren(), timeout=timeout)

    def get_childspec(self, child: ChildId, *, timeout: float | None = None) -> ChildSpec:
        """Give a child's spec, defaults filled in; raises ``ChildNotFound``."""
        return self.ask(GetChildSpec(child), timeout=timeout)

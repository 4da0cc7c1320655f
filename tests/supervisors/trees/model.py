"""What a supervisor should do, without actors, threads and mailboxes: the model that the real one is compared with."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Literal

from ..players import ABNORMAL, Ending

Outcome = Literal["ok", "fail", "ignore"]
Status = Literal["running", "restarting", "waiting"] | None
"""``waiting``: stopped, to come back together with a child that is being restarted."""


@dataclass
class ModelChild:
    """A child as its supervisor should know it.

    Attributes:
        due: when its restart is to be tried, if that has a time.
        row: restarts in a row, for the backoff.
    """

    name: str
    restart: str = "permanent"
    significant: bool = False
    backoff: tuple[float, float] | None = None
    status: Status = None
    since: float | None = None
    due: float | None = None
    row: int = 0


@dataclass
class Model:
    """A supervisor; ``log`` has the same lines as that of a stage."""

    strategy: str = "one_for_one"
    auto_shutdown: str = "never"
    intensity: int = 3
    period: float = 5.0
    dynamic: bool = False
    max_children: int | None = None
    reset_after: float = 10.0
    now: float = 0.0
    children: list[ModelChild] = field(default_factory=list)
    log: list[str] = field(default_factory=list)
    scripts: dict[str, list[Outcome]] = field(default_factory=dict)
    ended: str | None = None
    restarts: list[float] = field(default_factory=list)
    soon: deque[ModelChild] = field(default_factory=deque)
    """Restarts that are tried again at once, after what waits."""
    gone: set[str] = field(default_factory=set)
    """Children that said ``IGNORE``: their places closed, even if others took them over at once."""

    # --- what is asked of it ---------------------------------------------------------------------------

    def find(self, name: str) -> ModelChild | None:
        """The child of that name."""
        return next((child for child in self.children if child.name == name), None)

    def running(self) -> list[str]:
        """The names of the children that run."""
        return [child.name for child in self.children if child.status == "running"]

    def start_child(self, child: ModelChild) -> str:
        """Add a child; returns how that ends."""
        known = self.find(child.name)
        if self.dynamic and self.max_children is not None and len(self.children) >= self.max_children:
            return "max children"
        if known is not None and self.dynamic:
            return "taken"
        if known is not None:
            return "already started" if known.status in ("running", "restarting") else "already present"
        outcome = self.launch(child)
        if outcome == "ok" or (outcome == "ignore" and child.restart != "temporary" and not self.dynamic):
            self.children.append(child)
        return {"ok": "started", "ignore": "ignored", "fail": "failed"}[outcome]

    def terminate_child(self, name: str) -> str:
        """Stop a child by order."""
        child = self.find(name)
        if child is None:
            return "not found"
        pending = child.status == "restarting"
        self.halt(child)
        child.status = None
        if self.dynamic or child.restart == "temporary":
            self.children.remove(child)
        if pending:
            self.let_go()
        return "terminated"

    def restart_child(self, name: str) -> str:
        """Start a child by order."""
        child = self.find(name)
        if child is None:
            return "not found"
        if child.status in ("running", "restarting"):
            return child.status
        return {"ok": "started", "ignore": "ignored", "fail": "failed"}[self.launch(child)]

    def delete_child(self, name: str) -> str:
        """Forget a child."""
        child = self.find(name)
        if child is None:
            return "not found"
        if child.status in ("running", "restarting"):
            return child.status
        self.children.remove(child)
        return "deleted"

    def stop(self) -> None:
        """Stop the supervisor by order."""
        self.end("shutdown")

    # --- what happens to it ----------------------------------------------------------------------------

    def child_ends(self, name: str, how: Ending) -> None:
        """A child that runs ends on its own."""
        child = self.find(name)
        assert child is not None
        assert child.status == "running"
        if how not in ABNORMAL:
            self.log.append(f"stop {name}")
        child.status = None
        if child.restart == "permanent" or (child.restart == "transient" and how in ABNORMAL):
            self.restart(child)
        else:
            if self.dynamic or child.restart == "temporary":
                self.children.remove(child)
            left = any(other.significant and other.status in ("running", "restarting") for other in self.children)
            counts = child.significant and self.auto_shutdown != "never"
            if counts and (self.auto_shutdown == "any_significant" or not left):
                self.end("shutdown")
        self.settle()

    def advance(self, seconds: float) -> None:
        """Time passes."""
        target = self.now + seconds
        while self.ended is None:
            due = [child for child in self.children if child.due is not None and child.due <= target]
            if not due:
                break
            child = min(due, key=lambda each: each.due or 0.0)
            self.now, child.due = child.due or 0.0, None
            self.try_again(child)
            self.settle()
        self.now = target

    # --- how it does it --------------------------------------------------------------------------------

    def restart(self, child: ModelChild) -> None:
        """The child is to be restarted, now or after a while."""
        child.status = "restarting"
        if child.backoff is not None:
            self.halt_others(child)
            self.put_off(child)
        elif self.allowed(child):
            self.restart_affected(child)

    def try_again(self, child: ModelChild) -> None:
        """The moment for a restart that was put off has come."""
        if self.allowed(child):
            self.restart_affected(child)

    def restart_affected(self, child: ModelChild) -> None:
        """Stop who goes with the child, then start them all in order, until one does not start."""
        self.halt_others(child)
        child.status = "waiting"
        for each in self.affected(child):
            if self.launch(each) == "fail":
                self.put_off(each)
                return
            if self.dynamic and each.status is None:
                self.children.remove(each)

    def affected(self, child: ModelChild) -> list[ModelChild]:
        """Who is restarted with the child."""
        if self.strategy == "one_for_one":
            return [child]
        if self.strategy == "one_for_all":
            return list(self.children)
        return self.children[self.children.index(child) :]

    def halt_others(self, child: ModelChild) -> None:
        """Stop who is restarted with the child."""
        for other in reversed(self.affected(child)):
            if other is not child:
                self.halt(other)
                if other.restart == "temporary":
                    self.children.remove(other)

    def halt(self, child: ModelChild) -> None:
        """Stop one; whoever was there comes back with another."""
        if child.status == "running":
            self.log.append(f"stop {child.name}")
        if child.status is not None:
            child.status = "waiting"
        child.due = None
        if child in self.soon:
            self.soon.remove(child)

    def let_go(self) -> None:
        """Whoever waits for nobody any more is gone."""
        expected = [
            each.name for child in self.children if child.status == "restarting" for each in self.affected(child)
        ]
        for child in self.children:
            if child.status == "waiting" and child.name not in expected:
                child.status = None

    def launch(self, child: ModelChild) -> Outcome:
        """Start one."""
        script = self.scripts.get(child.name)
        outcome: Outcome = script.pop(0) if script else "ok"
        self.log.append(f"{'fail' if outcome == 'fail' else 'start'} {child.name}")
        child.status = "running" if outcome == "ok" else None
        if outcome == "ignore":
            self.gone.add(child.name)
        if outcome == "ok":
            child.since = self.now
        return outcome

    def put_off(self, child: ModelChild) -> None:
        """Try to restart it later."""
        child.status = "restarting"
        if child.backoff is None:
            self.soon.append(child)
            return
        if child.since is not None and self.now - child.since >= self.reset_after:
            child.row = 0
        child.since = None
        first, longest = child.backoff
        child.due = self.now + min(longest, first * 2.0**child.row)
        child.row += 1

    def settle(self) -> None:
        """Do what is to be done at once."""
        while self.soon and self.ended is None:
            self.try_again(self.soon.popleft())

    def allowed(self, child: ModelChild) -> bool:
        """Count a restart; one too many ends the supervisor."""
        self.restarts = [at for at in self.restarts if at >= self.now - self.period] + [self.now]
        if len(self.restarts) <= self.intensity:
            return True
        child.status = None
        self.end("shutdown('reached_max_restart_intensity')")
        return False

    def end(self, reason: str) -> None:
        """The supervisor ends, and its children with it."""
        for child in reversed(self.children):
            if child.status == "running":
                self.log.append(f"stop {child.name}")
            child.status = None
        self.children.clear()
        self.ended = reason

    # --- what it shows ---------------------------------------------------------------------------------

    def shown(self) -> dict[str, str | None]:
        """Ids and states, newest first."""
        return {child.name: None if child.status == "waiting" else child.status for child in reversed(self.children)}

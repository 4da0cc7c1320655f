"""Which handler takes a task, and what is put around it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from understudy.actors.tasks.context import TaskContext
from understudy.actors.tasks.engine import Lease
from understudy.actors.tasks.router import TaskRouter
from understudy.messages.errors import SpecInvalid, TaskError
from understudy.messages.tasks import RawTask, TaskMessage, TaskPayload

from .conftest import Client


class Mail(TaskPayload[str]):
    task_type = "task:mail"

    to: str


def context(client: Client, task_type: str, payload: bytes = b"") -> TaskContext:
    return TaskContext(client.engine, Lease(TaskMessage(task_type, payload, "t", retried=2, max_retry=5), 1, 0.0), 0.0)


@pytest.fixture
def call(client: Client) -> Callable[..., Any]:
    """Has a router handle a task, and waits for what comes of it."""

    def run(router: TaskRouter, task_type: str, payload: bytes = b"") -> Any:
        route = router.route(task_type)
        result = route.call(context(client, task_type, payload))
        return asyncio.run(result) if route.is_async else result

    return run


def test_the_handler_of_the_exact_type_goes_before_every_prefix(call: Callable[..., Any]) -> None:
    """And among prefixes the longest one is taken."""
    router = TaskRouter()
    for name in ("image:", "image:re", "image:resize", "im"):
        router.add(name, lambda task, name=name: f"{name} for {task.type}")
    assert call(router, "image:resize") == "image:resize for image:resize"
    assert call(router, "image:rename") == "image:re for image:rename"
    assert call(router, "image:crop") == "image: for image:crop"
    assert call(router, "imago") == "im for imago"


def test_a_payload_class_takes_exactly_its_type(call: Callable[..., Any]) -> None:
    """Of a longer name it would not know the payload."""
    router = TaskRouter()
    router.add(Mail, lambda payload: payload.to)
    assert call(router, "task:mail", b'{"to":"ada"}') == "ada"
    with pytest.raises(TaskError) as caught:
        call(router, "task:mail:urgent")
    assert caught.value.kind == "task.handler.missing"


def test_where_no_handler_is_found_the_text_is_asynqs(call: Callable[..., Any]) -> None:
    """So that logs of both can be searched in the same way."""
    with pytest.raises(TaskError, match='handler not found for task "nobody"'):
        call(TaskRouter(), "nobody")


@pytest.mark.parametrize("payload", [b"", b"no json", b"[]", b'{"to":1}', b'{"to":"a","cc":"b"}', b"\xff"])
def test_a_payload_that_does_not_fit_is_an_error_of_its_own(call: Callable[..., Any], payload: bytes) -> None:
    """With what is wrong about it as the cause."""
    router = TaskRouter()
    router.add(Mail, lambda _payload: pytest.fail("it must not be called"))
    with pytest.raises(TaskError) as caught:
        call(router, "task:mail", payload)
    assert caught.value.kind == "task.payload.invalid"
    assert caught.value.__cause__ is not None


def test_a_handler_takes_the_context_if_it_has_a_place_for_it(call: Callable[..., Any]) -> None:
    """Id, retries and queue are in it; the payload as well, for middleware."""
    router = TaskRouter()

    @router.handles(Mail)
    def mail(payload: Mail, about: TaskContext) -> tuple[object, ...]:
        return about.id, about.retried, about.max_retry, about.queue, about.payload is payload

    assert call(router, "task:mail", b'{"to":"a"}') == ("t", 2, 5, "default", True)


def test_middleware_is_put_around_in_the_order_of_use(call: Callable[..., Any]) -> None:
    """Also around what is missing."""
    router = TaskRouter()
    seen: list[str] = []

    @router.use
    def outer(about: TaskContext, proceed: Callable[[], Any]) -> Any:
        seen.append(f"outer {about.task.type}")
        return f"<{proceed()}>"

    @router.use
    def inner(_about: TaskContext, proceed: Callable[[], Any]) -> Any:
        seen.append("inner")
        return f"({proceed()})"

    router.add("a", lambda _task: "a")
    assert call(router, "a") == "<(a)>"
    with pytest.raises(TaskError):
        call(router, "b")
    assert seen == ["outer a", "inner", "outer b", "inner"]


@pytest.mark.parametrize("handler_is_async", [False, True])
@pytest.mark.parametrize("middleware_is_async", [False, True])
def test_def_and_async_def_may_be_mixed(
    call: Callable[..., Any], handler_is_async: bool, middleware_is_async: bool
) -> None:
    """Handlers and middleware each as suits them."""
    router = TaskRouter()

    async def slow(task: RawTask) -> str:
        await asyncio.sleep(0)
        return task.type

    async def around(_about: TaskContext, proceed: Callable[[], Any]) -> str:
        return f"<{await proceed()}>"

    router.add("a", slow if handler_is_async else lambda task: task.type)
    router.use(around if middleware_is_async else lambda _about, proceed: proceed())
    assert router.route("a").is_async == (handler_is_async or middleware_is_async)
    assert call(router, "a") == ("<a>" if middleware_is_async else "a")


def test_a_handler_that_is_declared_wrongly_is_refused_at_once() -> None:
    """Blank, twice, not a payload, not callable, of other arguments."""
    router = TaskRouter()
    router.add("a", lambda _task: None)

    class Untyped(TaskPayload[None]):
        pass

    wrong: list[tuple[Any, Any]] = [
        (" ", lambda _task: None),
        ("a", lambda _task: None),
        (Untyped, lambda _task: None),
        (int, lambda _task: None),
        ("b", "no function"),
        ("b", lambda: None),
        ("b", lambda _a, _b, _c: None),
    ]
    for what, function in wrong:
        with pytest.raises(SpecInvalid) as caught:
            router.add(what, function)
        assert caught.value.kind == "config.task_processing.invalid"
    with pytest.raises(SpecInvalid):
        router.use("no function")  # type: ignore[arg-type]  # that is the point

"""The pipeline on real threads: a thousand notifications, and a mutator that falls again and again."""

from typing import Any

import pytest

from understudy.actors.broker.actor import Broker
from understudy.actors.cache.actor import Cache
from understudy.actors.mutator.accessor import Accessor
from understudy.actors.mutator.actor import Mutator
from understudy.messages import (
    CacheItems,
    ConsumeNotif,
    CountNotifs,
    CountQueue,
    NotifData,
    ProduceNotif,
    QueueCounts,
)
from understudy.supervisors.child import Child
from understudy.supervisors.supervisor import Supervisor
from understudy.supervisors.system import ActorSystem

NOTIFS, RECEIVERS, CRASHES = 1_000, 7, 5


class Unsteady(Mutator):
    """Crashes on every 40th batch, before or after it has been stored."""

    batches = 0

    def store(self, requests: Any) -> None:
        Unsteady.batches += 1
        number = Unsteady.batches
        if number % 40 == 5 and number < CRASHES * 40:
            if number % 80 == 5:
                self._backend.store([request.message for request in requests], self._may_commit)
            raise RuntimeError("stage fright")
        super().store(requests)


@pytest.mark.parametrize("round_", range(3))
def test_nothing_is_lost_and_nothing_comes_twice(tmp_path: Any, round_: int) -> None:
    Unsteady.batches = 0
    url = f"sqlite:///{tmp_path}/store.db"
    tree = Supervisor(
        "notifications",
        intensity=100,
        children=[
            Child(Unsteady, name="mutator", args=(url,)),
            Child(Accessor, name="accessor", args=(url,)),
            Child(Cache, name="cache"),
            Child(Broker, name="broker", args=("memory://",)),
        ],
    )
    wish = ConsumeNotif(
        queue="TestOnion",
        exchange_name="SavageEx",
        tag="cons_tag0",
        redis_cache_exp=300,
        cache_on_redis=True,
        store_in_db=True,
        prefetch=20,
        delivery_limit=10,
    )
    with ActorSystem("shop", tree) as system:
        system.ask("notifications/broker", wish)
        sent = [
            NotifData(
                id=f"id {number}",
                receiver_info=str(number % RECEIVERS),
                action_data={"pid": number},
                actioner_info="2",
                fired_at=1714316645 + number,
            )
            for number in range(NOTIFS)
        ]
        pending = [
            system.ask(
                "notifications/broker", ProduceNotif(notif_data=each, exchange_name="SavageEx"), block=False, timeout=60
            )
            for each in sent
        ]
        for future in pending:
            future.get(timeout=60)
        idle = QueueCounts(ready=0, unsettled=0, dead=0, consumers=1)
        while system.ask("notifications/broker", CountQueue("TestOnion"), timeout=60) != idle:
            pass  # the suite's own time limit ends a pipeline that never comes to rest
        assert system.ask("notifications/accessor", CountNotifs(), timeout=60) == NOTIFS
        cached = [
            item["id"]
            for receiver in range(RECEIVERS)
            for item in system.ask("notifications/cache", CacheItems(f"notif_owner:{receiver}"), timeout=60)
        ]
        assert sorted(cached) == sorted(each.id for each in sent)
        assert system.lookup("notifications/mutator").incarnation > 1

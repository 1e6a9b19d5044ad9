"""The Python workers of the chaos run: they share a stream with the Rust workers, and know the same task."""

import asyncio
import os
import random
import time

import redis.asyncio
from redis.asyncio.retry import Retry
from redis.backoff import ConstantBackoff
from redis.exceptions import RedisError
from taskiq import Context, SimpleRetryMiddleware, TaskiqDepends
from taskiq_redis import RedisAsyncResultBackend, RedisStreamBroker

URL = os.environ["CHAOS_URL"]
JOURNAL = os.environ["CHAOS_JOURNAL"]

# A result that cannot be saved is lost, and its message is acknowledged all the same. So this one tries on.
results = RedisAsyncResultBackend(URL, prefix_str="result", retry=Retry(ConstantBackoff(0.1), 1000))
broker = (
    RedisStreamBroker(
        URL,
        queue_name="shared",
        consumer_id="0",
        idle_timeout=int(os.environ["CHAOS_IDLE"]),
        # What is read and not run yet grows old, and others would take it.
        xread_count=10,
        socket_timeout=None,
    )
    .with_result_backend(results)
    .with_middlewares(SimpleRetryMiddleware())
)
journal = redis.asyncio.from_url(URL)


async def note_start(id: str, number: int, attempt: int) -> None:
    """Notes a run before it does anything, however long that takes."""
    line = {"id": random.getrandbits(64), "task": id, "number": number, "attempt": attempt, "who": "python"}
    line |= {"at": time.time_ns() // 1000, "process": os.getpgrp()}
    while True:
        try:
            await journal.xadd(JOURNAL, line)
            return
        except (RedisError, OSError):
            await asyncio.sleep(0.05)


@broker.task(task_name="plain")
async def plain(number: int, failures: int, millis: int, context: Context = TaskiqDepends()) -> int:
    attempt = int(context.message.labels.get("_retries", 0)) + 1
    await note_start(context.message.task_id, number, attempt)
    await asyncio.sleep(millis / 1000)
    if attempt <= failures:
        raise RuntimeError(f"{number} fails")
    return number * 3 + 1

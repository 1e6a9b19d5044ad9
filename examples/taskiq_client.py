"""Calls the tasks of the Rust worker in taskiq.rs, as any TaskIQ client calls Python tasks."""

import asyncio
import os

from taskiq_redis import RedisAsyncResultBackend, RedisStreamBroker

URL = os.environ.get("REDIS_URL", "redis://localhost:6379")
broker = RedisStreamBroker(URL, queue_name="rust").with_result_backend(RedisAsyncResultBackend(URL))


# The code is in Rust. What stands here is never run; it tells the name, and the types to those who call it.
@broker.task(task_name="orders.price")
async def price(order: dict) -> int: ...


@broker.task(task_name="greet")
async def greet(name: str, word: str = "Hello") -> str: ...


@broker.task(task_name="succeed_at", retry_on_error=True, max_retries=3)
async def succeed_at(attempt: int) -> str: ...


async def show(task):
    result = await task.wait_result(check_interval=0.01, timeout=30)
    try:
        result.raise_for_error()
        print(" ", result.return_value)
    except Exception as error:
        print(f"  {type(error).__name__}: {error}")


async def main():
    await broker.startup()
    print("results:")
    await show(await greet.kiq("Ada"))
    await show(await greet.kiq("Ada", word="Good morning"))
    await show(await price.kiq({"item": "lamp", "count": 2}))
    print("errors:")
    await show(await price.kiq({"item": "lamp", "count": 0}))
    await show(await price.kiq({"item": "lamp"}))
    print("retries:")
    await show(await succeed_at.kiq(3))
    await show(await succeed_at.kiq(4))
    await broker.shutdown()


asyncio.run(main())

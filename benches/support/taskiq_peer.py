"""TaskIQ's own worker and client, measured beside ours: `taskiq worker taskiq_peer:broker`, or a word and a number.

submit N           prints how many messages a second one client sends
latency N SECONDS  prints the milliseconds of N tasks from sending to result, looked for at this interval
"""

import asyncio
import os
import sys
import time

from taskiq_redis import ListQueueBroker, RedisAsyncResultBackend, RedisStreamBroker

URL = os.environ["BENCH_URL"]
KINDS = {"stream": RedisStreamBroker, "list": ListQueueBroker}
# Without a limit an idle worker breaks its connection every few seconds.
broker = KINDS[os.environ["BENCH_KIND"]](URL, socket_timeout=None)
broker = broker.with_result_backend(RedisAsyncResultBackend(URL))


@broker.task(task_name="nothing")
async def nothing() -> None:
    pass


async def submit(count: int) -> None:
    """The faster one of two ways: one after the other, or a hundred at once."""
    rates = []
    for at_once in (1, 100):
        start = time.perf_counter()
        for _ in range(count // at_once):
            await asyncio.gather(*(nothing.kiq() for _ in range(at_once)))
        rates.append(count / (time.perf_counter() - start))
    print(max(rates))


async def latency(count: int, interval: float) -> None:
    for _ in range(count):
        start = time.perf_counter()
        task = await nothing.kiq()
        await task.wait_result(check_interval=interval)
        print((time.perf_counter() - start) * 1000)


async def main() -> None:
    await broker.startup()
    if sys.argv[1] == "submit":
        await submit(int(sys.argv[2]))
    else:
        await latency(int(sys.argv[2]), float(sys.argv[3]))
    await broker.shutdown()


if __name__ == "__main__":
    asyncio.run(main())

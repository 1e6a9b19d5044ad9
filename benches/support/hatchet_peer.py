"""Hatchet's own worker and client for Python, measured beside ours: `worker`, or a word and a number.

bulk N     prints how many runs a second are started and awaited, N at once
latency N  prints the milliseconds of N runs, one after the other, from start to result
"""

import asyncio
import logging
import sys
import time

from hatchet_sdk import Context, EmptyModel, Hatchet

# The SDK has four lines for each run otherwise, which cost it a lot.
logging.disable(logging.INFO)
hatchet = Hatchet()


@hatchet.task(name="nothing")
async def nothing(input: EmptyModel, ctx: Context) -> dict[str, str]:
    return {}


async def bulk(count: int) -> None:
    start = time.perf_counter()
    runs = await nothing.aio_run_many([nothing.create_bulk_run_item() for _ in range(count)], wait_for_result=False)
    await asyncio.gather(*[run.aio_result() for run in runs])
    print(count / (time.perf_counter() - start))


async def latency(count: int) -> None:
    for _ in range(count):
        start = time.perf_counter()
        await nothing.aio_run()
        print((time.perf_counter() - start) * 1000)


if __name__ == "__main__":
    if sys.argv[1] == "worker":
        hatchet.worker("bench", slots=100, workflows=[nothing]).start()
    else:
        asyncio.run({"bulk": bulk, "latency": latency}[sys.argv[1]](int(sys.argv[2])))

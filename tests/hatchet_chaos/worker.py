"""The Python worker of the chaos run: it shares an engine with the Rust workers, and knows the same task."""

import asyncio
import logging
import os
import random
import time
from urllib.parse import urlparse

from hatchet_sdk import Context, EmptyModel, Hatchet

logging.disable(logging.INFO)
hatchet = Hatchet()
place = urlparse(os.environ["CHAOS_URL"])


async def note(*words: object) -> None:
    """Adds an entry to the journal, before the task does anything."""
    texts = [str(word).encode() for word in ("XADD", os.environ["CHAOS_JOURNAL"], "*", "id", random.getrandbits(63), *words)]
    while True:
        try:
            reader, writer = await asyncio.open_connection(place.hostname, place.port)
            try:
                writer.write(b"*%d\r\n" % len(texts) + b"".join(b"$%d\r\n%b\r\n" % (len(text), text) for text in texts))
                if (await reader.readline()).startswith(b"$"):
                    return
            finally:
                writer.close()
        except OSError:
            pass
        await asyncio.sleep(0.05)


# The Rust workers decide about attempts; for this one the engine does, up to the same end.
@hatchet.task(name="plain", retries=40)
async def plain(input: EmptyModel, ctx: Context) -> dict[str, int]:
    plan = input.model_dump()
    await note(
        *("task", ctx.workflow_run_id, "attempt", ctx.attempt_number, "who", "python"),
        *("at", time.time_ns() // 1000, "process", os.getpgrp()),
    )
    await asyncio.sleep(plan["millis"] / 1000)
    if ctx.attempt_number <= plan["failures"]:
        raise RuntimeError(f"{plan['number']} fails")
    return {"result": plan["number"] * 3 + 1}


if __name__ == "__main__":
    hatchet.worker("chaos-python", slots=20, workflows=[plain]).start()

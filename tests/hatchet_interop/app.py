"""The tasks of a Python worker, and the worker."""

import asyncio
import os
from datetime import timedelta
from pathlib import Path

from hatchet_sdk import Context, DurableContext, EmptyModel, Hatchet, NonRetryableException

hatchet = Hatchet()


def note(name, line):
    """Adds a line to what the test reads. Whole, also where several processes write."""
    with open(Path(os.environ["APP_NOTES"]) / name, "ab", buffering=0) as file:
        file.write(f"{line}\n".encode())


class OwnError(Exception):
    pass


@hatchet.task(name="py_echo")
async def echo(input: EmptyModel, ctx: Context) -> dict:
    return input.model_dump()


@hatchet.task(name="py_fail")
async def fail(input: EmptyModel, ctx: Context) -> dict:
    if input.how == "plain":
        raise ValueError("no such photo\nat all")
    if input.how == "for good":
        raise NonRetryableException("never")
    try:
        {}["missing"]
    except KeyError as error:
        raise OwnError("outer") from error


@hatchet.task(name="py_data")
async def data(input: EmptyModel, ctx: Context) -> dict:
    return {"metadata": ctx.additional_metadata, "attempt": ctx.attempt_number}


@hatchet.task(name="py_parent")
async def parent(input: EmptyModel, ctx: Context) -> dict:
    # The SDK gives the child the metadata of its parent.
    child = await hatchet.stubs.task(name="rust_data").aio_run()
    return {"child": child.model_dump(), "mine": sorted(ctx.additional_metadata)}


@hatchet.task(name="py_hold")
async def hold(input: EmptyModel, ctx: Context) -> dict:
    note(input.name, "started")
    try:
        await asyncio.sleep(120)
    except asyncio.CancelledError:
        note(input.name, "cancelled")
        raise
    return {}


@hatchet.task(name="py_double")
async def double(input: EmptyModel, ctx: Context) -> dict:
    return {"n": input.n * 2}


@hatchet.durable_task(name="py_durable")
async def durable(input: EmptyModel, ctx: DurableContext) -> dict:
    await ctx.aio_sleep_for(duration=timedelta(seconds=1))
    child = await hatchet.stubs.task(name="rust_durable").aio_run(EmptyModel(n=input.n))
    return {"child": child.model_dump(), "n": input.n + 1}


@hatchet.task(name="both_count")
async def count(input: EmptyModel, ctx: Context) -> dict:
    note(input.name, f"{input.n} python")
    return {"by": "python", "n": input.n}


@hatchet.task(name="py_noted")
async def noted(input: EmptyModel, ctx: Context) -> dict:
    note(input.name, input.n)
    return {"n": input.n}


if __name__ == "__main__":
    tasks = [echo, fail, data, parent, hold, double, durable, count, noted]
    hatchet.worker("interop", slots=100, durable_slots=20, workflows=tasks).start()

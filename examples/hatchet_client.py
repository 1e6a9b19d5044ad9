"""Calls the tasks of the Rust worker in hatchet.rs, as any client of Hatchet calls Python tasks."""

import asyncio

from hatchet_sdk import FailedTaskRunExceptionGroup, Hatchet
from pydantic import BaseModel, ConfigDict

hatchet = Hatchet()


class Arguments(BaseModel):
    model_config = ConfigDict(extra="allow")


# What a Rust task returns is found here, unless it is an object itself.
class Returned(BaseModel):
    result: str | int


async def show(task_name, **arguments):
    task = hatchet.stubs.task(name=task_name, input_validator=Arguments, output_validator=Returned)
    try:
        print(" ", (await task.aio_run(Arguments(**arguments))).result)
    except FailedTaskRunExceptionGroup as error:
        print(f"  {error.exceptions[0].exc}")


async def main():
    print("results:")
    await show("greet", name="Ada")
    await show("greet", name="Ada", word="Good morning")
    await show("orders-price", item="lamp", count=2)
    await show("succeed_at", attempt=2)
    print("errors:")
    await show("orders-price", item="lamp", count=0)


asyncio.run(main())

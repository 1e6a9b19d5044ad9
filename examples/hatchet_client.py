"""Calls the tasks of the Rust worker in hatchet.rs, as any client of Hatchet calls Python tasks."""

import asyncio

from hatchet_sdk import Hatchet

hatchet = Hatchet()


async def show(name, arguments):
    task = hatchet.stubs.task(name=name)
    try:
        print(" ", await task.aio_run(arguments))
    except Exception as error:
        print(f"  {str(error).splitlines()[0]}")


async def main():
    print("results:")
    await show("greet", {"name": "Ada"})
    await show("greet", {"name": "Ada", "word": "Good morning"})
    await show("orders-price", {"item": "lamp", "count": 2})
    await show("succeed_at", {"attempt": 2})
    print("errors:")
    await show("orders-price", {"item": "lamp", "count": 0})


asyncio.run(main())

"""A Python client: runs snippets that come in as lines of JSON, and answers with what they return."""

import asyncio
import json
import sys
import textwrap
import traceback

from hatchet_sdk import EmptyModel, Hatchet
from hatchet_sdk.exceptions import FailedTaskRunExceptionGroup

hatchet = Hatchet()


def of(name):
    """A task of which this client knows nothing but its name."""
    return hatchet.stubs.task(name=name)


async def outcome(name, input=None, **options):
    """All that a client learns from a run."""
    try:
        result = await of(name).aio_run(EmptyModel(**(input or {})), **options)
    except FailedTaskRunExceptionGroup as group:
        return {"raised": [[error.exc_type, error.exc, error.trace] for error in group.exceptions]}
    return {"returned": result.model_dump()}


async def answer(request):
    try:
        source = "async def snippet(args):\n" + textwrap.indent(textwrap.dedent(request["script"]), "    ")
        scope = dict(globals())
        exec(compile(source, "snippet", "exec"), scope)
        reply = {"returned": await scope["snippet"](request["args"])}
    except BaseException:
        reply = {"raised": traceback.format_exc()}
    print(json.dumps({"number": request["number"], **reply}), flush=True)


async def main():
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader(limit=2**26)
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    running = set()
    while line := await reader.readline():
        task = asyncio.ensure_future(answer(json.loads(line)))
        running.add(task)
        task.add_done_callback(running.discard)


asyncio.run(main())

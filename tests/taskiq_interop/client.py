"""A Python client: runs snippets that come in as lines of JSON, and answers with what they return."""

import asyncio
import json
import sys
import textwrap
import traceback

import app
from taskiq.kicker import AsyncKicker
from taskiq.task import AsyncTaskiqTask
from taskiq_pipelines import Pipeline

brokers = {}


async def broker_of(settings):
    key = json.dumps(settings)
    if key not in brokers:
        # Others that want the same one wait for the same start.
        brokers[key] = asyncio.ensure_future(started(settings))
    return await brokers[key]


async def started(settings):
    broker = app.make_broker(**settings)
    await broker.startup()
    return broker


def of(broker, name, **labels):
    """A task of which this client knows nothing but its name."""
    return AsyncKicker(task_name=name, broker=broker, labels=labels)


def shown(error):
    if error is None:
        return None
    kind = type(error)
    return {"module": kind.__module__, "type": kind.__name__, "text": str(error), "cause": shown(error.__cause__)}


async def outcome(task):
    """All that a client learns from a result."""
    result = await task.wait_result(check_interval=0.02, timeout=60)
    # What a Rust worker adds for Rust clients.
    result.labels.pop("_mageflow_run", None)
    try:
        result.raise_for_error()
        raised = None
    except Exception as error:
        raised = shown(error)
    return {"value": result.return_value, "is_err": result.is_err, "raised": raised, "labels": app.plain(result.labels),
            "time": result.execution_time, "log": result.log}


async def answer(request):
    try:
        source = "async def snippet(broker, args):\n" + textwrap.indent(textwrap.dedent(request["script"]), "    ")
        scope = dict(globals())
        exec(compile(source, "snippet", "exec"), scope)
        reply = {"returned": await scope["snippet"](await broker_of(request["broker"]), request["args"])}
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

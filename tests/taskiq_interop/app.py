"""Brokers of TaskIQ as the environment says, and the tasks of a Python worker."""

import asyncio
import os

import redis.asyncio
from taskiq import Context, SimpleRetryMiddleware, TaskiqDepends
from taskiq.depends.progress_tracker import ProgressTracker
from taskiq.serializers import JSONSerializer
from taskiq_pipelines import PipelineMiddleware
from taskiq_redis import ListQueueBroker, PubSubBroker, RedisAsyncResultBackend, RedisStreamBroker

URL = os.environ["REDIS_URL"]
KINDS = {"list": ListQueueBroker, "stream": RedisStreamBroker, "pubsub": PubSubBroker}


def make_broker(kind, queue, json_results=False):
    serializer = JSONSerializer() if json_results else None
    results = RedisAsyncResultBackend(URL, serializer=serializer)
    # By default redis-py gives up waiting after 5 s, and the worker dies of it.
    broker = KINDS[kind](URL, queue_name=queue, socket_timeout=None)
    return broker.with_result_backend(results).with_middlewares(SimpleRetryMiddleware(), PipelineMiddleware())


broker = make_broker(
    os.environ.get("APP_KIND", "list"), os.environ.get("APP_QUEUE", "nobody"), "APP_JSON_RESULTS" in os.environ
)


async def count(key):
    async with redis.asyncio.from_url(URL) as connection:
        return await connection.incr(key)


def plain(labels):
    """Labels as JSON has them."""
    return {name: {"bytes": list(value)} if isinstance(value, bytes) else value for name, value in labels.items()}


class OwnError(Exception):
    pass


@broker.task(task_name="py:echo")
async def echo(*args, **kwargs):
    return [list(args), kwargs]


@broker.task(task_name="py:fail")
async def fail(text):
    try:
        {}["missing"]
    except KeyError as error:
        raise OwnError(text, 2) from error


@broker.task(task_name="py:fail_plainly")
def fail_plainly(text):
    raise ValueError(text)


@broker.task(task_name="py:flaky")
async def flaky(key, fails, context: Context = TaskiqDepends()):
    if await count(key) <= fails:
        raise RuntimeError("not yet")
    return plain(context.message.labels)


@broker.task(task_name="py:labels")
async def labels(context: Context = TaskiqDepends()):
    return plain(context.message.labels)


@broker.task(task_name="py:sleep")
async def sleep(seconds):
    await asyncio.sleep(seconds)
    return "awake"


@broker.task(task_name="py:progress")
async def progress(tracker: ProgressTracker = TaskiqDepends()):
    await tracker.set_progress("half", {"done": 1})
    return (await tracker.get_progress()).meta


@broker.task(task_name="py:double")
def double(n):
    return n * 2


@broker.task(task_name="py:is_even")
async def is_even(n):
    return n % 2 == 0


@broker.task(task_name="py:add")
async def add(n, more=0):
    return n + more


@broker.task(task_name="py:range")
async def numbers(n):
    return list(range(n))


@broker.task(task_name="both:count")
async def count_run(prefix, n):
    # Who ran it, and how often it was run by anybody.
    await count(f"{prefix}:by:python")
    await asyncio.sleep(0.005)
    return await count(f"{prefix}:{n}")


@broker.task(task_name="py:slow_count")
async def slow_count(key, seconds):
    runs = await count(key)
    await asyncio.sleep(seconds)
    return runs

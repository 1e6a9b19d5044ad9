"""A Python client: runs snippets that come in as lines of JSON, and answers with what they return."""

import json
import sys
import textwrap
import threading
import time
import traceback
from concurrent.futures import ThreadPoolExecutor

import app as module
from app import app, connection
from celery import chain, chord, group
from celery.result import AsyncResult, GroupResult

lock = threading.Lock()


def sig(name, *args, **kwargs):
    return app.signature(name, args, kwargs)


def si(name, *args, **kwargs):
    return app.signature(name, args, kwargs, immutable=True)


class Both:
    """Tasks by the language that runs them: `p.add(1)`, `r.add(1)`."""

    def __init__(self, prefix):
        self.prefix = prefix

    def __getattr__(self, name):
        return lambda *args, **kwargs: sig(f"{self.prefix}.{name}", *args, **kwargs)


p, r = Both("py"), Both("rust")


def get(result, timeout=40):
    return result.get(timeout=timeout)


def raised(result, timeout=40):
    """The exception that a result raises, as data."""
    try:
        return {"returned": result.get(timeout=timeout)}
    except Exception as error:
        kind = type(error)
        return {"module": kind.__module__, "type": kind.__name__, "args": json.loads(json.dumps(error.args, default=str)),
                "is": [base.__name__ for base in kind.__mro__]}


def stored(result, timeout=40):
    """Which exception is stored of a task, and its arguments: `get` would raise that of a parent first."""
    deadline = time.time() + timeout
    while not app.backend.get_task_meta(result.id)["status"] in ("SUCCESS", "FAILURE", "REVOKED"):
        assert time.time() < deadline, f"{result.id} has not ended"
        time.sleep(0.02)
    error = app.backend.get_task_meta(result.id)["result"]
    return type(error).__name__, list(getattr(error, "args", []))


def noted(key, count=1, timeout=30):
    """What tasks have left under a key, once there is so much of it."""
    deadline = time.time() + timeout
    while connection.llen(key) < count:
        assert time.time() < deadline, f"only {connection.lrange(key, 0, -1)} in {key}"
        time.sleep(0.02)
    return [entry.decode() for entry in connection.lrange(key, 0, -1)]


def answer(request):
    try:
        source = "def snippet(args):\n" + textwrap.indent(textwrap.dedent(request["script"]), "    ")
        scope = dict(globals())
        exec(compile(source, "snippet", "exec"), scope)
        reply = {"returned": scope["snippet"](request["args"])}
        text = json.dumps({"number": request["number"], **reply})
    except BaseException:
        text = json.dumps({"number": request["number"], "raised": traceback.format_exc()})
    with lock:
        print(text, flush=True)


with ThreadPoolExecutor(16) as pool:
    for line in sys.stdin:
        pool.submit(answer, json.loads(line))

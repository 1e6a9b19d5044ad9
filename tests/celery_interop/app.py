"""A Celery app as the environment says, and the tasks of its Python worker."""

import datetime
import decimal
import os
import time
import uuid

import redis
from celery import Celery, chord
from celery.exceptions import Ignore

URL = os.environ["REDIS_URL"]
PYTHON, RUST = os.environ["PYTHON_QUEUE"], os.environ["RUST_QUEUE"]

app = Celery("interop", broker=URL, backend=URL)
app.conf.update(
    task_default_queue=PYTHON,
    task_routes={"rust.*": {"queue": RUST}, "py.*": {"queue": PYTHON}},
    broker_connection_retry_on_startup=True,
    result_extended="EXTENDED" in os.environ,
    worker_prefetch_multiplier=1,
    beat_schedule={"beat": {"task": "rust.note", "schedule": 1.0, "args": ["beat", os.environ.get("BEAT", "")]}},
)
# Threads of the client take it too.
app.set_default()
connection = redis.from_url(URL)


class OwnError(Exception):
    pass


@app.task(name="py.add")
def add(x, y):
    return x + y


@app.task(name="py.mul")
def mul(x, y):
    return x * y


@app.task(name="py.xsum")
def xsum(numbers):
    return sum(numbers)


@app.task(name="py.echo")
def echo(*args, **kwargs):
    return [list(args), kwargs]


@app.task(name="py.same")
def same(x):
    return x


@app.task(name="py.const")
def const():
    return 7


@app.task(name="py.fail")
def fail(*args):
    raise OwnError("no", 2)


@app.task(name="py.value_error")
def value_error(*args):
    raise ValueError(*args)


@app.task(name="py.note")
def note(*args):
    connection.rpush(args[-1], repr(list(args[:-1])))
    return args[0]


@app.task(name="py.err_old")
def err_old(task_id):
    connection.rpush("err:" + task_id, "py")


@app.task(name="py.err_new")
def err_new(request, error, traceback):
    connection.rpush("err_new:" + request.id, repr(error))


@app.task(name="py.flaky", bind=True, max_retries=5)
def flaky(self, key, fails):
    if connection.incr(key) <= fails:
        raise self.retry(exc=OwnError("not yet"), countdown=0)
    return self.request.retries


@app.task(name="py.sleep", acks_late=True)
def sleep(seconds):
    time.sleep(seconds)
    return "awake"


@app.task(name="py.progress", bind=True)
def progress(self, key):
    self.update_state(state="PROGRESS", meta={"done": 1})
    connection.blpop(key, 30)
    return "done"


@app.task(name="py.types")
def types():
    return [
        datetime.datetime(2020, 1, 2, 3, 4, 5, 6, tzinfo=datetime.timezone.utc), datetime.date(2020, 1, 2),
        datetime.time(1, 2), decimal.Decimal("1.50"), uuid.UUID(int=5), b"hi", b"\xff",
    ]


@app.task(name="py.ignored")
def ignored():
    raise Ignore()


@app.task(name="py.request", bind=True)
def request(self, *args):
    r = self.request
    return {"id": r.id, "root_id": r.root_id, "parent_id": r.parent_id, "group": r.group, "retries": r.retries,
            "headers": r.headers, "stamps": r.stamps, "timelimit": r.timelimit, "priority": r.delivery_info["priority"]}


@app.task(name="py.replaced", bind=True)
def replaced(self, x):
    raise self.replace(app.signature("rust.add", (x, 1)))


@app.task(name="py.replaced_by_chain", bind=True)
def replaced_by_chain(self, x):
    raise self.replace(app.signature("rust.add", (x, 1)) | app.signature("py.mul", (2,)))


@app.task(name="py.replaced_by_chord", bind=True)
def replaced_by_chord(self, x):
    header = [app.signature("rust.add", (x, 1)), app.signature("py.add", (x, 2))]
    raise self.replace(chord(header, app.signature("rust.xsum")))


@app.task(name="both.count")
def count(prefix, number):
    connection.incr(prefix + ":by:python")
    time.sleep(0.002)
    return connection.incr(f"{prefix}:{number}")

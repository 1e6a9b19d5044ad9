"""Calls the tasks of the Rust worker in celery.rs, as any Celery client calls Python tasks."""

import os

from celery import Celery, chain, chord, signature

URL = os.environ.get("REDIS_URL", "redis://localhost:6379")
app = Celery("client", broker=URL, backend=URL)
app.conf.task_routes = {"rust.*": {"queue": "rust"}}


def task(name, *args, **kwargs):
    return signature(f"rust.{name}", args, kwargs, app=app)


def show(result):
    try:
        print(" ", result.get(timeout=30))
    except Exception as error:
        print(f"  {type(error).__name__}: {error}")


print("results:")
show(task("greet", "Ada").delay())
show(task("greet", "Ada", word="Good morning").delay())
show(task("price", {"item": "lamp", "count": 2}).delay())
print("errors:")
show(task("price", {"item": "lamp", "count": 0}).delay())
show(task("price", {"item": "lamp"}).delay())
show(task("nobody").delay())
print("retries:")
show(task("succeed_at", 3).delay())
show(task("succeed_at", 4).delay())
print("canvas:")
show(chain(task("greet", "Ada"), task("greet", word="Again")).delay())
show(chord([task("price", {"item": "lamp", "count": count}) for count in (1, 2, 3)], task("total")).delay())

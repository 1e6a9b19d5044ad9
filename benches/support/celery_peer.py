"""Celery's own worker and client, measured beside ours: `celery -A celery_peer worker`, or a word and a number.

submit N   prints how many messages a second one client sends
latency N  prints the milliseconds of N tasks from sending to result
chord N    prints the seconds of a chord of N tasks from sending to result
"""

import os
import sys
import time

from celery import Celery, chord

URL = os.environ["BENCH_URL"]
app = Celery("bench", broker=URL, backend=URL)
app.conf.worker_send_task_events = False


@app.task(name="nothing")
def nothing():
    pass


@app.task(name="count")
def count(results):
    return len(results)


def main():
    word, number = sys.argv[1], int(sys.argv[2])
    if word == "submit":
        start = time.perf_counter()
        for _ in range(number):
            nothing.delay()
        print(number / (time.perf_counter() - start))
    elif word == "latency":
        for _ in range(number):
            start = time.perf_counter()
            nothing.delay().get(timeout=60)
            print((time.perf_counter() - start) * 1000)
    else:
        start = time.perf_counter()
        assert chord([nothing.s() for _ in range(number)], count.s()).delay().get(timeout=120) == number
        print(time.perf_counter() - start)


if __name__ == "__main__":
    main()

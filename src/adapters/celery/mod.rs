//! L2, Celery engine: tasks of `celery`, shared with Python workers and clients.
// What reads and writes it comes with the worker.
#![allow(dead_code)]

mod wire;

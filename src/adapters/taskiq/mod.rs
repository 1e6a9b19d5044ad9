//! L2, TaskIQ. Speaks the language of a Python TaskIQ installation over Redis.

#[expect(dead_code, reason = "the broker and the worker, which use it, are not there yet")]
mod wire;

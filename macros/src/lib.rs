//! The attribute macros of mageflow.

//! End-to-end scenarios against real processes.

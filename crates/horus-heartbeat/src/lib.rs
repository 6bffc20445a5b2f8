//! What a supervised Rust program links: beat endpoint, loop tick, progress counters, sd_notify

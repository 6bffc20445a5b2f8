//! watchdog.toml: parsed with spans, checked whole, turned into a plan

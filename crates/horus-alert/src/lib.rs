//! Incidents become messages, messages reach sinks

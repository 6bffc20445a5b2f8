//! The senses: probes that yield observations, never decisions

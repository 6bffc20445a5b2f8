//! SQLite: journal, incidents, alert outbox

-- Version 1. The rule "one publication per slot" stands here as a unique index, not only in the code above it.
CREATE TABLE slot (
    start_s   INTEGER PRIMARY KEY,              -- seconds since 1970
    outcome   TEXT NOT NULL CHECK (outcome IN ('open', 'published', 'adopted', 'empty')),
    reason    TEXT
) STRICT;

CREATE TABLE item (
    run_id      TEXT PRIMARY KEY,
    slot_s      INTEGER NOT NULL,
    title       TEXT NOT NULL,
    state       TEXT NOT NULL CHECK (state IN ('queued', 'researched', 'drafted', 'validated', 'staged', 'published', 'quarantined')),
    topic       TEXT,                           -- JSON; the inputs as they were when the slot opened
    digest      TEXT NOT NULL,                  -- of the topic
    research    TEXT,                           -- JSON, from `researched` on
    draft       TEXT,                           -- JSON, from `drafted` on
    slug        TEXT,                           -- from `validated` on
    markdown    TEXT,                           -- from `validated` on
    html        TEXT,                           -- from `staged` on
    reason      TEXT,                           -- why it is quarantined
    changed_ms  INTEGER NOT NULL
) STRICT;
CREATE UNIQUE INDEX one_item_per_slot ON item (slot_s) WHERE state <> 'quarantined';
CREATE UNIQUE INDEX one_item_per_slug ON item (slug) WHERE slug IS NOT NULL AND state <> 'quarantined';
CREATE INDEX item_by_state ON item (state, slot_s);

-- What is about to be done to the output folder. Written before, so that a crash leaves a trace of the attempt.
CREATE TABLE intent (
    run_id   TEXT PRIMARY KEY REFERENCES item (run_id) ON DELETE CASCADE,
    slot_s   INTEGER NOT NULL UNIQUE,
    made_ms  INTEGER NOT NULL
) STRICT;

CREATE TABLE missed (
    first_s     INTEGER PRIMARY KEY,
    last_s      INTEGER NOT NULL,
    slots       INTEGER NOT NULL,
    reason      TEXT NOT NULL,
    noticed_ms  INTEGER NOT NULL
) STRICT;

CREATE TABLE rotation (
    only   INTEGER PRIMARY KEY CHECK (only = 1),
    taken  INTEGER NOT NULL                     -- how many topics the rotation has handed out
) STRICT;
INSERT INTO rotation VALUES (1, 0);

-- What is wrong now, as those who are told know it. `seen`: when it was first found. `told`: when a message of it was made; null
-- while it is not told yet. `gone`: since when it is not found any more; null while it is.
CREATE TABLE notify_problems (
    code    TEXT NOT NULL,
    subject TEXT NOT NULL,
    name    TEXT NOT NULL,
    detail  TEXT,
    since   TEXT NOT NULL,
    seen    TEXT NOT NULL,
    told    TEXT,
    gone    TEXT,
    PRIMARY KEY (code, subject)
);
-- When a message about problems of one kind was last made.
CREATE TABLE notify_codes (
    code TEXT NOT NULL PRIMARY KEY,
    told TEXT NOT NULL
);
-- Messages on their way, one row for each way that one is sent. A row goes when the message was taken, or is given up.
CREATE TABLE notify_outbox (
    seq        INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    id         TEXT    NOT NULL,
    channel    TEXT    NOT NULL,
    event      TEXT    NOT NULL,
    body       TEXT    NOT NULL,
    made       TEXT    NOT NULL,
    tries      BIGINT  NOT NULL,
    not_before TEXT,
    last_error TEXT
);
CREATE INDEX notify_outbox_by_channel ON notify_outbox (channel, seq);

-- What is to be done, is being done and was done lately. A row that is claimed belongs to the process that it names; where that
-- process is no more, the row is queued again.
CREATE TABLE jobs (
    id            INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    kind          TEXT    NOT NULL,
    volume        TEXT,
    version       TEXT,
    detail        TEXT    NOT NULL,
    cause         TEXT    NOT NULL,
    actor         TEXT    NOT NULL,
    -- The larger one goes first; among equals the smaller rank, then the smaller id.
    priority      BIGINT  NOT NULL,
    rank          TEXT    NOT NULL,
    -- Where it would be read: what the caps hold for. None: only the cap of all holds.
    host          TEXT,
    datastore     TEXT,
    state         TEXT    NOT NULL,
    not_before    TEXT,
    tries         BIGINT  NOT NULL,
    created       TEXT    NOT NULL,
    started       TEXT,
    ended         TEXT,
    process       TEXT,
    cancel_wanted BOOLEAN NOT NULL,
    outcome       TEXT,
    error_code    TEXT,
    error_text    TEXT,
    result        TEXT
);
CREATE INDEX jobs_queued ON jobs (priority DESC, rank, id) WHERE state = 'queued';
CREATE INDEX jobs_by_state ON jobs (state);
CREATE INDEX jobs_waiting_by_volume ON jobs (volume) WHERE state IN ('queued', 'running');
CREATE INDEX jobs_by_volume ON jobs (volume, id);
CREATE INDEX jobs_by_end ON jobs (ended) WHERE ended IS NOT NULL;

-- What the service does not begin by itself: the volume of this id, or everything (`*`).
CREATE TABLE pauses (
    subject TEXT NOT NULL PRIMARY KEY,
    since   TEXT NOT NULL,
    actor   TEXT NOT NULL
);

-- Times are RFC 3339 in UTC with nine digits of fraction, so that their order is the order of the texts.
-- Types are those that SQLite and PostgreSQL both know.

CREATE TABLE meta (
    key   TEXT NOT NULL PRIMARY KEY,
    value TEXT NOT NULL
);

-- Rows of volumes are never deleted.
CREATE TABLE volumes (
    id              TEXT    NOT NULL PRIMARY KEY,
    kind            TEXT    NOT NULL,
    stem            TEXT    NOT NULL,
    name            TEXT    NOT NULL,
    owner_name      TEXT,
    owner_sid       TEXT,
    owner_upn       TEXT,
    guid            TEXT,
    generation      BIGINT  NOT NULL CHECK (generation >= 1),
    size_bytes      BIGINT,
    state           TEXT    NOT NULL,
    attached        BOOLEAN,
    protectable     BOOLEAN NOT NULL,
    reason_code     TEXT,
    reason_text     TEXT,
    remedy          TEXT,
    first_seen      TEXT    NOT NULL,
    last_seen       TEXT,
    gone_since      TEXT,
    deferred_since  TEXT,
    -- What the attempts of the current generation came to; the rows of old attempts may be trimmed.
    last_attempt    TEXT,
    last_success    TEXT,
    last_error_code TEXT,
    last_error_text TEXT
);

CREATE TABLE locations (
    site        TEXT    NOT NULL,
    datastore   TEXT    NOT NULL,
    path        TEXT    NOT NULL,
    volume      TEXT    NOT NULL REFERENCES volumes (id),
    type        TEXT,
    reachable   BOOLEAN NOT NULL,
    fingerprint TEXT,
    settled     BOOLEAN NOT NULL,
    seen_at     TEXT    NOT NULL,
    gone_since  TEXT,
    PRIMARY KEY (site, datastore, path)
);
CREATE INDEX locations_by_volume ON locations (volume);

CREATE TABLE versions (
    volume        TEXT    NOT NULL REFERENCES volumes (id),
    seq           BIGINT  NOT NULL,
    version       TEXT    NOT NULL,
    generation    BIGINT  NOT NULL,
    created       TEXT    NOT NULL,
    bytes         BIGINT  NOT NULL,
    stored        BIGINT  NOT NULL,
    verified      BOOLEAN NOT NULL,
    verify_method TEXT    NOT NULL,
    pinned        BOOLEAN NOT NULL,
    damaged       TEXT,
    last_verified TEXT,
    route         TEXT    NOT NULL,
    incident      TEXT,
    PRIMARY KEY (volume, seq),
    UNIQUE (volume, version)
);

-- A baseline says that a location's content equals a version; it goes with the version.
CREATE TABLE baselines (
    volume      TEXT    NOT NULL,
    site        TEXT    NOT NULL,
    datastore   TEXT    NOT NULL,
    path        TEXT    NOT NULL,
    fingerprint TEXT    NOT NULL,
    version     TEXT    NOT NULL,
    settled     BOOLEAN NOT NULL,
    set_at      TEXT    NOT NULL,
    PRIMARY KEY (volume, site, datastore, path),
    FOREIGN KEY (volume, version) REFERENCES versions (volume, version) ON DELETE CASCADE
);
CREATE INDEX baselines_by_version ON baselines (volume, version);

CREATE TABLE attempts (
    id            INTEGER NOT NULL PRIMARY KEY,
    volume        TEXT    NOT NULL REFERENCES volumes (id),
    generation    BIGINT  NOT NULL,
    route         TEXT    NOT NULL,
    cause         TEXT    NOT NULL,
    process       TEXT    NOT NULL,
    started       TEXT    NOT NULL,
    ended         TEXT,
    outcome       TEXT,
    version       TEXT,
    error_code    TEXT,
    error_text    TEXT,
    logical_bytes BIGINT,
    read_bytes    BIGINT,
    zero_bytes    BIGINT,
    wire_bytes    BIGINT,
    stored_bytes  BIGINT,
    millis        BIGINT
);
CREATE INDEX attempts_by_volume ON attempts (volume, id);
CREATE INDEX attempts_open ON attempts (id) WHERE ended IS NULL;
CREATE INDEX attempts_by_end ON attempts (ended) WHERE ended IS NOT NULL;

-- A released lease keeps its row, so that its fencing number only grows.
CREATE TABLE leases (
    name       TEXT    NOT NULL PRIMARY KEY,
    fence      BIGINT  NOT NULL,
    holder     TEXT    NOT NULL,
    process    TEXT    NOT NULL,
    since      TEXT    NOT NULL,
    expires    TEXT    NOT NULL,
    released   BOOLEAN NOT NULL
);

-- Public names only. There is no column that a secret could be put into.
CREATE TABLE credentials (
    name      TEXT    NOT NULL PRIMARY KEY,
    volume    TEXT    NOT NULL,
    file      TEXT    NOT NULL,
    route     TEXT    NOT NULL,
    host      TEXT    NOT NULL,
    direction TEXT    NOT NULL,
    standing  BOOLEAN NOT NULL,
    issued    TEXT    NOT NULL,
    expires   TEXT    NOT NULL,
    used      TEXT,
    refusals  BIGINT  NOT NULL DEFAULT 0,
    ended     TEXT,
    ending    TEXT
);
CREATE INDEX credentials_open ON credentials (issued) WHERE ended IS NULL;
CREATE INDEX credentials_by_end ON credentials (ended) WHERE ended IS NOT NULL;

CREATE TABLE audit (
    id      INTEGER NOT NULL PRIMARY KEY,
    at      TEXT    NOT NULL,
    action  TEXT    NOT NULL,
    actor   TEXT    NOT NULL,
    subject TEXT    NOT NULL,
    detail  TEXT    NOT NULL,
    digest  TEXT    NOT NULL
);
CREATE TRIGGER audit_is_never_changed BEFORE UPDATE ON audit
BEGIN
    SELECT RAISE(ABORT, 'audit records are never changed');
END;
CREATE TRIGGER audit_is_never_deleted BEFORE DELETE ON audit
BEGIN
    SELECT RAISE(ABORT, 'audit records are never deleted');
END;

CREATE TABLE descriptors (
    site      TEXT   NOT NULL,
    datastore TEXT   NOT NULL,
    path      TEXT   NOT NULL,
    bytes     BIGINT NOT NULL,
    mtime     TEXT   NOT NULL,
    content   BLOB   NOT NULL,
    PRIMARY KEY (site, datastore, path)
);

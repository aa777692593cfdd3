-- What was changed at another system for the time of a copy, and has to be put back there: written before the change is made,
-- deleted after it was undone.
CREATE TABLE owed (
    id      INTEGER NOT NULL PRIMARY KEY,
    what    TEXT    NOT NULL,
    system  TEXT    NOT NULL,
    subject TEXT    NOT NULL,
    detail  TEXT    NOT NULL,
    process TEXT    NOT NULL,
    since   TEXT    NOT NULL
);
CREATE INDEX owed_by_subject ON owed (what, system, subject);

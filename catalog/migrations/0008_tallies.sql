-- What is counted of the versions of each life of a volume. Monitoring and the console ask for it every few seconds, and to
-- count a site's versions anew each time costs as much as there are versions.
--
-- Kept by the triggers below, in the transaction that changes a version: whoever writes, it is right when that is committed.
CREATE TABLE tallies (
    volume            TEXT   NOT NULL,
    generation        BIGINT NOT NULL,
    versions          BIGINT NOT NULL,
    good              BIGINT NOT NULL,
    damaged           BIGINT NOT NULL,
    incidents         BIGINT NOT NULL,
    -- Not known to be damaged, and no disk when they were last opened as one.
    unusable          BIGINT NOT NULL,
    bytes             BIGINT NOT NULL,
    stored            BIGINT NOT NULL,
    -- Of those that are good: the latest made, the largest number, the last one read back, the one proved longest ago.
    newest_good       TEXT,
    newest_good_seq   BIGINT,
    last_verified     TEXT,
    oldest_proof      TEXT,
    -- Of all: the last one opened as a disk, and the last one that was one.
    last_tested       TEXT,
    last_restore_test TEXT,
    PRIMARY KEY (volume, generation)
);

-- The rule by which they are counted.
CREATE VIEW tallied AS
SELECT volume, generation, COUNT(*) AS versions,
    COUNT(CASE WHEN damaged IS NULL THEN 1 END) AS good,
    COUNT(damaged) AS damaged,
    COUNT(incident) AS incidents,
    COUNT(CASE WHEN damaged IS NULL AND NOT restore_test_ok THEN 1 END) AS unusable,
    SUM(bytes) AS bytes,
    SUM(stored) AS stored,
    MAX(CASE WHEN damaged IS NULL THEN created END) AS newest_good,
    MAX(CASE WHEN damaged IS NULL THEN seq END) AS newest_good_seq,
    MAX(CASE WHEN damaged IS NULL THEN last_verified END) AS last_verified,
    MIN(CASE WHEN damaged IS NULL THEN COALESCE(last_verified, created) END) AS oldest_proof,
    MAX(restore_tested) AS last_tested,
    MAX(CASE WHEN restore_test_ok THEN restore_tested END) AS last_restore_test
FROM versions GROUP BY volume, generation;

INSERT INTO tallies SELECT * FROM tallied;

-- A transaction that changes many versions puts the key `tally_later` into `meta`, counts at its end, and takes the key away.
CREATE TRIGGER versions_added_are_tallied AFTER INSERT ON versions
WHEN NOT EXISTS (SELECT 1 FROM meta WHERE key = 'tally_later')
BEGIN
    DELETE FROM tallies WHERE volume = NEW.volume;
    INSERT INTO tallies SELECT * FROM tallied WHERE volume = NEW.volume;
END;
CREATE TRIGGER versions_deleted_are_tallied AFTER DELETE ON versions
WHEN NOT EXISTS (SELECT 1 FROM meta WHERE key = 'tally_later')
BEGIN
    DELETE FROM tallies WHERE volume = OLD.volume;
    INSERT INTO tallies SELECT * FROM tallied WHERE volume = OLD.volume;
END;
CREATE TRIGGER versions_changed_are_tallied AFTER UPDATE ON versions
WHEN NOT EXISTS (SELECT 1 FROM meta WHERE key = 'tally_later')
BEGIN
    DELETE FROM tallies WHERE volume IN (OLD.volume, NEW.volume);
    INSERT INTO tallies SELECT * FROM tallied WHERE volume IN (OLD.volume, NEW.volume);
END;

-- Who waits longest to be read back, and the few versions that are incidents.
CREATE INDEX versions_by_proof ON versions (COALESCE(last_verified, created), volume, seq) WHERE damaged IS NULL;
CREATE INDEX versions_with_incidents ON versions (volume, seq) WHERE incident IS NOT NULL;

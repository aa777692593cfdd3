-- Since when a version is being deleted: written before the vault deletes it, gone with the row. A row that is left with it, and
-- whose version the vault does not have, tells of a deletion that was cut short, and of no loss.
ALTER TABLE versions ADD COLUMN deleting TEXT;
-- The last time that the version was opened as a disk, and what was found.
ALTER TABLE versions ADD COLUMN restore_tested TEXT;
ALTER TABLE versions ADD COLUMN restore_test_ok BOOLEAN;
ALTER TABLE versions ADD COLUMN restore_test_found TEXT;

-- When a round last found that nothing changed at the source since a committed version: by what its files look like, nothing was
-- read. `last_success` stays what copies and comparisons of contents say.
ALTER TABLE volumes ADD COLUMN confirmed TEXT;

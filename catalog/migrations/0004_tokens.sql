-- Tokens for the API. Only the digest of a token's secret is here: whoever reads this table can't call the API with it.
CREATE TABLE tokens (
    id        TEXT NOT NULL PRIMARY KEY,
    name      TEXT NOT NULL,
    role      TEXT NOT NULL,
    digest    TEXT NOT NULL,
    created   TEXT NOT NULL,
    last_used TEXT,
    revoked   TEXT
);
-- A name can be given again once its token was taken back.
CREATE UNIQUE INDEX tokens_by_name ON tokens (name) WHERE revoked IS NULL;

-- What reading a damaged version back found, as the program that read it wrote it down: gone when the version is found whole.
CREATE TABLE damages (
    volume  TEXT NOT NULL,
    version TEXT NOT NULL,
    found   TEXT NOT NULL,
    PRIMARY KEY (volume, version),
    FOREIGN KEY (volume, version) REFERENCES versions (volume, version) ON DELETE CASCADE
);

-- What the disk of a version holds: `healthy`, `not_looked_into`, `not_recognised` or `damaged`, and a sentence for a person.
ALTER TABLE versions ADD COLUMN content TEXT;
ALTER TABLE versions ADD COLUMN content_text TEXT;

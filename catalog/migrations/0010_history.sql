-- The audit's oldest records go when their time is over: those up to the number that `meta` holds under `audit_anchor`, with
-- the digest that the chain of the others begins with. No other record is ever deleted.
DROP TRIGGER audit_is_never_deleted;
CREATE TRIGGER audit_is_never_deleted BEFORE DELETE ON audit
WHEN OLD.id > COALESCE((SELECT CAST(substr(value, 1, instr(value, ' ') - 1) AS BIGINT) FROM meta WHERE key = 'audit_anchor'), 0)
BEGIN
    SELECT RAISE(ABORT, 'audit records are never deleted');
END;

-- Roles for a ledger in PostgreSQL, of which each has no more rights than it needs; see scaling.md.
-- Once, in the ledger's database, as who may create roles. Give each a way to log in: a password
-- (\password bulkmail_worker), or a line in pg_hba.conf. Then: bulkmail migrate, bulkmail-rights.sql

CREATE ROLE bulkmail_owner LOGIN;    -- makes the tables and brings them up to date
CREATE ROLE bulkmail_planner LOGIN;  -- run, retry, settle, pause, cancel, suppress; may also send
CREATE ROLE bulkmail_worker LOGIN;   -- worker
CREATE ROLE bulkmail_reader LOGIN;   -- status, report, check, suppress list

DO $$ BEGIN
    EXECUTE format('GRANT CREATE ON DATABASE %I TO bulkmail_owner', current_database());
END $$;

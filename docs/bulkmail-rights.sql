-- What the roles of bulkmail-roles.sql may do; see scaling.md. After `bulkmail migrate`, each time, as
-- bulkmail_owner.

GRANT USAGE ON SCHEMA bulkmail TO bulkmail_planner, bulkmail_worker, bulkmail_reader;
SET search_path TO bulkmail;

GRANT SELECT ON version, campaign, content, recipient, event, run, worker, shard, granted,
    suppression, pgqueuer TO bulkmail_reader;

-- What was accepted, refused or in doubt, its own lease, and the queue. It cannot add, remove or
-- address anybody, change what is sent, or read the suppression list.
GRANT SELECT ON version, campaign, content, shared_file, recipient, event, run, worker, shard,
    granted TO bulkmail_worker;
GRANT UPDATE (is_open, stopped_for) ON campaign TO bulkmail_worker;
GRANT UPDATE (state, reason, attempts, content_id, in_doubt_events, consented, first_attempt_at,
    last_attempt_at, due_at, phase, reply, message_id) ON recipient TO bulkmail_worker;
GRANT INSERT ON event TO bulkmail_worker;
GRANT UPDATE (ended_at) ON run TO bulkmail_worker;
GRANT INSERT, UPDATE (lease_until, left_for), DELETE ON worker TO bulkmail_worker;
GRANT UPDATE (epoch, worker_id, people), DELETE ON shard TO bulkmail_worker;
GRANT INSERT, UPDATE, DELETE ON granted TO bulkmail_worker;

-- What the rates of all workers reserve.
GRANT SELECT, INSERT, UPDATE, DELETE ON slot, reserved TO bulkmail_planner, bulkmail_worker;

-- It adds people and contents, decides about people, and leaves what happened as it is. (UPDATE of
-- the suppression list is what its lock asks for.)
GRANT SELECT ON version TO bulkmail_planner;
GRANT SELECT, INSERT ON content, shared_file, event TO bulkmail_planner;
GRANT SELECT, INSERT, UPDATE ON campaign, run TO bulkmail_planner;
GRANT SELECT, INSERT, UPDATE, DELETE ON recipient, shard, worker, granted, suppression
    TO bulkmail_planner;

-- The engine's tables.
GRANT SELECT, INSERT, UPDATE, DELETE ON pgqueuer TO bulkmail_planner, bulkmail_worker;
-- It folds its log into its statistics now and then, and looks whether the schedules are there.
GRANT SELECT, INSERT, UPDATE, DELETE ON pgqueuer_log, pgqueuer_statistics
    TO bulkmail_planner, bulkmail_worker;
GRANT SELECT ON pgqueuer_schedules TO bulkmail_planner, bulkmail_worker;
GRANT USAGE ON SEQUENCE pgqueuer_id_seq, pgqueuer_log_id_seq, pgqueuer_statistics_id_seq
    TO bulkmail_planner, bulkmail_worker;

-- What PostgreSQL itself says that its roles may do, one JSON object. Members of roles are asked about, so what they have by
-- way of a role, of PUBLIC or of their own is all there.
WITH ledger (name) AS (
    SELECT oid FROM pg_class
     WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p', 'v')
       AND relname ~ '^((requests|responses|usages)(_default|_p[0-9]+)?|exchanges|spend|slowest|errors|ledger_alembic_version)$'
), litellm (name) AS (
    SELECT oid FROM pg_class
     WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p', 'v')
       AND oid NOT IN (SELECT name FROM ledger) AND relname !~ '^(_prisma_migrations|pg_stat_statements)'
), logins (login, membership) AS (
    SELECT member::regrole, roleid::regrole::text FROM pg_auth_members WHERE roleid >= 16384
), kinds (login, kind) AS (
    -- By what they may do, not by their names.
    SELECT login, CASE WHEN has_table_privilege(login, 'requests', 'INSERT') THEN 'ledger'
                       WHEN has_table_privilege(login, 'requests', 'SELECT') THEN 'reader'
                       ELSE 'application' END
      FROM logins
)
SELECT json_build_object(
    'logins', (SELECT json_agg(rolname ORDER BY rolname) FROM pg_roles WHERE rolcanlogin),
    'superusers', (SELECT json_agg(rolname) FROM pg_roles WHERE rolsuper),
    'public', (SELECT coalesce(json_agg(DISTINCT name), '[]') FROM (
        SELECT oid::regclass::text, relacl FROM pg_class WHERE relnamespace IN (to_regnamespace('public'), to_regnamespace('partman'))
        UNION ALL
        SELECT oid::regprocedure::text, coalesce(proacl, acldefault('f', proowner)) FROM pg_proc
         WHERE pronamespace IN (to_regnamespace('public'), to_regnamespace('partman'))
        UNION ALL
        SELECT nspname, nspacl FROM pg_namespace WHERE nspname IN ('public', 'partman')
        UNION ALL
        SELECT datname, coalesce(datacl, acldefault('d', datdba)) FROM pg_database WHERE datname = current_database()
    ) AS objects (name, acl), aclexplode(acl) AS granted WHERE granted.grantee = 0),
    'application', (SELECT coalesce(json_agg(DISTINCT name::regclass::text), '[]') FROM ledger, kinds
                     WHERE kind = 'application'
                       AND (has_any_column_privilege(login, name, 'SELECT, INSERT, UPDATE') OR has_table_privilege(login, name, 'DELETE, TRUNCATE'))),
    'ledger', (SELECT coalesce(json_agg(DISTINCT name::regclass::text), '[]')
                 FROM kinds, (SELECT name, 'SELECT, UPDATE, DELETE, TRUNCATE' FROM ledger
                              UNION ALL SELECT name, 'SELECT, INSERT, UPDATE, DELETE, TRUNCATE' FROM litellm) AS tables (name, rights)
                WHERE kind = 'ledger'
                  AND (has_table_privilege(login, name, rights)
                       OR EXISTS (SELECT FROM pg_attribute WHERE attrelid = name AND attname ~ '^body' AND NOT attisdropped
                                                             AND has_column_privilege(login, name, attnum, 'SELECT')))),
    'reader', (SELECT coalesce(json_agg(DISTINCT name::regclass::text), '[]') FROM kinds, (
                   SELECT name, 'INSERT, UPDATE, DELETE, TRUNCATE' FROM ledger
                   UNION ALL SELECT name, 'SELECT, INSERT, UPDATE, DELETE, TRUNCATE' FROM litellm) AS tables (name, rights)
                WHERE kind = 'reader' AND (has_table_privilege(login, name, rights) OR has_any_column_privilege(login, name, 'INSERT, UPDATE'))),
    'removers', (SELECT coalesce(json_agg(DISTINCT login::text), '[]') FROM logins, pg_proc
                  WHERE pronamespace = 'public'::regnamespace AND proname IN ('make_days', 'drop_days', 'forget_end_user')
                    AND has_function_privilege(login, pg_proc.oid, 'EXECUTE')),
    'endless', (SELECT coalesce(json_agg(login::text), '[]') FROM logins, pg_roles
                 WHERE pg_roles.oid = login
                   AND (NOT coalesce(rolconfig::text, '') ~ 'statement_timeout=[1-9]'
                        OR current_setting('idle_in_transaction_session_timeout') = '0')),
    'audited', (SELECT setting FROM pg_settings WHERE name = 'pgaudit.log'),
    'weak', (SELECT count(*) FROM pg_authid WHERE rolpassword NOT LIKE 'SCRAM-SHA-256$%')
);

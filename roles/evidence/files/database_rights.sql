-- What PostgreSQL itself says that its logins may do, one JSON object: what they have by way of a role, of PUBLIC or of their
-- own. :'maintenance' is the one that may remove rows.
WITH ledger (name) AS (
    SELECT oid FROM pg_class
     WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p', 'v')
       AND relname ~ '^((requests|responses|usages)(_default|_p[0-9]+)?|exchanges|spend|slowest|errors|ledger_alembic_version)$'
), litellm (name) AS (
    SELECT oid FROM pg_class
     WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p', 'v')
       AND oid NOT IN (SELECT name FROM ledger) AND relname !~ '^(_prisma_migrations|pg_stat_statements)'
), logins (login) AS (
    SELECT oid::regrole FROM pg_roles WHERE rolcanlogin AND NOT rolsuper AND rolname <> :'maintenance'
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
    'mighty', (SELECT coalesce(json_agg(rolname ORDER BY rolname), '[]') FROM pg_roles
                WHERE (rolcreaterole OR rolcreatedb OR rolreplication OR rolbypassrls) AND NOT rolsuper),
    'memberships', (SELECT coalesce(json_agg(format('%s of %s', member::regrole, roleid::regrole) ORDER BY member::regrole::text), '[]')
                      FROM pg_auth_members WHERE member >= 16384),
    'rules', (SELECT coalesce(json_agg(format('line %s: %s', line_number, coalesce(error, type || ' ' || auth_method))), '[]')
                FROM pg_hba_file_rules
               WHERE error IS NOT NULL
                  OR NOT (auth_method = 'reject' OR type = 'local' AND auth_method = 'peer'
                          OR type = 'hostssl' AND auth_method = 'scram-sha-256'
                             AND coalesce('clientcert=verify-full' = ANY (options), false))
                  OR (pg_stat_file(current_setting('hba_file'))).modification > pg_conf_load_time()),
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
                 FROM kinds, (SELECT name, 'SELECT, UPDATE, DELETE, TRUNCATE', NULL FROM ledger
                              UNION ALL SELECT name, 'DELETE, TRUNCATE', 'SELECT, INSERT, UPDATE' FROM litellm) AS tables (name, rights, of_columns)
                WHERE kind = 'ledger'
                  AND (has_table_privilege(login, name, rights) OR has_any_column_privilege(login, name, of_columns)
                       OR EXISTS (SELECT FROM pg_attribute WHERE attrelid = name AND attname ~ '^body' AND NOT attisdropped
                                                             AND has_column_privilege(login, name, attnum, 'SELECT')))),
    'reader', (SELECT coalesce(json_agg(DISTINCT name::regclass::text), '[]') FROM kinds, (
                   SELECT name, 'INSERT, UPDATE' FROM ledger
                   UNION ALL SELECT name, 'SELECT, INSERT, UPDATE' FROM litellm) AS tables (name, of_columns)
                WHERE kind = 'reader'
                  AND (has_any_column_privilege(login, name, of_columns) OR has_table_privilege(login, name, 'DELETE, TRUNCATE'))),
    'maintenance', (SELECT coalesce(json_agg(name::regclass::text), '[]')
                      FROM (SELECT name FROM ledger UNION ALL SELECT name FROM litellm) AS tables
                     WHERE has_any_column_privilege(:'maintenance', name, 'SELECT, INSERT, UPDATE')
                        OR has_table_privilege(:'maintenance', name, 'DELETE, TRUNCATE')),
    'removers', (SELECT coalesce(json_agg(DISTINCT login::text), '[]') FROM logins, pg_proc
                  WHERE pronamespace = 'public'::regnamespace AND proname IN ('make_days', 'drop_days', 'forget_end_user')
                    AND has_function_privilege(login, pg_proc.oid, 'EXECUTE')),
    -- In the order in which PostgreSQL applies them: of the role in the database, of the role, of the database, of the server.
    'endless', (SELECT coalesce(json_agg(DISTINCT login::text), '[]')
                  FROM logins, (VALUES ('statement_timeout'), ('idle_in_transaction_session_timeout')) AS timeouts (timeout)
                 WHERE coalesce((SELECT split_part(setting, '=', 2) FROM pg_db_role_setting, unnest(setconfig) AS setting
                                  WHERE split_part(setting, '=', 1) = timeout AND setrole IN (login, 0)
                                    AND setdatabase IN ((SELECT oid FROM pg_database WHERE datname = current_database()), 0)
                                  ORDER BY setrole = 0, setdatabase = 0 LIMIT 1),
                                (SELECT reset_val FROM pg_settings WHERE name = timeout)) ~ '^0+([a-z]|$)'),
    'audited', (SELECT setting FROM pg_settings WHERE name = 'pgaudit.log'),
    'weak', (SELECT count(*) FROM pg_authid WHERE rolpassword NOT LIKE 'SCRAM-SHA-256$%')
);

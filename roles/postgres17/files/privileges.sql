-- The statements that make privileges, memberships and settings of roles what they should be, one a row: what somebody
-- has beside it is taken, what is missing is given. No row: all is well. It changes nothing itself.
WITH wanted (kind, grantee, privilege) AS (
    SELECT kind, grantee, privilege
      FROM (VALUES ('DATABASE', %(application)s, 'CONNECT'),
                   ('DATABASE', %(ledger)s, 'CONNECT'),
                   ('DATABASE', %(ledger)s, 'TEMPORARY'),  -- it loads into a temporary table before it inserts
                   ('DATABASE', %(reader)s, 'CONNECT'),
                   ('DATABASE', %(maintenance)s, 'CONNECT'),
                   ('SCHEMA public', %(application)s, 'USAGE'),
                   ('SCHEMA public', %(ledger)s, 'USAGE'),
                   ('SCHEMA public', %(reader)s, 'USAGE'),
                   ('SCHEMA public', %(maintenance)s, 'USAGE'),
                   -- What is LiteLLM's.
                   ('TABLE', %(application)s, 'SELECT'),
                   ('TABLE', %(application)s, 'INSERT'),
                   ('TABLE', %(application)s, 'UPDATE'),
                   ('TABLE', %(application)s, 'DELETE'),
                   ('VIEW', %(application)s, 'SELECT'),
                   ('SEQUENCE', %(application)s, 'USAGE'),
                   ('SEQUENCE', %(application)s, 'SELECT'),
                   ('_prisma_migrations', %(application)s, 'SELECT'),
                   -- What is the ledger's. Its rows are added; of what is there, it looks whether a row is there already.
                   ('requests', %(ledger)s, 'INSERT'),
                   ('requests', %(ledger)s, 'SELECT (received_at)'),
                   ('requests', %(ledger)s, 'SELECT (id)'),
                   ('requests', %(ledger)s, 'SELECT (capture)'),
                   ('responses', %(ledger)s, 'INSERT'),
                   ('responses', %(ledger)s, 'SELECT (received_at)'),
                   ('responses', %(ledger)s, 'SELECT (id)'),
                   ('responses', %(ledger)s, 'SELECT (outcome)'),
                   ('responses', %(ledger)s, 'SELECT (finished_at)'),
                   ('usages', %(ledger)s, 'INSERT'),
                   ('requests', %(reader)s, 'SELECT'),
                   ('responses', %(reader)s, 'SELECT'),
                   ('usages', %(reader)s, 'SELECT'),
                   ('default', %(reader)s, 'SELECT (received_at)'),  -- whether there is a row that no day has taken
                   ('ledger view', %(reader)s, 'SELECT'),
                   ('ledger function', %(reader)s, 'EXECUTE'),
                   -- Whether there is something to migrate.
                   ('ledger_alembic_version', %(reader)s, 'SELECT'),
                   ('_prisma_migrations', %(reader)s, 'SELECT'),
                   ('SCHEMA partman', %(reader)s, 'USAGE'),
                   ('part_config', %(reader)s, 'SELECT (parent_table)'),
                   ('part_config', %(reader)s, 'SELECT (retention)'),
                   ('maintenance function', %(maintenance)s, 'EXECUTE')) AS fixed (kind, grantee, privilege)
    UNION ALL
    -- The real response takes the place of one that only says "interrupted"; of others, the table itself keeps them.
    SELECT 'responses', %(ledger)s, format('UPDATE (%%I)', attname)
      FROM pg_attribute
     WHERE attrelid = to_regclass('public.responses') AND attnum > 0 AND NOT attisdropped
       AND attname NOT IN ('received_at', 'id')
), relations (oid, kind, owner, acl) AS (
    SELECT pg_class.oid,
           CASE WHEN relname IN ('requests', 'responses', 'usages', 'ledger_alembic_version', '_prisma_migrations', 'part_config') THEN relname
                WHEN relname IN ('requests_default', 'responses_default', 'usages_default') THEN 'default'
                WHEN relname IN ('exchanges', 'spend', 'slowest', 'errors') THEN 'ledger view'
                -- A day is reached by its table. The rest of pg_partman's is the owner's, that of extensions the administrator's.
                WHEN relispartition OR relnamespace = to_regnamespace('partman') OR relowner <> to_regrole(%(owner)s) THEN 'none'
                WHEN relkind = 'S' THEN 'SEQUENCE'
                WHEN relkind IN ('v', 'm') THEN 'VIEW'
                ELSE 'TABLE' END,
           relowner, relacl
      FROM pg_class
     WHERE relnamespace IN (to_regnamespace('public'), to_regnamespace('partman')) AND relkind IN ('r', 'p', 'v', 'm', 'S')
), objects (kind, name, defaults, owner, acl) AS (
    SELECT 'DATABASE', 'DATABASE ' || quote_ident(datname), '', datdba, coalesce(datacl, acldefault('d', datdba))
      FROM pg_database WHERE datname = current_database()
    UNION ALL
    SELECT 'SCHEMA ' || nspname, 'SCHEMA ' || nspname, '', nspowner, coalesce(nspacl, acldefault('n', nspowner))
      FROM pg_namespace WHERE nspname IN ('public', 'partman')
    UNION ALL
    SELECT kind, CASE kind WHEN 'SEQUENCE' THEN 'SEQUENCE ' ELSE 'TABLE ' END || oid::regclass, '', owner, acl FROM relations
    UNION ALL
    -- PostgreSQL lets everybody call a function that is made. Those on large objects let everybody fill the disk.
    SELECT CASE WHEN proname IN ('exchange', 'exchanges_between', 'spend_between') THEN 'ledger function'
                WHEN proname IN ('make_days', 'drop_days', 'forget_end_user') THEN 'maintenance function'
                ELSE 'none' END,
           'ROUTINE ' || oid::regprocedure, '', proowner, coalesce(proacl, acldefault('f', proowner))
      FROM pg_proc
     WHERE pronamespace IN (to_regnamespace('public'), to_regnamespace('partman'))
        OR pronamespace = 'pg_catalog'::regnamespace AND proname ~ '^(lo_|loread$|lowrite$)'
    UNION ALL
    -- What the owner will make is nobody's until this is asked again. Of tables and sequences that is PostgreSQL's own rule.
    SELECT 'none', 'FUNCTIONS', format('ALTER DEFAULT PRIVILEGES FOR ROLE %%I ', %(owner)s::text), pg_roles.oid,
           coalesce(defaclacl, acldefault('f', pg_roles.oid))
      FROM pg_roles LEFT JOIN pg_default_acl ON defaclrole = pg_roles.oid AND defaclobjtype = 'f' AND defaclnamespace = 0
     WHERE rolname = %(owner)s
    UNION ALL
    SELECT 'none', CASE defaclobjtype WHEN 'r' THEN 'TABLES' WHEN 'S' THEN 'SEQUENCES' WHEN 'f' THEN 'FUNCTIONS'
                                      WHEN 'T' THEN 'TYPES' ELSE 'SCHEMAS' END,
           format('ALTER DEFAULT PRIVILEGES FOR ROLE %%I %%s', %(owner)s::text,
                  'IN SCHEMA ' || nullif(defaclnamespace, 0)::regnamespace || ' '),
           defaclrole, defaclacl
      FROM pg_default_acl
     WHERE defaclrole = to_regrole(%(owner)s) AND (defaclobjtype <> 'f' OR defaclnamespace <> 0)
), held (kind, name, defaults, grantee, privilege, grantable) AS (
    SELECT kind, name, defaults, CASE acl.grantee WHEN 0 THEN 'PUBLIC' ELSE acl.grantee::regrole::text END,
           privilege_type, is_grantable
      FROM objects, aclexplode(acl) AS acl
     WHERE acl.grantee <> owner AND acl.grantee <> 10  -- the administrator
    UNION ALL
    SELECT kind, 'TABLE ' || oid::regclass, '', CASE acl.grantee WHEN 0 THEN 'PUBLIC' ELSE acl.grantee::regrole::text END,
           format('%%s (%%I)', privilege_type, attname), is_grantable
      FROM relations JOIN pg_attribute ON attrelid = oid, aclexplode(attacl) AS acl
     WHERE acl.grantee <> owner AND acl.grantee <> 10
), surplus AS (
    SELECT held.* FROM held LEFT JOIN wanted USING (kind, grantee, privilege) WHERE wanted.kind IS NULL
), logins (login, membership) AS (
    SELECT name, "group" FROM json_to_recordset(%(logins)s) AS listed (name text, "group" text)
), roles (role, settings) AS (
    SELECT login, %(settings)s::json -> membership FROM logins
    UNION ALL
    SELECT name, %(settings)s::json -> name
      FROM (VALUES (%(owner)s), (%(application)s), (%(ledger)s), (%(reader)s), (%(maintenance)s)) AS own (name)
), wanted_settings (role, name, value) AS (
    SELECT role, key, value
      FROM roles, json_each_text(settings)
     WHERE role IN (SELECT login FROM logins) OR role IN (%(owner)s, %(maintenance)s)  -- those of a group are nobody's
), held_settings (role, name, value) AS (
    SELECT setrole::regrole::text, split_part(setting, '=', 1), substr(setting, strpos(setting, '=') + 1)
      FROM pg_db_role_setting, unnest(setconfig) AS setting
     WHERE setdatabase = 0 AND setrole::regrole::text IN (SELECT role FROM roles)
)
SELECT format('%%sREVOKE %%s ON %%s FROM %%s CASCADE', defaults, privilege, name, grantee) AS statement FROM surplus
UNION ALL
SELECT format('%%sREVOKE GRANT OPTION FOR %%s ON %%s FROM %%s CASCADE', defaults, privilege, name, grantee)
  FROM held JOIN wanted USING (kind, grantee, privilege) WHERE grantable
UNION ALL
SELECT format('GRANT %%s ON %%s TO %%s', privilege, name, grantee)
  FROM objects JOIN wanted USING (kind) LEFT JOIN held USING (kind, name, grantee, privilege)
 WHERE (held.kind IS NULL
        -- What is taken of a table is taken of its columns, too.
        OR EXISTS (SELECT FROM surplus WHERE surplus.name = objects.name AND surplus.grantee = wanted.grantee
                                         AND wanted.privilege LIKE surplus.privilege || ' (%%'))
       -- An older revision of the tables may lack a column.
   AND (privilege NOT LIKE '%% (%%'
        OR EXISTS (SELECT FROM relations JOIN pg_attribute ON attrelid = relations.oid AND NOT attisdropped
                    WHERE objects.name = 'TABLE ' || relations.oid::regclass
                      AND privilege = format('%%s (%%I)', split_part(privilege, ' ', 1), attname)))
UNION ALL
SELECT format('REVOKE %%s FROM %%s', roleid::regrole, member::regrole)
  FROM pg_auth_members LEFT JOIN logins ON login = member::regrole::text AND membership = roleid::regrole::text
 WHERE login IS NULL
   -- A member that is not listed is none of these: it is dropped.
   AND (member::regrole::text IN (SELECT role FROM roles) OR roleid::regrole::text IN (%(owner)s, %(maintenance)s))
UNION ALL
SELECT format('GRANT %%I TO %%I WITH ADMIN FALSE, INHERIT TRUE, SET FALSE', membership, login)
  FROM logins
  LEFT JOIN pg_auth_members ON login = member::regrole::text AND membership = roleid::regrole::text
 WHERE roleid IS NULL OR admin_option OR set_option OR NOT inherit_option
UNION ALL
SELECT format('ALTER ROLE %%I RESET %%s', role, name)
  FROM held_settings LEFT JOIN wanted_settings USING (role, name) WHERE wanted_settings.role IS NULL
UNION ALL
SELECT format('ALTER ROLE %%I SET %%s = %%L', role, name, wanted_settings.value)
  FROM wanted_settings LEFT JOIN held_settings USING (role, name)
 WHERE held_settings.value IS DISTINCT FROM wanted_settings.value
UNION ALL
SELECT format('ALTER ROLE %%s IN DATABASE %%I RESET ALL', setrole::regrole, datname)
  FROM pg_db_role_setting JOIN pg_database ON pg_database.oid = setdatabase
 WHERE setrole::regrole::text IN (SELECT role FROM roles)

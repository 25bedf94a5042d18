-- The statements that make privileges what they should be, one a row: what somebody has beside it is taken, what is
-- missing is given. No row: all is well. It changes nothing itself.
WITH wanted (kind, grantee, privilege) AS (
    VALUES ('DATABASE', %(application)s, 'CONNECT'),
           ('DATABASE', %(application)s, 'TEMPORARY'),  -- the drain loads into a temporary table before it inserts
           ('DATABASE', %(reader)s, 'CONNECT'),
           ('SCHEMA', %(application)s, 'USAGE'),
           ('SCHEMA', %(reader)s, 'USAGE'),
           ('TABLE', %(application)s, 'SELECT'),
           ('TABLE', %(application)s, 'INSERT'),
           ('TABLE', %(application)s, 'UPDATE'),
           ('TABLE', %(application)s, 'DELETE'),
           ('TABLE', %(reader)s, 'SELECT'),
           ('SEQUENCE', %(application)s, 'USAGE'),
           ('SEQUENCE', %(application)s, 'SELECT')
), objects (kind, name, defaults, owner, acl) AS (
    SELECT 'DATABASE', 'DATABASE ' || quote_ident(datname), '', datdba, coalesce(datacl, acldefault('d', datdba))
      FROM pg_database WHERE datname = current_database()
    UNION ALL
    -- What is pg_partman's is nobody's but the owner's.
    SELECT CASE nspname WHEN 'partman' THEN 'PARTMAN' ELSE 'SCHEMA' END, 'SCHEMA ' || quote_ident(nspname), '',
           nspowner, coalesce(nspacl, acldefault('n', nspowner))
      FROM pg_namespace WHERE nspname IN ('public', 'partman')
    UNION ALL
    SELECT CASE WHEN relnamespace = to_regnamespace('partman') THEN 'PARTMAN' ELSE kind END,
           kind || ' ' || oid::regclass, '', relowner, relacl
      FROM pg_class CROSS JOIN LATERAL (SELECT CASE relkind WHEN 'S' THEN 'SEQUENCE' ELSE 'TABLE' END) AS kinds (kind)
     WHERE relowner = to_regrole(%(owner)s) AND relkind IN ('r', 'p', 'v', 'm', 'S')
    UNION ALL
    -- Functions that run with the owner's rights are nobody else's. The others have no more than who calls them.
    SELECT 'FUNCTION', 'FUNCTION ' || oid::regprocedure, '', proowner, coalesce(proacl, acldefault('f', proowner))
      FROM pg_proc WHERE proowner = to_regrole(%(owner)s) AND prosecdef
    UNION ALL
    -- What the owner will make: it belongs to the others as well, without a grant in every migration.
    SELECT kind, kind || 'S', format('ALTER DEFAULT PRIVILEGES FOR ROLE %%I IN SCHEMA public ', %(owner)s::text),
           to_regrole(%(owner)s), defaclacl
      FROM (VALUES ('TABLE', 'r'), ('SEQUENCE', 'S')) AS kinds (kind, code)
      LEFT JOIN pg_default_acl ON defaclobjtype = code::"char" AND defaclrole = to_regrole(%(owner)s)
                              AND defaclnamespace = 'public'::regnamespace
), held (kind, name, defaults, grantee, privilege) AS (
    SELECT kind, name, defaults, CASE acl.grantee WHEN 0 THEN 'PUBLIC' ELSE acl.grantee::regrole::text END, acl.privilege_type
      FROM objects, aclexplode(acl) AS acl
     WHERE acl.grantee <> owner AND acl.grantee::regrole::text NOT IN (%(owner)s, 'postgres')
)
SELECT format('%%sREVOKE %%s ON %%s FROM %%s', defaults, privilege, name, grantee) AS statement
  FROM held LEFT JOIN wanted USING (kind, grantee, privilege)
 WHERE wanted.kind IS NULL
UNION ALL
SELECT format('%%sGRANT %%s ON %%s TO %%s', defaults, privilege, name, grantee)
  FROM objects JOIN wanted USING (kind) LEFT JOIN held USING (kind, name, defaults, grantee, privilege)
 WHERE held.kind IS NULL
UNION ALL
SELECT format('REVOKE %%s FROM %%s', roleid::regrole, member::regrole)
  FROM pg_auth_members WHERE member IN (to_regrole(%(owner)s), to_regrole(%(application)s), to_regrole(%(reader)s))

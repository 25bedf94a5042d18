-- The statements that make privileges what they should be, one a row: what somebody has beside it is taken, what is
-- missing on the owner's tables is given. No row: all is well. It changes nothing itself.
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
), objects (kind, name, owner, acl) AS (
    SELECT 'DATABASE', quote_ident(datname), datdba, coalesce(datacl, acldefault('d', datdba))
      FROM pg_database WHERE datname = current_database()
    UNION ALL
    SELECT 'SCHEMA', quote_ident(nspname), nspowner, coalesce(nspacl, acldefault('n', nspowner))
      FROM pg_namespace WHERE nspname = 'public'
    UNION ALL
    SELECT CASE relkind WHEN 'S' THEN 'SEQUENCE' ELSE 'TABLE' END, oid::regclass::text, relowner, coalesce(relacl, '{}')
      FROM pg_class WHERE relowner = to_regrole(%(owner)s) AND relkind IN ('r', 'p', 'v', 'm', 'S')
), held (kind, name, grantee, privilege) AS (
    SELECT kind, name, CASE acl.grantee WHEN 0 THEN 'PUBLIC' ELSE acl.grantee::regrole::text END, acl.privilege_type
      FROM objects, aclexplode(acl) AS acl
     WHERE acl.grantee <> owner AND acl.grantee::regrole::text NOT IN (%(owner)s, 'postgres')
)
SELECT format('REVOKE %%s ON %%s %%s FROM %%s', privilege, kind, name, grantee) AS statement
  FROM held LEFT JOIN wanted USING (kind, grantee, privilege)
 WHERE wanted.kind IS NULL
UNION ALL
SELECT format('GRANT %%s ON %%s %%s TO %%s', privilege, kind, name, grantee)
  FROM objects JOIN wanted USING (kind) LEFT JOIN held USING (kind, name, grantee, privilege)
 WHERE held.kind IS NULL AND kind IN ('TABLE', 'SEQUENCE')
UNION ALL
SELECT format('REVOKE %%s FROM %%s', roleid::regrole, member::regrole)
  FROM pg_auth_members WHERE member IN (to_regrole(%(owner)s), to_regrole(%(application)s), to_regrole(%(reader)s))

-- What PostgreSQL has on disk and not in force, a row each, with what must be done. No row: nothing.
-- PostgreSQL reads the files anew for this, so it knows what is wrong with them before it is told to take them over.
SELECT coalesce(name, 'a setting that was removed') AS what, error AS why,
       CASE WHEN error = 'setting could not be applied' AND context = 'postmaster' THEN 'restart'
            WHEN error LIKE '%%cannot be changed without restarting the server' THEN 'restart'
            ELSE 'wrong' END AS verdict
  FROM pg_catalog.pg_file_settings LEFT JOIN pg_catalog.pg_settings USING (name)
 WHERE error IS NOT NULL
UNION ALL
SELECT format('pg_hba.conf, line %%s', line_number), error, 'wrong'
  FROM pg_catalog.pg_hba_file_rules
 WHERE error IS NOT NULL
UNION ALL
SELECT format('pg_ident.conf, line %%s', line_number), error, 'wrong'
  FROM pg_catalog.pg_ident_file_mappings
 WHERE error IS NOT NULL
UNION ALL
SELECT name, 'waits for a restart', 'restart'
  FROM pg_catalog.pg_settings
 WHERE pending_restart
UNION ALL
SELECT file, 'is newer than what PostgreSQL has read', 'reload'
  FROM string_to_table(%(files)s, ' ') AS file
 WHERE (pg_catalog.pg_stat_file(file, true)).modification > pg_catalog.pg_conf_load_time()

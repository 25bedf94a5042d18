-- The newest requests, in columns that a person reads. What others asked is nobody's business here: of texts, only the
-- question that the check itself asked is shown, and of people, who asked it.
SELECT to_char(received_at AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS.MS') AS received_at_utc,
       call_id, method, path, model, stream, body_size,
       CASE WHEN call_id = :'call_id' THEN left(key_hash, 12) END AS key_hash,
       CASE WHEN call_id = :'call_id' THEN client_address END AS client_address,
       CASE WHEN call_id = :'call_id' THEN body #>> '{messages,-1,content}' END AS asked
  FROM requests
 ORDER BY received_at DESC, id DESC
 LIMIT :rows;

-- The newest responses, in columns that a person reads. What others were answered is nobody's business here: of texts,
-- only the answer to the check's own question is shown.
SELECT to_char(finished_at AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS.MS') AS finished_at_utc,
       call_id, status, outcome, model, prompt_tokens, completion_tokens, trim_scale(round(cost, 9)) AS cost,
       round(duration_ms) AS duration_ms, body_size,
       CASE WHEN call_id = :'call_id' THEN coalesce(body #>> '{choices,0,message,content}', error) END AS answered
  FROM responses
 ORDER BY received_at DESC, id DESC
 LIMIT :rows;

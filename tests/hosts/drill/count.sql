-- What the tables have of each call that the client has a record of. Input: the client's journal as CSV.
\set ON_ERROR_STOP on
SET client_min_messages = warning;
CREATE TEMPORARY TABLE calls (
    label text, call_id text PRIMARY KEY, verdict text, status integer,
    sent_size bigint, sent_sha256 text, received_size bigint, received_sha256 text
);
COPY calls FROM STDIN (FORMAT csv);
-- The client's journal is put here.
\.
CREATE TEMPORARY TABLE halves AS
SELECT coalesce(request.call_id, response.call_id) AS call_id,
       request.id IS NOT NULL AS asked,
       response.id IS NOT NULL AS answered,
       request.body_complete,
       num_nonnulls(request.body_bytes, request.body_text) > 0 AS body_kept,
       response.outcome,
       response.status,
       request.body_size AS request_size,
       encode(sha256(coalesce(request.body_bytes, convert_to(request.body_text, 'UTF8'), '')), 'hex') AS request_sha256,
       response.body_size AS response_size,
       encode(sha256(coalesce(response.body_bytes, convert_to(response.body_text, 'UTF8'), '')), 'hex') AS response_sha256
FROM requests AS request FULL JOIN responses AS response USING (received_at, id)
WHERE coalesce(request.call_id, response.call_id) IN (SELECT call_id FROM calls);
CREATE TEMPORARY TABLE found AS
SELECT call_id, label, verdict,
       count(halves) AS rows,
       coalesce(bool_or(asked AND answered), false) AS stored,
       coalesce(bool_or(
           -- Of a call without an answer the body need not be kept, but it must not be another one.
           asked AND (verdict = 'answered' OR body_complete AND body_kept)
           AND (request_size, request_sha256) IS DISTINCT FROM (sent_size, sent_sha256)
           OR answered AND verdict = 'answered'
           AND (response_size, response_sha256, halves.status)
               IS DISTINCT FROM (received_size, received_sha256, calls.status)
       ), false) AS altered,
       coalesce(min(outcome), CASE WHEN bool_or(asked) THEN 'no response' ELSE 'no row' END) AS outcome
FROM calls LEFT JOIN halves USING (call_id)
GROUP BY call_id, label, verdict;
SELECT json_build_object(
    'groups', (SELECT json_agg(grouped) FROM (
        SELECT label, verdict, outcome, count(*) AS calls,
               count(*) FILTER (WHERE stored) AS stored,
               count(*) FILTER (WHERE verdict = 'answered' AND NOT stored) AS missing,
               count(*) FILTER (WHERE rows > 1) AS twice,
               count(*) FILTER (WHERE altered) AS altered
        FROM found GROUP BY label, verdict, outcome ORDER BY label, verdict, outcome
    ) AS grouped),
    'problems', (SELECT coalesce(json_agg(problem), '[]') FROM (
        SELECT call_id, verdict, outcome, rows, stored, altered FROM found
        WHERE verdict = 'answered' AND NOT stored OR rows > 1 OR altered OR outcome = 'no response'
        ORDER BY call_id LIMIT 20
    ) AS problem)
);

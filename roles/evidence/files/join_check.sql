-- Does every request have its response, and every response its request?
\pset footer off
\echo Exchanges by outcome and status
SELECT coalesce(responses.outcome, 'no response') AS outcome, responses.status, count(*) AS exchanges,
       count(*) FILTER (WHERE requests.id IS NULL) AS responses_without_request,
       count(*) FILTER (WHERE responses.id IS NULL) AS requests_without_response
  FROM requests FULL JOIN responses USING (received_at, id)
 GROUP BY responses.outcome, responses.status
 ORDER BY exchanges DESC;

-- A request may wait for its answer for as long as LiteLLM lets a provider take. One that never got an answer, because
-- the gateway was killed, stays in the first table for good, and counts here for a day.
\echo Integrity: exchanges of the last day that are whole, of all that are answered or had 15 minutes to be
SELECT count(*) AS exchanges,
       count(*) FILTER (WHERE requests.id IS NOT NULL AND responses.id IS NOT NULL) AS whole,
       to_char(trunc(coalesce(100.0 * count(*) FILTER (WHERE requests.id IS NOT NULL AND responses.id IS NOT NULL)
                              / nullif(count(*), 0), 100), 2), 'FM990.00" %"') AS integrity
  FROM requests FULL JOIN responses USING (received_at, id)
 WHERE received_at > now() - interval '1 day'
   AND (responses.id IS NOT NULL OR received_at < now() - interval '15 minutes');

\echo The exchange just made
SELECT :'call_id' AS call_id,
       CASE WHEN responses.id IS NOT NULL THEN 'request and response stored'
            WHEN requests.id IS NOT NULL THEN 'only the request stored'
            ELSE 'not stored' END AS found
  FROM (VALUES (1)) AS always LEFT JOIN requests ON requests.call_id = :'call_id' LEFT JOIN responses USING (received_at, id);

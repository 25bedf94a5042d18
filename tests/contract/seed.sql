-- The rows that each case begins with. Their ids are no uuids: those in outcomes are generated ones.
INSERT INTO "LiteLLM_BudgetTable" (budget_id, max_budget, soft_budget, max_parallel_requests, tpm_limit, rpm_limit, model_max_budget, budget_duration, budget_reset_at, allowed_models, created_at, created_by, updated_at, updated_by) VALUES
    ('budget-1', 10.5, 8, 3, 9007199254740993, 60, '{"gpt-4o": 1.5}', '30d', '2024-02-01 00:00:00', '{gpt-4o,claude}', '2024-01-01 00:00:00', 'admin', '2024-01-01 00:00:00', 'admin'),
    ('budget-2', NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, '{}', '2024-01-02 03:04:05.678', 'admin', '2024-01-02 03:04:05.678', 'admin'),
    ('budget-3', 0, 0.1, 0, 0, -1, 'null', '', '1969-12-31 23:59:59.999', '{}', '2024-01-03 00:00:00', 'user-1', '2024-01-03 00:00:00', 'user-1');
INSERT INTO "LiteLLM_ObjectPermissionTable" (object_permission_id, mcp_servers, mcp_tool_permissions, vector_stores, models, mcp_tool_search_enabled) VALUES
    ('permission-1', '{mcp-1,mcp-2}', '{"mcp-1": ["read", "write"]}', '{}', '{gpt-4o}', true),
    ('permission-2', '{}', NULL, '{store}', '{}', NULL);
INSERT INTO "LiteLLM_OrganizationTable" (organization_id, organization_alias, budget_id, metadata, models, spend, object_permission_id, created_at, created_by, updated_at, updated_by) VALUES
    ('org-1', 'Acme', 'budget-1', '{"tier": "gold"}', '{gpt-4o}', 1.25, 'permission-1', '2024-01-01 00:00:00', 'admin', '2024-01-01 00:00:00', 'admin'),
    ('org-2', 'Béta Ünion', 'budget-2', '{}', '{}', 0, NULL, '2024-01-02 00:00:00', 'admin', '2024-01-02 00:00:00', 'admin');
INSERT INTO "LiteLLM_ModelTable" (id, aliases, created_at, created_by, updated_at, updated_by) VALUES
    (7, '{"fast": "gpt-4o-mini"}', '2024-01-01 00:00:00', 'admin', '2024-01-01 00:00:00', 'admin'),
    (8, NULL, '2024-01-01 00:00:00', 'admin', '2024-01-01 00:00:00', 'admin');
INSERT INTO "LiteLLM_TeamTable" (team_id, team_alias, organization_id, object_permission_id, admins, members, members_with_roles, metadata, max_budget, spend, models, tpm_limit, blocked, model_id, created_at, updated_at) VALUES
    ('team-1', 'Alpha', 'org-1', 'permission-1', '{user-1}', '{user-1,user-2}', '[{"role": "admin", "user_id": "user-1"}]', '{"tags": ["a", "b"], "level": 3}', 100, 0.3, '{gpt-4o,claude}', 1000, false, 7, '2024-01-01 00:00:00', '2024-01-01 00:00:00'),
    ('team-2', 'beta', 'org-1', NULL, '{}', '{user-2}', '{}', '{"level": 1, "note": "50% off_x"}', NULL, 5, '{}', NULL, true, NULL, '2024-01-02 00:00:00', '2024-01-02 00:00:00'),
    ('team-3', NULL, NULL, NULL, '{user-3}', '{}', '{}', '{}', 0.5, 0, '{gpt-4o}', 9223372036854775807, false, NULL, '2024-01-03 00:00:00', '2024-01-03 00:00:00'),
    ('team-4', '50%_off', 'org-2', NULL, '{}', '{"with space","with,comma",""}', '{}', '{"level": null}', 1e21, 1.1, '{"*"}', 0, false, 8, '2024-01-03 00:00:00', '2024-01-04 00:00:00');
INSERT INTO "LiteLLM_UserTable" (user_id, user_alias, sso_user_id, organization_id, object_permission_id, password_reset_required, teams, user_role, max_budget, spend, user_email, models, metadata, tpm_limit, created_at, updated_at) VALUES
    ('user-1', 'Ann', 'sso-1', 'org-1', 'permission-2', true, '{team-1}', 'proxy_admin', 5, 2.5, 'Ann@Example.com', '{}', '{"theme": "dark"}', 10, '2024-01-01 00:00:00', '2024-01-01 00:00:00'),
    ('user-2', 'bob', NULL, 'org-1', NULL, false, '{team-1,team-2}', 'internal_user', NULL, 0, 'bob@example.com', '{gpt-4o}', '{}', NULL, '2024-01-02 00:00:00', '2024-01-02 00:00:00'),
    ('user-3', NULL, NULL, NULL, NULL, NULL, '{}', NULL, 1, 10, NULL, '{}', '[]', -5, NULL, NULL),
    ('user-4', 'Zoë', 'sso-4', 'org-2', NULL, NULL, '{}', 'internal_user', 2, 10, 'zoe@example.org', '{}', '"text"', 20, '2024-01-03 00:00:00', '2024-01-03 00:00:00');
INSERT INTO "LiteLLM_OrganizationMembership" (user_id, organization_id, user_role, spend, budget_id, created_at, updated_at) VALUES
    ('user-1', 'org-1', 'org_admin', 1.5, 'budget-1', '2024-01-01 00:00:00', '2024-01-01 00:00:00'),
    ('user-2', 'org-1', 'internal_user', NULL, NULL, '2024-01-02 00:00:00', '2024-01-02 00:00:00'),
    ('user-1', 'org-2', NULL, 0, 'budget-3', '2024-01-03 00:00:00', '2024-01-03 00:00:00');
INSERT INTO "LiteLLM_TeamMembership" (user_id, team_id, spend, total_spend, budget_id) VALUES
    ('user-1', 'team-1', 1, 10, 'budget-1'),
    ('user-2', 'team-1', 2, 20, NULL),
    ('user-2', 'team-2', 3, 30, 'budget-3');
INSERT INTO "LiteLLM_VerificationToken" (token, key_name, key_alias, spend, expires, models, aliases, user_id, team_id, permissions, max_parallel_requests, metadata, blocked, tpm_limit, max_budget, budget_duration, budget_reset_at, budget_id, organization_id, object_permission_id, created_at, created_by, updated_at) VALUES
    ('key-1', 'sk-...1', 'first', 1.5, '2030-01-01 00:00:00', '{gpt-4o,claude}', '{"a": "b"}', 'user-1', 'team-1', '{}', 2, '{"tags": ["prod"], "deep": {"list": [1, 2]}}', false, 100, 10, '1d', '2024-02-01 00:00:00', 'budget-1', 'org-1', 'permission-1', '2024-01-01 00:00:00', 'user-1', '2024-01-01 00:00:00'),
    ('key-2', 'sk-...2', 'Second', 0, NULL, '{}', '{}', 'user-1', NULL, '{}', NULL, '{"tags": []}', true, NULL, NULL, NULL, NULL, 'budget-1', 'org-1', NULL, '2024-01-02 00:00:00', 'user-1', '2024-01-02 00:00:00'),
    ('key-3', NULL, NULL, 20.25, '2020-01-01 00:00:00.001', '{gpt-4o}', '{}', 'user-2', 'team-1', '{}', 0, '{"score": 1.5}', NULL, -1, 0, '30d', '2023-01-01 00:00:00', NULL, NULL, NULL, '2024-01-03 00:00:00', NULL, '2024-01-03 00:00:00'),
    ('key-4', 'sk-...4', 'second', 3, '2025-06-15 12:30:45.123', '{claude}', '{}', 'user-2', 'team-2', '{}', 5, '"plain"', false, 9223372036854775807, 3, '1d', NULL, 'budget-3', NULL, NULL, '2024-01-03 00:00:00', NULL, '2024-01-04 00:00:00'),
    ('key-5', 'sk-...5', 'it''s "quoted" \ 100%', 0.1, NULL, '{"a,b","c\"d","é"}', '{}', NULL, 'team-4', '{}', 1, 'null', NULL, 5, NULL, NULL, NULL, NULL, 'org-2', NULL, NULL, NULL, NULL);
INSERT INTO "LiteLLM_JWTKeyMapping" (id, jwt_claim_name, jwt_claim_value, token, description, created_at, updated_at) VALUES
    ('mapping-1', 'sub', 'ann', 'key-1', NULL, '2024-01-01 00:00:00', '2024-01-01 00:00:00');
INSERT INTO "LiteLLM_EndUserTable" (user_id, alias, spend, budget_id, blocked) VALUES
    ('end-1', 'Customer', 4, 'budget-1', false), ('end-2', NULL, 0, NULL, true);
INSERT INTO "LiteLLM_Config" (param_name, param_value, reload_revision) VALUES
    ('array', '[1, "two", null, {"three": 3}]', 1), ('database_null', NULL, 0), ('false', 'false', 9007199254740993),
    ('json_null', 'null', 0), ('number', '12.50', 0), ('object', '{"a": {"b": ["x", "y"]}, "c": "Text with % and _"}', 2), ('string', '"Text"', 0);
INSERT INTO "LiteLLM_ProxyModelTable" (model_id, model_name, litellm_params, model_info, blocked, created_at, created_by, updated_at, updated_by) VALUES
    ('model-1', 'gpt-4o', '{"model": "openai/gpt-4o", "rpm": 10}', '{"id": "model-1", "db_model": true}', false, '2024-01-01 00:00:00', 'admin', '2024-01-01 00:00:00', 'admin'),
    ('model-2', 'claude', '{"model": "anthropic/claude"}', NULL, true, '2024-01-02 00:00:00', 'admin', '2024-01-02 00:00:00', 'admin');
INSERT INTO "LiteLLM_CredentialsTable" (credential_id, credential_name, credential_values, credential_info, created_at, created_by, updated_at, updated_by) VALUES
    ('credential-1', 'openai', '{"api_key": "encrypted"}', '{}', '2024-01-01 00:00:00', 'admin', '2024-01-01 00:00:00', 'admin');
INSERT INTO "LiteLLM_SpendLogs" (request_id, call_type, api_key, spend, total_tokens, prompt_tokens, completion_tokens, "startTime", "endTime", "completionStartTime", model, "user", team_id, request_tags, metadata, status, created_at, updated_at) VALUES
    ('request-1', 'acompletion', 'key-1', 0.1, 30, 10, 20, '2024-01-01 10:00:00', '2024-01-01 10:00:01.500', NULL, 'gpt-4o', 'user-1', 'team-1', '["prod"]', '{"status": "ok"}', 'success', '2024-01-01 10:00:02', '2024-01-01 10:00:02'),
    ('request-2', 'acompletion', 'key-1', 0.2, 3, 1, 2, '2024-01-01 11:00:00', '2024-01-01 11:00:01', '2024-01-01 11:00:00.250', 'gpt-4o', 'user-1', 'team-1', '[]', '{}', 'success', '2024-01-01 11:00:02', '2024-01-01 11:00:02'),
    ('request-3', 'aembedding', 'key-3', 0, 5, 5, 0, '2024-01-02 10:00:00', '2024-01-02 10:00:01', NULL, 'embed', 'user-2', 'team-1', NULL, NULL, 'failure', '2024-01-02 10:00:02', '2024-01-02 10:00:02'),
    ('request-4', 'acompletion', 'key-4', 1.7, 300, 100, 200, '2024-01-03 10:00:00', '2024-01-03 10:00:09', NULL, 'claude', '', NULL, '["prod", "x"]', '{}', NULL, '2024-01-03 10:00:10', '2024-01-03 10:00:10');
INSERT INTO "LiteLLM_DailyUserSpend" (id, user_id, date, api_key, model, custom_llm_provider, mcp_namespaced_tool_name, endpoint, prompt_tokens, completion_tokens, spend, api_requests, successful_requests, created_at, updated_at) VALUES
    ('daily-1', 'user-1', '2024-01-01', 'key-1', 'gpt-4o', 'openai', '', '/chat/completions', 11, 22, 0.1, 2, 2, '2024-01-01 00:00:00', '2024-01-01 00:00:00'),
    ('daily-2', 'user-1', '2024-01-02', 'key-1', 'gpt-4o', 'openai', '', '/chat/completions', 9007199254740993, 1, 0.2, 1, 0, '2024-01-02 00:00:00', '2024-01-02 00:00:00'),
    ('daily-3', 'user-2', '2024-01-01', 'key-3', 'claude', 'anthropic', '', '/chat/completions', 5, 5, 3, 4, 4, '2024-01-01 00:00:00', '2024-01-01 00:00:00'),
    ('daily-4', NULL, '2024-01-02', 'key-4', NULL, NULL, NULL, NULL, 0, 0, 0, 0, 0, '2024-01-02 00:00:00', '2024-01-02 00:00:00');
INSERT INTO "LiteLLM_MCPServerTable" (server_id, server_name, alias, transport, credentials, mcp_info, mcp_access_groups, allowed_tools, args, env_vars, timeout, max_concurrent_requests, created_at, updated_at) VALUES
    ('mcp-1', 'github', 'gh', 'http', '{"token": "encrypted"}', '{"logo": "x.png"}', '{dev,ops}', '{read}', '{}', '[{"name": "A"}]', 2.5, 4, '2024-01-01 00:00:00', '2024-01-01 00:00:00'),
    ('mcp-2', NULL, NULL, 'stdio', NULL, '{}', NULL, '{}', '{-y,server}', '[]', NULL, NULL, NULL, NULL);
INSERT INTO "LiteLLM_ManagedFileTable" (id, unified_file_id, file_object, model_mappings, flat_model_file_ids, created_at, created_by, updated_at) VALUES
    ('file-1', 'unified-1', '{"bytes": 12}', '{"model-1": "f-1"}', '{f-1,f-2}', '2024-01-01 00:00:00', 'user-1', '2024-01-01 00:00:00'),
    ('file-2', 'unified-2', NULL, '{}', '{}', '2024-01-02 00:00:00', NULL, '2024-01-02 00:00:00');
INSERT INTO "LiteLLM_ManagedObjectTable" (id, unified_object_id, model_object_id, file_object, file_purpose, status, created_at, updated_at) VALUES
    ('object-1', 'unified-o-1', 'batch-1', '{"id": "batch-1"}', 'batch', 'validating', '2024-01-01 00:00:00', '2024-01-01 00:00:00');
INSERT INTO "LiteLLM_ManagedFileContentTable" (id, content, created_at) VALUES
    ('content-1', '\x0001feff', '2024-01-01 00:00:00'), ('content-2', '\x', '2024-01-02 00:00:00');
INSERT INTO "LiteLLM_SkillsTable" (skill_id, display_title, source, file_content, metadata, created_at, updated_at) VALUES
    ('skill-1', 'Draw', 'custom', '\x504b0304', '{"v": 1}', '2024-01-01 00:00:00', '2024-01-01 00:00:00'),
    ('skill-2', NULL, 'anthropic', NULL, NULL, '2024-01-02 00:00:00', '2024-01-02 00:00:00');
INSERT INTO "LiteLLM_CronJob" (cronjob_id, pod_id, status, last_updated, ttl) VALUES
    ('job-1', 'pod-1', 'ACTIVE', '2024-01-01 00:00:00', '2024-01-01 00:01:00'), ('job-2', 'pod-2', 'INACTIVE', '2024-01-02 00:00:00', '2024-01-02 00:01:00');
INSERT INTO "LiteLLM_AgentsTable" (agent_id, agent_name, agent_card_params, object_permission_id, spend, tpm_limit, created_at, created_by, updated_at, updated_by) VALUES
    ('agent-1', 'Writer', '{"name": "Writer"}', 'permission-2', 2, 7, '2024-01-01 00:00:00', 'admin', '2024-01-01 00:00:00', 'admin'),
    ('agent-2', 'Reader', '{}', NULL, 0, NULL, '2024-01-02 00:00:00', 'admin', '2024-01-02 00:00:00', 'admin');
INSERT INTO "LiteLLM_AgentIdentity" (agent_id, provider, issuer, tenant_id, client_id, required_roles, revision) VALUES
    ('agent-1', 'entra', 'https://issuer', 'tenant', 'client', '{agent}', 'revision-1');
INSERT INTO "LiteLLM_WorkflowRun" (run_id, session_id, workflow_type, created_at, updated_at, input) VALUES
    ('run-1', 'session-1', 'build', '2024-01-01 00:00:00', '2024-01-01 00:00:00', '{"x": 1}'), ('run-2', 'session-2', 'test', '2024-01-02 00:00:00', '2024-01-02 00:00:00', NULL);
INSERT INTO "LiteLLM_WorkflowEvent" (event_id, run_id, event_type, step_name, sequence_number, data, created_at) VALUES
    ('event-1', 'run-1', 'step.started', 'plan', 1, '{"n": 1}', '2024-01-01 00:00:00'), ('event-2', 'run-1', 'step.failed', 'plan', 2, NULL, '2024-01-01 00:00:01'),
    ('event-3', 'run-1', 'step.started', 'code', 3, NULL, '2024-01-01 00:00:02'), ('event-4', 'run-2', 'step.started', 'plan', 1, 'null', '2024-01-02 00:00:00');
INSERT INTO "LiteLLM_WorkflowMessage" (message_id, run_id, role, content, sequence_number, created_at) VALUES
    ('message-1', 'run-1', 'user', 'Hello', 1, '2024-01-01 00:00:00');
INSERT INTO "LiteLLM_DailyGuardrailMetrics" (guardrail_id, date, requests_evaluated, passed_count, avg_score, created_at, updated_at) VALUES
    ('guardrail-1', '2024-01-01', 10, 9, 0.75, '2024-01-01 00:00:00', '2024-01-01 00:00:00'), ('guardrail-1', '2024-01-02', 20, 20, NULL, '2024-01-02 00:00:00', '2024-01-02 00:00:00');
INSERT INTO "LiteLLM_InvitationLink" (id, user_id, expires_at, created_at, created_by, updated_at, updated_by) VALUES
    ('invitation-1', 'user-2', '2024-01-08 00:00:00', '2024-01-01 00:00:00', 'user-1', '2024-01-01 00:00:00', 'user-4');
SELECT setval('"LiteLLM_ModelTable_id_seq"', 100);

"""Reads: what is found, in which order, how much of it, and what is included."""

from typing import Any

from tests.contract.cases.build import Case, call, case, each, json, moment

MODELS: dict[str, Any] = {
    "agentidentity": {"agent_id": "agent-1"}, "agentstable": {"agent_name": "Reader"}, "budgettable": {"budget_id": "budget-1"}, "config": {"param_name": "array"}, "credentialstable": {"credential_name": "openai"}, "cronjob": {"cronjob_id": "job-1"},
    "dailyguardrailmetrics": {"guardrail_id_date": {"guardrail_id": "guardrail-1", "date": "2024-01-02"}}, "dailyuserspend": {"id": "daily-2"}, "endusertable": {"user_id": "end-1"}, "invitationlink": {"id": "invitation-1"}, "jwtkeymapping": {"id": "mapping-1"},
    "managedfilecontenttable": {"id": "content-1"}, "managedfiletable": {"unified_file_id": "unified-2"}, "managedobjecttable": {"model_object_id": "batch-1"}, "mcpservertable": {"server_id": "mcp-2"}, "modeltable": {"id": 7}, "objectpermissiontable": {"object_permission_id": "permission-1"},
    "organizationmembership": {"user_id_organization_id": {"user_id": "user-1", "organization_id": "org-2"}}, "organizationtable": {"organization_id": "org-2"}, "proxymodeltable": {"model_id": "model-1"}, "skillstable": {"skill_id": "skill-1"}, "spendlogs": {"request_id": "request-2"},
    "teammembership": {"user_id_team_id": {"user_id": "user-2", "team_id": "team-1"}}, "teamtable": {"team_id": "team-1"}, "usertable": {"sso_user_id": "sso-4"}, "verificationtoken": {"token": "key-1"}, "workflowevent": {"run_id_sequence_number": {"run_id": "run-1", "sequence_number": 2}},
    "workflowmessage": {"message_id": "message-1"}, "workflowrun": {"session_id": "session-1"},
}  # fmt: skip


def every_model() -> list[Case]:
    made = []
    for model, where in MODELS.items():
        made.append(
            case(
                f"find_unique of {model}",
                call(f"{model}.find_unique", where=where),
                call(f"{model}.find_unique_or_raise", where=where),
            )
        )
        made.append(
            case(
                f"find_many of {model}",
                call(
                    f"{model}.find_many",
                    order=[
                        {_first(where): "asc"},
                        *([{"date": "asc"}] if model == "dailyguardrailmetrics" else []),
                        *([{"sequence_number": "desc"}] if model == "workflowevent" else []),
                        *([{"organization_id": "asc"}] if model == "organizationmembership" else []),
                        *([{"team_id": "asc"}] if model == "teammembership" else []),
                    ],
                ),
            )
        )
        made.append(
            case(
                f"find_first and count of {model}",
                call(
                    f"{model}.find_first",
                    where=where if not isinstance(next(iter(where.values())), dict) else next(iter(where.values())),
                ),
                call(f"{model}.count"),
            )
        )
    return made


def _first(where: Any) -> str:
    name, value = next(iter(where.items()))
    return str(next(iter(value)) if isinstance(value, dict) else name)


UNIQUE = [
    call("teamtable.find_unique", where={"team_id": "none"}),
    call("teamtable.find_unique", where={"team_id": "team-1", "team_alias": "Alpha"}),
    call("teamtable.find_unique", where={"team_id": "team-1", "team_alias": "beta"}),
    call("teamtable.find_unique", where={"team_id": "team-1", "spend": {"gt": 100}}),
    call("teamtable.find_unique", where={"team_id": "team-1", "OR": [{"blocked": True}, {"blocked": False}]}),
    call("teamtable.find_unique", where={"team_alias": "Alpha"}),
    call("teamtable.find_unique", where={}),
    call("teamtable.find_unique", where={"team_id": None}),
    call("teamtable.find_unique", where={"team_id": {"equals": "team-1"}}),
    call("teamtable.find_unique", where={"model_id": 7}),
    call("teamtable.find_unique", where={"model_id": None}),
    call("teamtable.find_unique", where={"team_id": "team-1", "model_id": 7}),
    call("teamtable.find_unique", where={"team_id": "team-1", "model_id": 8}),
    call("teammembership.find_unique", where={"user_id_team_id": {"user_id": "user-1", "team_id": "none"}}),
    call("teammembership.find_unique", where={"user_id_team_id": {"user_id": "user-1"}}),
    call("teammembership.find_unique", where={"user_id": "user-1", "team_id": "team-1"}),
    call("teammembership.find_unique", where={"user_id_team_id": {"user_id": "user-1", "team_id": None}}),
    call(
        "dailyuserspend.find_unique",
        where={
            "user_id_date_api_key_model_custom_llm_provider_mcp_namespaced_tool_name_endpoint": {
                "user_id": "user-1",
                "date": "2024-01-01",
                "api_key": "key-1",
                "model": "gpt-4o",
                "custom_llm_provider": "openai",
                "mcp_namespaced_tool_name": "",
                "endpoint": "/chat/completions",
            }
        },
    ),
    call(
        "dailyuserspend.find_unique",
        where={
            "user_id_date_api_key_model_custom_llm_provider_mcp_namespaced_tool_name_endpoint": {
                "user_id": None,
                "date": "2024-01-02",
                "api_key": "key-4",
                "model": None,
                "custom_llm_provider": None,
                "mcp_namespaced_tool_name": None,
                "endpoint": None,
            }
        },
    ),
    call("teamtable.find_unique_or_raise", where={"team_id": "none"}),
    call("teamtable.find_first_or_raise", where={"team_id": "none"}),
    call("teamtable.find_first_or_raise", where={"team_id": "team-1"}, include={"litellm_model_table": True}),
    call("teamtable.find_first", order={"spend": "desc"}),
    call("teamtable.find_first", where={"blocked": False}, order={"team_id": "desc"}),
    call("teamtable.find_first", where={"blocked": False}, order={"team_id": "asc"}, skip=1),
    call("teamtable.find_first", order={"team_id": "asc"}, cursor={"team_id": "team-3"}),
    call("teamtable.find_first", where={"team_id": "none"}),
    call(
        "organizationmembership.find_unique",
        where={"user_id_organization_id": {"user_id": "user-1", "organization_id": "org-1"}},
        include={"user": True, "organization": True, "litellm_budget_table": True},
    ),
]


def key(**arguments: Any) -> Any:
    return {**call("verificationtoken.find_many", **arguments), "keep": "token"}


def team(**arguments: Any) -> Any:
    return {**call("teamtable.find_many", **arguments), "keep": "team_id"}


BY_ID = {"token": "asc"}
ORDER_AND_PAGE = [
    key(order={"token": "desc"}), key(order=[{"spend": "asc"}]), key(order=[{"user_id": "asc"}, {"token": "desc"}]), key(order=[{"user_id": "desc"}, {"token": "asc"}]), key(order=[{"key_alias": "asc"}]), key(order=[{"key_alias": "desc"}]),
    key(order=[{"expires": "asc"}, BY_ID]), key(order=[{"expires": "desc"}, BY_ID]), key(order=[{"tpm_limit": "asc"}]), key(order=[{"blocked": "asc"}, BY_ID]), key(order=[{"blocked": "desc"}, BY_ID]), key(order={"created_at": "desc", "token": "asc"}),
    key(order=[{"expires": {"sort": "asc", "nulls": "first"}}, BY_ID]), key(order=[{"expires": {"sort": "desc", "nulls": "last"}}, BY_ID]), key(order=[{"expires": {"sort": "asc", "nulls": "last"}}, BY_ID]), key(order=[{"spend": {"sort": "desc"}}]),
    key(order=[{"litellm_budget_table": {"max_budget": "asc"}}, BY_ID]), key(order=[{"litellm_budget_table": {"max_budget": "desc"}}, BY_ID]), key(order=[{"litellm_organization_table": {"organization_alias": "asc"}}, BY_ID]), key(order=[{"jwt_key_mappings": {"_count": "desc"}}, BY_ID]),
    key(order=[]), key(order={}), key(order=[{"metadata": "asc"}]), key(order=[{"models": "asc"}, BY_ID]), key(order=[{"token": "up"}]), key(order=[{"none": "asc"}]), key(order="token"), key(order=[{"token": "ASC"}]),
    key(order=BY_ID, take=2), key(order=BY_ID, take=0), key(order=BY_ID, take=-2), key(order=BY_ID, take=100), key(order=BY_ID, skip=2), key(order=BY_ID, skip=0), key(order=BY_ID, skip=100), key(order=BY_ID, skip=1, take=2), key(order=BY_ID, skip=1, take=-2), key(order=BY_ID, skip=-1),
    key(order=BY_ID, take="2"), key(order=BY_ID, take=1.5), key(order=BY_ID, take=None, skip=None), key(take=2, where={"user_id": "user-1"}, order={"token": "desc"}),
    key(order=BY_ID, cursor={"token": "key-3"}), key(order=BY_ID, cursor={"token": "key-3"}, skip=1), key(order=BY_ID, cursor={"token": "key-3"}, take=2), key(order=BY_ID, cursor={"token": "key-3"}, take=-2), key(order=BY_ID, cursor={"token": "key-3"}, skip=1, take=-1), key(order={"token": "desc"}, cursor={"token": "key-3"}, take=2),
    key(order=BY_ID, cursor={"token": "none"}), key(order=[{"user_id": "asc"}, BY_ID], cursor={"token": "key-3"}), key(order=[{"spend": "desc"}], cursor={"token": "key-4"}, take=2), key(order=BY_ID, cursor={"key_alias": "first"}), key(order=BY_ID, cursor={"token": "key-3"}, where={"user_id": "user-2"}), key(order=[{"expires": "asc"}, BY_ID], cursor={"token": "key-2"}),
    key(order=BY_ID, distinct=["user_id"]), key(order=BY_ID, distinct=["user_id", "team_id"]), key(order=[{"spend": "desc"}], distinct=["user_id"]), key(order=BY_ID, distinct=["user_id"], take=1), key(order=BY_ID, distinct=["user_id"], skip=1), key(order=BY_ID, distinct=["blocked"], take=2), key(order=BY_ID, distinct="user_id"), key(order=BY_ID, distinct=[]), key(order=BY_ID, distinct=["none"]), key(order=BY_ID, distinct=["budget_duration"], take=-1), key(order={"token": "desc"}, distinct=["user_id"], cursor={"token": "key-4"}),
    team(order=[{"team_alias": "asc"}]), team(order=[{"team_alias": "desc"}]), team(order=[{"max_budget": "desc"}, {"team_id": "asc"}]), team(order=[{"litellm_organization_table": {"litellm_budget_table": {"max_budget": "desc"}}}, {"team_id": "asc"}]),
    key(where=None, order=BY_ID), key(order=BY_ID, where={"token": {"in": []}}), key(no_such_argument=1),
]  # fmt: skip

INCLUDES: list[tuple[str, Any, Any]] = [
    ("verificationtoken", {"token": "key-1"}, {"litellm_budget_table": True}), ("verificationtoken", {"token": "key-5"}, {"litellm_budget_table": True, "litellm_organization_table": True, "jwt_key_mappings": True}), ("verificationtoken", {"token": "key-1"}, {"litellm_budget_table": False, "object_permission": True}), ("verificationtoken", {"token": "key-1"}, {}), ("verificationtoken", {"token": "key-1"}, {"litellm_organization_table": {"include": {"litellm_budget_table": True, "teams": {"order_by": {"team_id": "asc"}}}}}),
    ("verificationtoken", {"token": "key-1"}, {"no_such": True}), ("verificationtoken", {"token": "key-1"}, {"key_alias": True}), ("verificationtoken", {"token": "key-1"}, {"litellm_budget_table": None}), ("verificationtoken", {"token": "key-1"}, {"litellm_budget_table": "yes"}), ("verificationtoken", {"token": "key-1"}, {"litellm_budget_table": {"include": {"keys": {"order_by": {"token": "asc"}, "where": {"spend": {"gt": 0}}}}}}), ("verificationtoken", {"token": "key-1"}, {"litellm_budget_table": {"where": {"budget_id": "budget-1"}}}), ("verificationtoken", {"token": "key-1"}, {"litellm_budget_table": {"where": {"budget_id": "budget-2"}}}), ("verificationtoken", {"token": "key-1"}, {"litellm_budget_table": {"include": {"no_such": True}}}),
    ("organizationtable", {"organization_id": "org-1"}, {"teams": True}), ("organizationtable", {"organization_id": "org-1"}, {"members": True, "teams": {"where": {"blocked": True}}, "litellm_budget_table": True}), ("organizationtable", {"organization_id": "org-1"}, {"members": {"include": {"user": True, "litellm_budget_table": True}, "order_by": {"user_id": "desc"}}}), ("organizationtable", {"organization_id": "org-2"}, {"members": {"where": {"user_id": "none"}}, "keys": True, "users": True}),
    ("organizationtable", {"organization_id": "org-1"}, {"teams": {"order_by": {"team_id": "desc"}, "take": 1}}), ("organizationtable", {"organization_id": "org-1"}, {"teams": {"order_by": {"team_id": "asc"}, "skip": 1}}), ("organizationtable", {"organization_id": "org-1"}, {"teams": {"order_by": [{"spend": "desc"}], "take": -1}}), ("organizationtable", {"organization_id": "org-1"}, {"teams": {"order_by": {"team_id": "asc"}, "cursor": {"team_id": "team-2"}}}), ("organizationtable", {"organization_id": "org-1"}, {"teams": {"order": {"team_id": "asc"}}}), ("organizationtable", {"organization_id": "org-1"}, {"teams": {"order_by": {"team_id": "asc"}, "distinct": ["organization_id"]}}), ("organizationtable", {"organization_id": "org-1"}, {"teams": {"take": 0}}), ("organizationtable", {"organization_id": "org-1"}, {"teams": {"nothing": 1}}), ("organizationtable", {"organization_id": "org-1"}, {"teams": {"where": {"nothing": 1}}}),
    ("workflowrun", {"run_id": "run-1"}, {"events": {"order_by": {"sequence_number": "desc"}, "take": 1}}), ("workflowrun", {"run_id": "run-1"}, {"events": {"order_by": {"sequence_number": "asc"}}, "messages": True}), ("workflowrun", {"run_id": "run-2"}, {"messages": True, "events": {"include": {"run": True}}}),
    ("agentstable", {"agent_id": "agent-1"}, {"identity": True, "retired_identities": True}), ("agentstable", {"agent_id": "agent-2"}, {"identity": True}), ("agentidentity", {"agent_id": "agent-1"}, {"agent": {"include": {"object_permission": True}}}), ("usertable", {"user_id": "user-1"}, {"organization_memberships": {"order_by": {"organization_id": "asc"}, "include": {"organization": True}}, "object_permission": True, "litellm_organization_table": True}), ("usertable", {"user_id": "user-2"}, {"invitations_user": True, "invitations_created": True}), ("invitationlink", {"id": "invitation-1"}, {"liteLLM_user_table_user": True, "liteLLM_user_table_created": True, "liteLLM_user_table_updated": True}), ("teamtable", {"team_id": "team-1"}, {"litellm_model_table": True, "projects": True}), ("modeltable", {"id": 7}, {"team": True}), ("teammembership", {"user_id_team_id": {"user_id": "user-1", "team_id": "team-1"}}, {"litellm_budget_table": {"include": {"team_membership": {"order_by": {"team_id": "asc"}}}}}), ("config", {"param_name": "array"}, {"x": True}), ("endusertable", {"user_id": "end-1"}, {"litellm_budget_table": True}),
]  # fmt: skip

MANY_INCLUDES = [
    call("organizationtable.find_many", order={"organization_id": "asc"}, include={"teams": {"order_by": {"team_id": "asc"}, "take": 1}}),
    call("organizationtable.find_many", order={"organization_id": "asc"}, include={"teams": {"order_by": {"team_id": "desc"}, "take": -1}}),
    call("organizationtable.find_many", order={"organization_id": "asc"}, include={"teams": {"order_by": {"team_id": "asc"}, "skip": 1, "take": 1}}),
    call("workflowrun.find_many", order={"run_id": "asc"}, include={"events": {"order_by": {"sequence_number": "asc"}, "distinct": ["step_name"]}}),
    call("workflowrun.find_many", order={"run_id": "asc"}, include={"events": {"order_by": {"sequence_number": "desc"}, "where": {"event_type": "step.started"}, "take": 1}}),
    call("verificationtoken.find_many", order={"token": "asc"}, take=2, include={"litellm_budget_table": True}),
    call("budgettable.find_many", order={"budget_id": "asc"}, include={"keys": {"order_by": {"token": "asc"}}, "end_users": True}),
    call("usertable.find_first", where={"user_id": "user-1"}, include={"organization_memberships": {"where": {"organization": {"is": {"organization_alias": "Acme"}}}}}),
]  # fmt: skip


def includes() -> list[Case]:
    return [
        case(f"include {model} {include}", call(f"{model}.find_unique", where=where, include=include))
        for model, where, include in INCLUDES
    ]


COUNTS = [
    call("verificationtoken.count"), call("verificationtoken.count", where={"user_id": "user-1"}), call("verificationtoken.count", where={"user_id": None}), call("verificationtoken.count", take=2), call("verificationtoken.count", skip=2), call("verificationtoken.count", select={"_all": True}), call("verificationtoken.count", select={"_all": True, "user_id": True, "expires": True}), call("verificationtoken.count", select={"blocked": True}), call("verificationtoken.count", select={}), call("verificationtoken.count", select={"_all": False, "token": True}),
    call("verificationtoken.count", where={"nothing": 1}), call("verificationtoken.count", select={"nothing": True}), call("verificationtoken.count", where={"litellm_budget_table": {"is": {"max_budget": {"gt": 1}}}}), call("verificationtoken.count", where={"OR": []}), call("verificationtoken.count", cursor={"token": "key-3"}), call("organizationtable.count", where={"teams": {"some": {}}}),
]  # fmt: skip


def log(**arguments: Any) -> Any:
    return call("spendlogs.group_by", **arguments)


def day(**arguments: Any) -> Any:
    return call("dailyuserspend.group_by", **arguments)


GROUPS = [
    log(by=["api_key"], order={"api_key": "asc"}), log(by=["api_key"], sum={"spend": True, "total_tokens": True}, order={"api_key": "asc"}), log(by=["api_key", "model"], count=True, order=[{"api_key": "asc"}, {"model": "desc"}]), log(by=["model"], count={"_all": True, "team_id": True}, order={"model": "asc"}), log(by=["model"], count={"status": True}, order={"model": "asc"}), log(by=["model"], avg={"spend": True, "total_tokens": True}, order={"model": "asc"}), log(by=["model"], min={"spend": True, "startTime": True, "api_key": True}, max={"spend": True, "endTime": True, "total_tokens": True, "status": True}, order={"model": "asc"}),
    log(by=["startTime"], sum={"spend": True}, order={"startTime": "asc"}), log(by=["team_id"], sum={"spend": True}, order={"team_id": "asc"}), log(by=["team_id"], sum={"spend": True}, order={"team_id": "desc"}), log(by=["user"], where={"model": "gpt-4o"}, sum={"spend": True}), log(by=["user"], where={"startTime": {"gte": moment("2024-01-02T00:00:00")}}, sum={"prompt_tokens": True}, order={"user": "asc"}), log(by=["api_key"], sum={"spend": True}, order={"_sum": {"spend": "desc"}}), log(by=["api_key"], count=True, order={"_count": {"api_key": "desc"}}, take=1),
    log(by=["api_key"], sum={"spend": True}, order={"api_key": "asc"}, skip=1), log(by=["api_key"], sum={"spend": True}, order={"api_key": "desc"}, take=2), log(by=["api_key"], sum={"spend": True}, order={"api_key": "asc"}, take=-1), log(by=["api_key"], sum={"spend": True}, having={"spend": {"_sum": {"gt": 0.2}}}, order={"api_key": "asc"}), log(by=["api_key"], having={"api_key": "key-1"}), log(by=["api_key"], having={"api_key": {"in": ["key-1", "key-3"]}}, order={"api_key": "asc"}), log(by=["api_key"], having={"total_tokens": {"_avg": {"gte": 5}}}, order={"api_key": "asc"}), log(by=["api_key"], having={"OR": [{"api_key": "key-4"}, {"spend": {"_max": {"lt": 0.1}}}]}, order={"api_key": "asc"}), log(by=["api_key"], having={"request_id": {"_count": {"gt": 1}}}), log(by=["api_key"], having={"NOT": {"api_key": "key-1"}}, order={"api_key": "asc"}), log(by=["model"], having={"spend": {"gt": 1}}),
    log(by="api_key", order={"api_key": "asc"}), log(by=[]), log(by=["nothing"]), log(by=["api_key"], sum={"model": True}), log(by=["api_key"], sum={"nothing": True}), log(by=["api_key"], sum={}), log(by=["api_key"], count=False, order={"api_key": "asc"}), log(by=["api_key"], order={"model": "asc"}), log(by=["api_key"], where={"nothing": 1}), log(by=["api_key"], take=1), log(by=["api_key"], skip=1), log(by=["request_tags"], order={"request_tags": "asc"}), log(by=["status"], count={"_all": True}, order={"status": "asc"}), log(by=["api_key"], where={"api_key": "none"}, sum={"spend": True}),
    day(by=["user_id"], sum={"prompt_tokens": True, "spend": True}, order={"user_id": "asc"}), day(by=["date"], sum={"prompt_tokens": True, "completion_tokens": True, "api_requests": True}, avg={"prompt_tokens": True}, order={"date": "asc"}), day(by=["date"], min={"prompt_tokens": True}, max={"prompt_tokens": True}, count=True, order={"date": "asc"}), day(by=["prompt_tokens"], order={"prompt_tokens": "asc"}), day(by=["date", "model"], sum={"spend": True}, order=[{"date": "asc"}, {"model": "asc"}]), day(by=["created_at"], max={"updated_at": True}, order={"created_at": "asc"}), day(by=["user_id"], having={"prompt_tokens": {"_sum": {"gt": 20}}}, order={"user_id": "asc"}), day(by=["user_id"], sum={"spend": True}, order=[{"_sum": {"spend": "desc"}}, {"user_id": "asc"}]),
    call("teamtable.group_by", by=["organization_id"], sum={"spend": True, "max_budget": True, "tpm_limit": True}, order={"organization_id": "asc"}), call("teamtable.group_by", by=["blocked"], count=True, avg={"max_budget": True, "tpm_limit": True}, order={"blocked": "asc"}), call("teamtable.group_by", by=["max_budget"], order={"max_budget": "asc"}), call("teamtable.group_by", by=["models"], count=True, order={"models": "asc"}), call("teamtable.group_by", by=["model_id"], max={"model_id": True}, order={"model_id": "asc"}), call("cronjob.group_by", by=["status"], count=True, order={"status": "asc"}), call("cronjob.group_by", by=["status"], max={"status": True}, order={"status": "asc"}), call("verificationtoken.group_by", by=["user_id"], count={"_all": True}, where={"litellm_budget_table": {"is": {"budget_id": "budget-1"}}}), call("managedfilecontenttable.group_by", by=["content"], order={"content": "asc"}), call("teamtable.group_by", by=["organization_id"], sum={"spend": True}, where={"metadata": {"path": ["level"], "equals": json(1)}}),
]  # fmt: skip

CASES = [
    *every_model(),
    *each("unique", UNIQUE),
    *each("page", ORDER_AND_PAGE),
    *includes(),
    *each("many", MANY_INCLUDES),
    *each("count", COUNTS),
    *each("group", GROUPS),
]

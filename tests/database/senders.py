"""Calls of LiteLLM's own functions, where its source alone does not tell the text or the kinds of what they send.

usage: DATABASE_URL=… python -m tests.database.senders < PLACES   by the release's Python; says what is refused
"""

import asyncio
import datetime as dt
import importlib
import inspect
import itertools
import sys
import sysconfig
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from prisma import Prisma

SITE_PACKAGES = Path(sysconfig.get_path("purelib"))
NOW = dt.datetime(2026, 1, 2, 3, 4, 5, tzinfo=dt.UTC)
DAY, NEXT_DAY = "2026-01-02", "2026-01-03"
TIME, NEXT_TIME = f"{DAY} 00:00:00", f"{NEXT_DAY} 00:00:00"


class Recorder:
    """A connected client that notes from where it is asked in raw SQL, and what is refused.

    LiteLLM catches many errors, so that only the client sees them all.

    Args:
        client: Whom it asks.
        recorder: Whose notes it goes on with, in a transaction.
    """

    def __init__(self, client: Prisma, recorder: "Recorder | None" = None) -> None:
        self.client = client
        self.db = self.read_db = self  # LiteLLM's PrismaClient has its clients there
        self.places: set[str] = recorder.places if recorder else set()
        self.refused: list[str] = recorder.refused if recorder else []

    def __getattr__(self, name: str) -> Any:
        return getattr(self.client, name)

    @asynccontextmanager
    async def tx(self, **options: Any) -> AsyncIterator["Recorder"]:
        async with self.client.tx(**options) as transaction:
            yield Recorder(transaction, self)

    async def query_raw(self, query: str, *args: Any, **options: Any) -> Any:
        return await self._ask(self.client.query_raw, query, *args, **options)

    async def query_first(self, query: str, *args: Any, **options: Any) -> Any:
        return await self._ask(self.client.query_first, query, *args, **options)

    async def execute_raw(self, query: str, *args: Any) -> Any:
        return await self._ask(self.client.execute_raw, query, *args)

    async def _ask(self, ask: Callable[..., Awaitable[Any]], query: str, *args: Any, **options: Any) -> Any:
        frame = inspect.currentframe()
        while frame is not None:
            if (path := Path(frame.f_code.co_filename)).is_relative_to(SITE_PACKAGES):
                name = frame.f_code.co_qualname.replace(".<locals>", "")
                self.places.add(f"{path.relative_to(SITE_PACKAGES)}:{name}")
            frame = frame.f_back
        try:
            return await ask(query, *args, **options)
        except Exception as error:
            self.refused.append(f"{error!r}\n  {args}\n  {query}")
            raise


Sender = Callable[[Recorder], Awaitable[None]]
SENDERS: dict[Sender, set[str]] = {}  # and the places whose statements each sends


def sends(*places: str) -> Callable[[Sender], Sender]:
    """Say from which places of LiteLLM's source a function has statements sent."""

    def register(sender: Sender) -> Sender:
        SENDERS[sender] = set(places)
        return sender

    return register


def litellm(module: str) -> Any:
    """Import a module of LiteLLM: late, for it takes seconds."""
    return importlib.import_module(f"litellm.{module}")


def user(role: str, name: str | None = None) -> Any:
    return litellm("proxy._types").UserAPIKeyAuth(user_id=name, user_role=role)


def request(path: str, **query: object) -> Any:
    """Make what FastAPI hands to an endpoint."""
    fastapi = importlib.import_module("fastapi")
    scope = {"type": "http", "method": "GET", "path": path, "headers": [], "server": ("localhost", 4000)}
    return fastapi.Request({**scope, "scheme": "http", "query_string": urlencode(query).encode()})


async def ask(endpoint: Callable[..., Awaitable[Any]], **given: Any) -> None:
    """Call an endpoint with its defaults, as FastAPI does."""
    parameters = inspect.signature(endpoint).parameters
    defaults = {name: getattr(one.default, "default", one.default) for name, one in parameters.items()}
    await endpoint(**{name: given.get(name, default) for name, default in defaults.items()})


async def teams_to_read(_: Any) -> tuple[str, ...]:
    return ("reds", "blues")


@sends("litellm/integrations/focus/database.py:FocusLiteLLMDatabase.get_usage_data")
async def usage_data(_: Recorder) -> None:
    database = litellm("integrations.focus.database").FocusLiteLLMDatabase()
    for limit, start, end in itertools.product((None, 5), (None, NOW), (None, NOW)):
        await database.get_usage_data(limit=limit, start_time_utc=start, end_time_utc=end)


@sends(
    "litellm/proxy/db/autorouter_session_rollup.py:_flush_session_partition",
    "litellm/proxy/db/autorouter_session_rollup.py:write_autorouter_turn",
)
async def autorouter_turns(recorder: Recorder) -> None:
    rollup = litellm("proxy.db.autorouter_session_rollup")
    facts = {"total_tokens": 7, "spend": 0.5, "saved_spend": 0.0, "classifier_cost": 0.25, "turn_at": NOW}
    names = {"api_key": "k", "session_id": "s", "router_name": "r", "router_type": "complexity", "model": "m"}
    cache = {"covered": True, "cache_hit": False, "cache_touched": True}
    bare = rollup.AutoRouterTurnTransaction(**names, **facts, **cache, cache_ttl_seconds=None)
    more = {"tier": "high", "baseline_model": "b", "savings_estimated_turns": 1, "user_id": "u"}
    whole = rollup.AutoRouterTurnTransaction(**names, **facts, **cache, cache_ttl_seconds=300, **more)
    await rollup.flush_autorouter_turn_transactions(recorder, (bare, bare, whole, whole))
    for turn in (bare, whole):  # sent after the other one has failed
        await rollup.write_autorouter_turn(recorder, turn, rollup.UPSERT_AUTOROUTER_USER_SESSION_SQL)


@sends("litellm/proxy/db/baseline_accounting.py:_publish")
async def baseline_changes(recorder: Recorder) -> None:
    accounting = litellm("proxy.db.baseline_accounting")
    published = {"comparison_id": "c", "comparison_started_at": 1.5, "status": "estimated", "reason": "", "version": 3}
    targets = tuple({"entity": one, "entity_id": "e"} for one in accounting.DAILY_SPEND_TABLES)
    money = {"covered_delta": 1, "actual_delta": 0.5, "savings_delta": 0.25}
    names = {"api_key": "k", "user_id": "u", "session_id": "s", "router_name": "r", "baseline_model": "b"}
    change = accounting._Change(
        request_id="q",
        publication={**published, "actual_spend": 0.5, "baseline_spend": 0.75},
        date=DAY,
        router_type="complexity",
        daily={"date": DAY, "api_key": "k", "targets": targets},
        **names,
        **money,
    )
    await accounting._publish(recorder, (change,))


@sends("litellm/proxy/db/db_spend_update_writer.py:DBSpendUpdateWriter._update_daily_spend")
async def daily_spend(recorder: Recorder) -> None:
    writer = litellm("proxy.db.db_spend_update_writer")
    for entity, table in writer.DAILY_SPEND_TABLES.items():
        bare = {"date": DAY, "api_key": "k", table.entity_id_column: "e", "model": None, "spend": 0.0}
        whole = {**bare, "model": "m", "model_group": "g", "prompt_tokens": 3, "spend": 0.5, "request_id": "q"}
        await writer.DBSpendUpdateWriter._update_daily_spend(
            n_retry_times=0,
            prisma_client=recorder,
            proxy_logging_obj=litellm("proxy.proxy_server").proxy_logging_obj,
            daily_spend_transactions={"bare": bare, "whole": whole},
            entity_type=entity,
            entity_id_field=table.entity_id_column,
        )


@sends(
    "litellm/proxy/db/db_transaction_queue/spend_log_cleanup.py:SpendLogCleanup._count_remaining",
    "litellm/proxy/db/db_transaction_queue/spend_log_cleanup.py:SpendLogCleanup._delete_old_rows_batched",
    "litellm/proxy/db/db_transaction_queue/spend_log_cleanup.py:SpendLogCleanup._execute_delete_batch",
)
async def cleanup(recorder: Recorder) -> None:
    kinds = ("spend_logs", "autorouter_session", "health_check", "daily_tag_spend")
    settings = {f"maximum_{kind}_retention_period": "1d" for kind in kinds}
    cleaner = litellm("proxy.db.db_transaction_queue.spend_log_cleanup").SpendLogCleanup(general_settings=settings)
    await cleaner.cleanup_old_spend_logs(recorder)


@sends(
    "litellm/proxy/db/db_transaction_queue/spend_logs_partition_manager.py:SpendLogsPartitionManager.ensure_partitions",
    "litellm/proxy/db/db_transaction_queue/spend_logs_partition_manager.py:"
    "SpendLogsPartitionManager.drop_partitions_older_than",
)
async def partitions(recorder: Recorder) -> None:
    for statement in (
        'ALTER TABLE "LiteLLM_SpendLogs" RENAME TO whole',
        'CREATE TABLE "LiteLLM_SpendLogs" (LIKE whole INCLUDING DEFAULTS) PARTITION BY RANGE ("startTime")',
    ):
        await recorder.client.execute_raw(statement)
    manager = litellm("proxy.db.db_transaction_queue.spend_logs_partition_manager").SpendLogsPartitionManager()
    assert await manager.is_partitioned(recorder, lambda: 1000)
    made = await manager.ensure_partitions(recorder, lambda: 1000)
    assert made
    later = dt.datetime.now(dt.UTC) + dt.timedelta(days=1000)
    assert sorted(await manager.drop_partitions_older_than(recorder, later, lambda: 1000)) == sorted(made)
    for statement in ('DROP TABLE "LiteLLM_SpendLogs"', 'ALTER TABLE whole RENAME TO "LiteLLM_SpendLogs"'):
        await recorder.client.execute_raw(statement)


@sends(
    "litellm/proxy/db/db_transaction_queue/spend_logs_partition_manager.py:SpendLogsPartitionManager._drop_each_while"
)
async def elapsed_partitions(recorder: Recorder) -> None:
    manager = litellm("proxy.db.db_transaction_queue.spend_logs_partition_manager").SpendLogsPartitionManager()

    async def is_over_target() -> bool:
        return True

    elapsed = ((NOW, "p20251231"), (NOW, "p20260101"))
    async for _ in manager._drop_each_while(recorder, elapsed, lambda: 1000, is_over_target):
        pass


@sends("litellm/proxy/db/master_key_migration.py:_reencrypt_row")
async def reencrypted(recorder: Recorder) -> None:
    migration = litellm("proxy.db.master_key_migration")
    for column in await migration._secret_columns_in(recorder):
        row = {column.primary_key: "x", column.column: {"secret": "old"} if column.is_json else "old"}
        await migration._reencrypt_row(recorder, column, row, lambda _: "new")


@sends("litellm/proxy/management_endpoints/key_management_endpoints.py:key_aliases")
async def key_aliases(recorder: Recorder) -> None:
    await recorder.client.litellm_usertable.create(data={"user_id": "anna", "teams": ["reds", "blues"]})
    aliases = litellm("proxy.management_endpoints.key_management_endpoints").key_aliases
    callers = (user("proxy_admin"), user("internal_user", "anna"), user("internal_user", "nobody"))
    for caller, search, team in itertools.product(callers, (None, "x"), (None, "reds")):
        await ask(aliases, user_api_key_dict=caller, search=search, team_id=team)


@sends(
    "litellm/proxy/management_endpoints/management_v1/budgets.py:PrismaBudgetListExecutor.count",
    "litellm/proxy/management_endpoints/management_v1/budgets.py:PrismaBudgetListExecutor.find_many",
)
async def budgets(_: Recorder) -> None:
    listed = litellm("proxy.management_endpoints.management_v1.budgets").list_budgets
    filters = {
        "filter[budget_duration][in]": "7d,30d",
        "filter[max_budget][gte]": 1,
        "filter[max_budget][lte]": 2.5,
        "filter[created_at][gte]": NOW.isoformat(),
        "filter[created_at][lte]": NOW.isoformat(),
        "q": "x",
        "sort": "-max_budget,budget_id",
    }
    nulls = {"filter[budget_duration][is_null]": "true", "filter[max_budget][is_null]": "false"}
    for query in ({}, filters, nulls):
        await listed(request=request("/management/v1/budgets", **query), user_api_key_dict=user("proxy_admin"))


@sends("litellm/proxy/management_endpoints/management_v1/spend_logs.py:_list_spend_log_facet")
async def facets(_: Recorder) -> None:
    listed = litellm("proxy.management_endpoints.management_v1.spend_logs")._list_spend_log_facet
    for caller, text, column in itertools.product(
        (user("proxy_admin"), user("internal_user", "anna")), (None, "x"), ("end_user", "user")
    ):
        await listed(
            request=request("/management/v1/spend_logs/users"),
            user_api_key_dict=caller,
            log_team_lookup=teams_to_read,
            start_time=NOW,
            end_time=NOW.replace(tzinfo=None),
            q=text,
            page=2,
            page_size=50,
            column=column,
        )


@sends("litellm/proxy/management_endpoints/model_management_endpoints.py:_claimed_capability_violation")
async def capabilities(recorder: Recorder) -> None:
    endpoints = litellm("proxy.management_endpoints.model_management_endpoints")
    for capability in endpoints.GATED_AUTO_ROUTER_CAPABILITIES:
        await endpoints._claimed_capability_violation(
            recorder, capability=capability, config_rows=(), model_id=None, limit=1
        )


@sends("litellm/proxy/management_endpoints/prompt_caching_requests.py:get_prompt_caching_requests")
async def prompt_caching(_: Recorder) -> None:
    asked = litellm("proxy.management_endpoints.prompt_caching_requests").get_prompt_caching_requests
    for which, cursor in itertools.product(("all", "injected", "hits"), ((None, None), (NOW, "q"))):
        await asked(user("proxy_admin"), NOW, NOW, 50, which, *cursor)


@sends(
    "litellm/proxy/management_endpoints/user_agent_analytics_endpoints.py:get_daily_active_users",
    "litellm/proxy/management_endpoints/user_agent_analytics_endpoints.py:get_weekly_active_users",
    "litellm/proxy/management_endpoints/user_agent_analytics_endpoints.py:get_monthly_active_users",
    "litellm/proxy/management_endpoints/user_agent_analytics_endpoints.py:get_tag_summary",
)
async def active_users(_: Recorder) -> None:
    endpoints = litellm("proxy.management_endpoints.user_agent_analytics_endpoints")
    for name in ("daily_active_users", "weekly_active_users", "monthly_active_users", "tag_summary"):
        for tag, tags in ((None, None), ("x", None), (None, ["x", "y"])):
            endpoint = getattr(endpoints, f"get_{name}")
            given = {"start_date": DAY, "end_date": NEXT_DAY} if name == "tag_summary" else {}
            await ask(endpoint, tag_filter=tag, tag_filters=tags, user_api_key_dict=user("proxy_admin"), **given)


@sends(
    "litellm/proxy/management_helpers/model_allowlist_rename_sync.py:sync_model_allowlists_for_renamed_model",
    "litellm/proxy/management_helpers/model_allowlist_rename_sync.py:_rewrite_allowlists",
)
async def renamed_model(recorder: Recorder) -> None:
    sync = litellm("proxy.management_helpers.model_allowlist_rename_sync").sync_model_allowlists_for_renamed_model
    cache = litellm("proxy.proxy_server").user_api_key_cache
    names = {"model_id": "1", "old_name": "old", "new_name": "new"}
    await recorder.client.litellm_teamtable.create(data={"team_id": "reds", "team_alias": "Reds", "models": ["old"]})
    await sync(recorder, **names, llm_router=None, user_api_key_cache=cache)
    facts = {"litellm_params": "{}", "created_by": "x", "updated_by": "x"}
    await recorder.client.litellm_proxymodeltable.create(data={"model_id": "2", "model_name": "old", **facts})
    await sync(recorder, **names, llm_router=None, user_api_key_cache=cache)


@sends(
    "litellm/proxy/spend_tracking/spend_management_endpoints.py:ui_view_spend_logs",
    "litellm/proxy/spend_tracking/spend_management_endpoints.py:_count_grouped_sessions",
    "litellm/proxy/spend_tracking/spend_management_endpoints.py:_fetch_session_representatives",
    "litellm/proxy/spend_tracking/spend_management_endpoints.py:_ui_session_grouped_spend_logs",
    "litellm/proxy/spend_tracking/session_page.py:_sql_reader.read",
    "litellm/proxy/utils.py:query_raw_within_statement_timeout",
)
async def spend_logs(recorder: Recorder) -> None:
    for number in range(3):
        names = {"request_id": f"q{number}", "session_id": f"s{number}", "user": "anna", "api_key": "k"}
        times = {"startTime": NOW, "endTime": NOW, "call_type": "acompletion"}
        await recorder.client.litellm_spendlogs.create(data={**names, **times})
    endpoint = litellm("proxy.spend_tracking.spend_management_endpoints").ui_view_spend_logs

    async def view(path: str = "/spend/logs/ui", caller: Any = None, **given: Any) -> None:
        caller = caller or user("proxy_admin")
        own = {"request": request(path), "log_team_lookup": teams_to_read, "user_api_key_dict": caller}
        await ask(endpoint, **{**own, "start_date": TIME, "end_date": NEXT_TIME, **given})

    texts = ["api_key", "user_id", "session_id", "team_id", "model", "model_id", "model_group", "end_user"]
    texts += ["key_alias", "error_code", "error_message", "search", "request_id"]
    filters: list[dict[str, Any]] = [{name: "x"} for name in texts]
    filters += [{"min_spend": 1}, {"max_spend": 0.5}, {"exclude_internal_health_checks": True}, {}]
    filters += [{"used_client_oauth_token": flag} for flag in (True, False)]
    filters += [{"status_filter": status} for status in ("success", "failure")]
    filters += [{"cache_hit_filter": state} for state in ("hit", "miss")]
    filters += [{"span_type": kind} for kind in ("llm", "agent", "mcp", "batch")]
    filters += [{name: value for one in filters if "search" not in one for name, value in one.items()}]
    for one, grouped, path in itertools.product(filters, (False, True), ("/spend/logs/ui", "/spend/logs/v2")):
        await view(path, **one, group_by_session=grouped)
    await view(caller=user("internal_user", "anna"))
    for column in ("spend", "total_tokens", "startTime", "endTime", "request_duration_ms", "model", "ttft_ms"):
        for grouped, order in itertools.product((False, True), ("asc", "desc")):
            await view(sort_by=column, sort_order=order, group_by_session=grouped)
            cursor = f"{NOW.isoformat()}|k|s1"
            await view(sort_by=column, sort_order=order, group_by_session=grouped, session_cursor=cursor, page_size=1)
    for page in (1, 2, 9):
        await view(group_by_session=True, page=page, page_size=1)


@sends("litellm/repositories/daily_activity_repository.py:DailyActivityRepository._query")
async def daily_activity(recorder: Recorder) -> None:
    types = litellm("types.repositories.daily_activity")
    repository = litellm("repositories.daily_activity_repository").DailyActivityRepository(recorder, proxy_reads=None)
    sql = litellm("repositories.daily_activity_sql")
    names = (None, (), ("x", "y"))
    conditions = itertools.product(list(types.DailyActivityTable)[:1], names, ((), ("z",)), names, (None, "m"))
    tables = itertools.product(types.DailyActivityTable, names[-1:], (("z",),), names[-1:], ("m",))
    for table, entities, excluded, keys, model in (*conditions, *tables):
        (field,) = types._ENTITY_FIELDS[table]
        scope = types.DailyActivityScope(
            table=table,
            entity_id_field=field,
            entity_ids=entities,
            exclude_entity_ids=excluded,
            api_keys=keys,
            start_date=DAY,
            end_date=NEXT_DAY,
            model=model,
            timezone_offset_minutes=None,
        )
        await repository.aggregated(scope, include_entity_breakdown=True, api_key_limit=5)
        await repository.search_keys(scope, search="x", limit=5)
        await repository.key_page(scope, offset=1, limit=5)
        await repository.cache_leakage_keys(scope, limit=5)
        for flag in (True, False):
            await repository.model_top_keys(scope, model_group="g", by_model_group=flag, limit=5)
        cursor = sql.ExportCursor(date=DAY, entity_id="x", group_key="k")
        for kind, after in itertools.product(types.ExportType, (None, cursor)):
            await repository._query(sql.build_export_sql(scope, export_type=kind, after=after, batch_size=5))


@sends("litellm/accounting/application.py:apply_deliveries")
async def deliveries(recorder: Recorder) -> None:
    names = ("user", "team_id", "organization_id", "end_user", "agent_id", "project_id", "api_key")
    entities = dict.fromkeys(names, "x")
    bare = {"request_id": "q", "startTime": NOW, "spend": 0.5, "model": None, "model_group": None, "metadata": {}}
    bare |= {"custom_llm_provider": None, **entities}
    usage = {"prompt_tokens": 3, "completion_tokens": 4, "request_duration_ms": 5, "request_tags": ["t"]}
    window = {"entity_type": "key", "entity_id": "x", "window_duration": "1d", "window_start": NOW.isoformat()}
    metadata = {"accounting_entities": entities, "accounting_windows": [window]}
    whole = {**bare, **usage, "model": "m", "model_group": "g", "startTime": NOW.isoformat(), "metadata": metadata}
    projection = litellm("repositories.accounting_delivery_repository").DeliveryProjection
    logging = litellm("proxy.proxy_server").proxy_logging_obj
    async with recorder.tx(max_wait=60_000, timeout=60_000) as transaction:
        await litellm("accounting.application").apply_deliveries(
            transaction,
            (projection(bare), projection(whole)),
            prisma_client=recorder,
            writer=logging.db_spend_update_writer,
            proxy_logging_obj=logging,
        )


@sends("litellm/proxy/db/tool_registry_writer.py:batch_upsert_tools")
async def tools(recorder: Recorder) -> None:
    names = dict.fromkeys(("origin", "created_by", "key_hash", "team_id", "key_alias", "user_agent"), "x")
    found = [{"tool_name": "bare"}, {"tool_name": "whole", "call_count": 2, **names}]
    for _ in range(2):
        await litellm("proxy.db.tool_registry_writer").batch_upsert_tools(recorder, found)


@sends("litellm/proxy/management_helpers/team_list_sorting.py:sorted_team_ids")
async def sorted_teams(recorder: Recorder) -> None:
    sorting = litellm("proxy.management_helpers.team_list_sorting")
    alias = {"OR": [{"team_alias": {"contains": "x", "mode": "insensitive"}}, {"team_alias": {"startsWith": "x"}}]}
    filters: tuple[dict[str, Any], ...] = (
        {},
        {"OR": []},
        {"team_id": {"in": ["x", "y"]}, "organization_id": "x", "AND": [alias]},
    )
    for column, where, descending in itertools.product(sorting.COMPUTED_TEAM_SORTS, filters, (False, True)):
        await sorting.sorted_team_ids(recorder, where=where, sort_by=column, descending=descending, skip=1, take=5)


@sends("litellm_enterprise/proxy/hooks/managed_files.py:_scoped_file_rows")
async def managed_files(recorder: Recorder) -> None:
    listed = importlib.import_module("litellm_enterprise.proxy.hooks.managed_files")._scoped_file_rows
    user_s, team_s = {"created_by": "anna"}, {"team_id": "reds"}
    for owner, keys, cursor, direction in itertools.product(
        ({}, user_s, team_s, {"OR": [user_s, team_s]}), ((), ("x", "y")), (None, "x"), ("asc", "desc")
    ):
        await listed(recorder, owner, frozenset(keys), cursor, direction, 5)


async def main(places: set[str]) -> int:
    """Have statements sent from places of LiteLLM's source, say what is refused, and return the exit code."""
    client = Prisma()
    await client.connect()
    failed = False
    for sender, its in SENDERS.items():
        if not its & places:
            continue
        recorder = Recorder(client)
        litellm("proxy.proxy_server").prisma_client = recorder
        try:
            await sender(recorder)
        except Exception:  # noqa: BLE001  # of any kind, for LiteLLM's code raises it
            recorder.refused.append(traceback.format_exc())
        recorder.refused += [f"nothing is sent from {place}" for place in sorted(its & places - recorder.places)]
        for one in recorder.refused:
            failed = True
            sys.stderr.write(f"{sender.__name__}: {one}\n\n")
    await client.disconnect()
    return int(failed)


if __name__ == "__main__":
    sys.exit(asyncio.run(main(set(sys.stdin.read().splitlines()))))

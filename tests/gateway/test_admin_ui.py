"""LiteLLM's admin UI in a real browser, on the stand-in for Prisma: what its pages show, and what the database has.

The tests go one after the other, as an administrator does. `make screenshots` keeps the pictures that they take.
"""

import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import expect

from tests.fix_postgres import Cluster
from tests.fix_server import wait_for
from tests.gateway.fix_admin_ui import AdminUI, browsing
from tests.gateway.fix_litellm import CHECKOUT, MASTER_KEY
from tests.gateway.fix_managed import Managed, managing

CALLS = 3
COSTS = CALLS * (5 * 0.001 + 2 * 0.01)
# What LiteLLM refuses by its own rules, whatever its database is.
REFUSED = {
    "401 POST /v2/login",  # the wrong password, below
    "400 GET /config/field/info",  # settings that nobody has set: `plugins`, `enable_public_model_hub`
    "501 GET /v1/traces",  # page Lens: it needs a service of its own, LITELLM_LENS_URL
    "501 GET /v1/traces/agents",
}


@pytest.fixture(scope="module")
def managed(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Managed]:
    # A banner on each page says that workers count apart without Redis.
    with managing(cluster, tmp_path_factory.mktemp("admin_ui"), LITELLM_DISABLE_NO_REDIS_WARNING="true") as started:
        yield started


@pytest.fixture(scope="module")
def pictures(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    kept: Path | None = request.config.getoption("--screenshots")
    return kept or tmp_path_factory.mktemp("screenshots")


@pytest.fixture(scope="module")
def ui(managed: Managed, pictures: Path) -> Iterator[AdminUI]:
    with browsing(f"http://127.0.0.1:{managed.litellm.port}", pictures) as started:
        yield started


@pytest.fixture(autouse=True)
def _say_what_is_there(ui: AdminUI, managed: Managed) -> Iterator[None]:
    """What a test that fails shows beneath its failure."""
    yield
    sys.stdout.write(f"{ui.page.url}\n{ui.page.locator('body').aria_snapshot()}\n{ui.refused}\n{managed.log[-5_000:]}")


def test_a_wrong_password_is_refused(ui: AdminUI, managed: Managed) -> None:
    ui.open("/ui")
    ui.log_in("a wrong password")
    expect(ui.page.get_by_text("Invalid credentials")).to_be_visible()
    assert managed.rows('SELECT count(*) FROM "LiteLLM_VerificationToken"') == [(0,)]


def test_the_master_key_logs_in(ui: AdminUI, managed: Managed) -> None:
    ui.log_in(MASTER_KEY)
    expect(ui.page.get_by_role("heading", name="Home")).to_be_visible()
    assert managed.rows('SELECT user_id, team_id FROM "LiteLLM_VerificationToken"') == [
        ("default_user_id", "litellm-dashboard")
    ]
    for what in ("Dismiss banner", "Dismiss search hint"):
        ui.page.get_by_role("button", name=what).click()


def test_a_team_is_made(ui: AdminUI, managed: Managed) -> None:
    ui.open("/ui/teams/")
    ui.page.get_by_role("button", name="Create Team").click()
    dialog = ui.page.get_by_role("dialog", name="Create Team")
    dialog.get_by_label("Team Name").fill("research")
    dialog.get_by_label("Max Budget (USD)").fill("50")
    dialog.get_by_label("Select Models").click()
    ui.page.get_by_role("option", name="talks").click()
    ui.page.keyboard.press("Escape")
    dialog.get_by_role("button", name="Create Team").click()
    expect(ui.row("research", "$0.00 of $50.00")).to_be_visible()
    assert managed.rows('SELECT team_alias, max_budget, models, spend FROM "LiteLLM_TeamTable"') == [
        ("research", 50, ["talks"], 0)
    ]


def test_a_key_is_made_and_used(ui: AdminUI, managed: Managed) -> None:
    ui.open("/ui/api-keys/")
    ui.page.get_by_role("button", name="Create New Key").click()
    dialog = ui.page.get_by_role("dialog", name="Create New Key")
    dialog.get_by_label("Team", exact=True).click()
    ui.page.get_by_role("option", name="research").click()
    dialog.get_by_label("Key Name").fill("laptop")
    dialog.get_by_role("button", name="Create Key").click()
    shown = ui.page.get_by_role("dialog", name="Save your Key").get_by_text(re.compile(r"^sk-\S+$"))
    expect(shown).to_be_visible()
    ui.take_picture("key")
    key = shown.inner_text()
    stored = managed.rows(
        """SELECT key_alias, team_alias, encode(sha256(convert_to(%(key)s, 'UTF8')), 'hex') = token
             FROM "LiteLLM_VerificationToken" JOIN "LiteLLM_TeamTable" USING (team_id)""",
        key=key,
    )
    assert stored == [("laptop", "research", True)]
    for _ in range(CALLS):
        assert managed.chat(key)["choices"]
    managed.chat(f"{key}-and-more", status=401)


def test_the_keys_page_has_what_it_spent(ui: AdminUI, managed: Managed) -> None:
    spent = "SELECT spend FROM \"LiteLLM_VerificationToken\" WHERE key_alias = 'laptop'"
    wait_for(lambda: managed.rows(spent) == [(pytest.approx(COSTS),)], "the key's spend")
    ui.open("/ui/api-keys/")
    expect(ui.row("laptop", "research", f"${COSTS:.4f}")).to_be_visible()
    ui.row("laptop").get_by_role("button").first.click()
    expect(ui.page.get_by_role("main")).to_contain_text(f"Lifetime spend: ${COSTS:.4f}")
    ui.open_each_tab()


def test_the_team_s_page_has_what_it_spent(ui: AdminUI, managed: Managed) -> None:
    spent = "SELECT spend FROM \"LiteLLM_TeamTable\" WHERE team_alias = 'research'"
    wait_for(lambda: managed.rows(spent) == [(pytest.approx(COSTS),)], "the team's spend")
    ui.open("/ui/teams/")
    ui.row("research").get_by_role("button").first.click()
    expect(ui.page.get_by_role("main")).to_contain_text(re.compile(rf"\${COSTS:.2f}\s*of \$50\.00"))
    ui.take_picture("team")
    ui.open_each_tab()


def test_the_usage_page_has_the_day(ui: AdminUI, managed: Managed) -> None:
    day = 'SELECT sum(successful_requests), sum(spend) FROM "LiteLLM_DailyUserSpend"'
    wait_for(lambda: managed.rows(day) == [(CALLS, pytest.approx(COSTS))], "the day's sum")
    ui.open("/ui/usage/")
    main = ui.page.get_by_role("main")
    expect(main).to_contain_text(f"{CALLS} ok")
    expect(main).to_contain_text(f"${COSTS:.2f}")
    expect(ui.row("laptop", f"${COSTS:.2f}")).to_be_visible()
    ui.take_picture("usage")
    views = ui.page.get_by_role("combobox").first
    views.click()
    names = ui.page.get_by_role("option").all_inner_texts()
    assert len(names) > 5
    ui.page.keyboard.press("Escape")
    for name in names:
        views.click()
        ui.page.get_by_role("option", name=name.splitlines()[0]).click()
        ui.settle()


def test_the_logs_page_has_the_calls(ui: AdminUI, managed: Managed) -> None:
    logged = 'SELECT request_id FROM "LiteLLM_SpendLogs" WHERE status = \'success\' ORDER BY "startTime"'
    wait_for(lambda: len(managed.rows(logged)) == CALLS, "the calls' log")
    ui.open("/ui/logs/")
    for (request,) in managed.rows(logged):
        expect(ui.row(request, "Success", "research", "laptop", f"${COSTS / CALLS:.6f}")).to_be_visible()
    ui.take_picture("logs")
    ui.row(request).get_by_role("cell").first.click()
    expect(ui.page.get_by_role("dialog", name=request)).to_contain_text("5 prompt tokens + 2 completion tokens")


def test_every_page_of_the_menu_opens(ui: AdminUI) -> None:
    ui.open("/ui/")
    menu = ui.page.get_by_role("complementary")
    closed = menu.get_by_role("button", expanded=False)
    for left in reversed(range(closed.count())):
        closed.first.click()
        expect(closed).to_have_count(left)
    pages = {link.get_attribute("href") or "": link.inner_text() for link in menu.locator("a[href^='/ui/']").all()}
    assert len(pages) > 30
    for page in pages:
        ui.open(page)
        expect(ui.page.get_by_role("main").first).not_to_be_empty()
        ui.open_each_tab()


def test_one_logs_out(ui: AdminUI) -> None:
    ui.open("/ui/")
    ui.page.get_by_role("button", name="Account menu").click()
    ui.page.get_by_text("Logout").click()
    expect(ui.page.get_by_role("textbox", name="Password")).to_be_visible()
    ui.open("/ui/api-keys/")
    expect(ui.page.get_by_role("textbox", name="Password")).to_be_visible()


def test_no_page_had_trouble(ui: AdminUI, managed: Managed) -> None:
    assert ui.refused == REFUSED
    assert ui.exceptions == []
    assert ui.went_elsewhere == set(), "what a closed network does not reach"
    managed.has_logged_no_error_of_the_database()


def test_the_document_shows_these_pictures(pictures: Path) -> None:
    document = CHECKOUT / "docs/admin-ui.md"
    shown = re.findall(r"\(images/(\S+)\)", document.read_text())
    assert sorted(shown) == sorted(file.name for file in pictures.iterdir())
    for name in shown:
        assert 0 < (document.parent / "images" / name).stat().st_size < 200_000

"""Keep stored responses as they are, and let who may not delete forget an end user.

Revision ID: 0003
Revises: 0002
"""

from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

# The drain may replace what it made up itself for an exchange whose gateway was killed, and nothing else. PostgreSQL's
# privileges know columns, not rows; its row-level security would refuse COPY.
KEEP = """
CREATE FUNCTION refuse_change() RETURNS trigger
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RAISE EXCEPTION 'a stored response is not changed' USING ERRCODE = 'insufficient_privilege';
END
$$;
COMMENT ON FUNCTION refuse_change() IS 'Refuse what a trigger is asked about';
CREATE TRIGGER keep_responses BEFORE UPDATE ON responses FOR EACH ROW
WHEN (OLD.outcome <> 'interrupted' OR OLD.finished_at IS NOT NULL) EXECUTE FUNCTION refuse_change();
"""
NO_KEEP = """
DROP TRIGGER keep_responses ON responses;
DROP FUNCTION refuse_change();
"""


def upgrade() -> None:
    """Bring the tables to this revision."""
    op.execute(KEEP)
    op.execute("ALTER FUNCTION forget_end_user(text) SECURITY DEFINER SET search_path = public, pg_temp")
    op.execute("REVOKE ALL ON FUNCTION forget_end_user(text) FROM PUBLIC")


def downgrade() -> None:
    """Bring the tables back to the revision before."""
    op.execute("GRANT EXECUTE ON FUNCTION forget_end_user(text) TO PUBLIC")
    op.execute("ALTER FUNCTION forget_end_user(text) SECURITY INVOKER RESET search_path")
    op.execute(NO_KEEP)

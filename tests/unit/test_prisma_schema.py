"""LiteLLM's schema.prisma is read as it is written; what is not understood is refused, with the line."""

import textwrap
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from litellm_sqlalchemy.prisma_client.schema import Call, Index, Name, Relation, SchemaError, Unique, parse

SCHEMA = textwrap.dedent("""\
    datasource client {
      provider = "postgresql"
      url      = env("DATABASE_URL")
    }

    // A team
    model Team {
      team_id    String   @id @default(uuid())
      alias      String?  @unique @map("team_alias") // behind a field
      spend      Float    @default(0.0)
      tags       String[] @default([])
      metadata   Json     @default("{\\"a\\": 1}")
      state      State    @default(ACTIVE)
      blocked    Boolean  @default(false)
      created_at DateTime @default(now())
      updated_at DateTime @default(now()) @updatedAt
      members    Member[]
      owner      Member?  @relation("owner", fields: [owner_id, team_id], references: [user_id, team_id])
      owner_id   String?

      @@index([state, created_at(sort: Desc)], map: "by_state")
      @@index([tags], type: Gin)
      @@map("teams")
    }

    model Member {
      user_id String
      team_id String
      team    Team   @relation(fields: [team_id], references: [team_id], onDelete: Cascade)
      owns    Team[] @relation("owner")
      @@id([user_id, team_id])
      @@unique([team_id, user_id], name: "of_team")
    }

    enum State {
      ACTIVE
      INACTIVE
    }
""")


def test_fields() -> None:
    schema = parse(SCHEMA)
    assert schema.enums == {"State": ("ACTIVE", "INACTIVE")}
    team = schema.models["Team"]
    assert (team.table, schema.models["Member"].table) == ("teams", "Member")
    fields = team.fields
    assert fields["team_id"].default == Call("uuid")
    assert (fields["alias"].column, fields["alias"].is_required) == ("team_alias", False)
    assert (fields["spend"].default, fields["blocked"].default, fields["metadata"].default) == (0.0, False, '{"a": 1}')
    assert (fields["tags"].default, fields["tags"].is_list, fields["tags"].is_required) == ((), True, True)
    assert (fields["state"].type, fields["state"].default) == ("State", Name("ACTIVE"))
    assert (fields["created_at"].is_updated_at, fields["updated_at"].is_updated_at) == (False, True)
    assert (fields["members"].column, fields["members"].is_list) == (None, True)


def test_keys_and_indexes() -> None:
    schema = parse(SCHEMA)
    team, member = schema.models["Team"], schema.models["Member"]
    assert team.primary_key == Unique(name="team_id", fields=("team_id",), constraint="teams_pkey")
    assert team.uniques == (Unique(name="alias", fields=("alias",), constraint="teams_team_alias_key"),)
    assert team.indexes == (
        Index(fields=(("state", False), ("created_at", True)), method="btree", name="by_state"),
        Index(fields=(("tags", False),), method="gin", name="teams_tags_idx"),
    )
    assert member.primary_key == Unique(name="user_id_team_id", fields=("user_id", "team_id"), constraint="Member_pkey")
    assert member.uniques == (
        Unique(name="of_team", fields=("team_id", "user_id"), constraint="Member_team_id_user_id_key"),
    )


def test_the_datasource() -> None:
    assert parse(SCHEMA).datasource == {"provider": "postgresql", "url": Call("env", (("", "DATABASE_URL"),))}


def test_relations() -> None:
    schema = parse(SCHEMA)
    of_team = {name: field.relation for name, field in schema.models["Team"].fields.items() if field.relation}
    of_member = {name: field.relation for name, field in schema.models["Member"].fields.items() if field.relation}
    cascade: dict[str, Any] = {"on_delete": "Cascade", "on_update": "Cascade"}
    assert of_team["members"] == Relation(model="Member", inverse="team", fields=(), references=(), **cascade)
    assert of_member["team"] == Relation(
        model="Team", inverse="members", fields=("team_id",), references=("team_id",), **cascade
    )
    owner: dict[str, Any] = {"on_delete": "Restrict", "on_update": "Cascade"}  # as one of both fields is required
    assert of_team["owner"] == Relation(
        model="Member", inverse="owns", fields=("owner_id", "team_id"), references=("user_id", "team_id"), **owner
    )
    assert of_member["owns"] == Relation(model="Team", inverse="owner", fields=(), references=(), **owner)


@pytest.mark.parametrize(
    ("old", "new", "line", "problem"),
    [
        ("Float ", "Money ", 10, "type Money is neither a scalar nor an enum nor a model"),
        ("@unique", "@ignore", 9, "@ignore of field alias is not known"),
        ("@@map", "@@schema", 23, "@@schema of model Team is not known"),
        ("uuid()", "ulid()", 8, "@default(ulid()) of field team_id is not known"),
        ("type: Gin", "type: Bloom", 22, "an index of model Team has type Bloom: not known"),
        ("[tags]", "[members]", 22, "@@index of model Team names members: no such column"),
        ("Cascade", "Explode", 29, "onDelete: Explode of relation team is not known"),
        ('@relation("owner")', "", 17, "relation members has 2 fields in Member that lead back, not one"),
        ("[user_id, team_id])\n  owner_id", "[user_id])\n  owner_id", 18, "fields and references of different lengths"),
        ("references: [team_id]", "references: [id]", 29, "relation team names id, which model Team does not have"),
        ("@id @default", "@default", 7, "model Team has neither @id nor @@id"),
        ("enum State", "view State", 35, "view is not known"),
        ("String?  @unique", "String?? @unique", 9, r"newline is expected, and '?' is there"),
        ("[]\n  owner", "[\n  owner", 17, "] is expected"),
        ("String   @id", "String ; @id", 8, "'; @id @default(uuid(' is not understood"),
        ("}\n\nenum", "\n\nenum", 35, "is there"),
    ],
)
def test_what_is_refused(old: str, new: str, line: int, problem: str) -> None:
    assert old in SCHEMA
    with pytest.raises(SchemaError) as refused:
        parse(SCHEMA.replace(old, new, 1))
    assert str(refused.value).startswith(f"schema.prisma, line {line}: ")
    assert problem in str(refused.value)
    assert "install LiteLLM anew" in str(refused.value)


@given(
    at=st.integers(0, len(SCHEMA)),
    removed=st.integers(0, 30),
    added=st.text('@{}()[]:,?= \n"model_id/String', max_size=8),
)
def test_a_damaged_schema_is_refused_or_read(at: int, removed: int, added: str) -> None:
    try:
        schema = parse(SCHEMA[:at] + added + SCHEMA[at + removed :])
    except SchemaError as refused:
        assert str(refused).startswith("schema.prisma, line ")  # noqa: PT017 - either is right
    else:
        assert all(model.primary_key.fields for model in schema.models.values())

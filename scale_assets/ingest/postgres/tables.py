"""What must hold of a table before its changes can be captured: that they say which row they change."""

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from scale_assets.ingest.postgres.errors import NotPrepared

if TYPE_CHECKING:
    import psycopg

    Connection = psycopg.Connection[Any]

KINDS = {"r": "a table", "p": "a partitioned table"}
PARTITIONED = "p"
FULL = "f"
IDENTITY = {
    "d": "DEFAULT, and there is no primary key",
    "n": "NOTHING",
    "i": "an index that is gone",
}
FIND = """
    select c.oid, c.relkind::text, c.relpersistence::text, has_table_privilege(c.oid, 'select'),
        row_security_active(c.oid)
    from pg_class c join pg_namespace n on n.oid = c.relnamespace
    where n.nspname = %s and c.relname = %s
"""
LEAVES = """
    select c.oid::regclass::text, c.relreplident::text, coalesce((
        select array_agg(a.attname::text order by a.attnum)
        from pg_index i
        join pg_attribute a on a.attrelid = i.indrelid and a.attnum = any (i.indkey)
        where i.indrelid = c.oid and case c.relreplident
            when 'd' then i.indisprimary when 'i' then i.indisreplident else false end
    ), '{}')
    from pg_class c
    where c.oid = %(oid)s and c.relkind = 'r'
        or c.oid in (select relid from pg_partition_tree(%(oid)s) where isleaf)
    order by 1
"""

Keys = Mapping[str, Sequence[str]]  # schema.table to the contract's primary key


def require_tables(connection: "Connection", keys: Keys) -> None:
    """Refuse tables whose changes could not be applied, all of them at once.

    Raises:
        NotPrepared: What is wrong with which table, and the statement that mends it.
    """
    wrong = [problem for name, key in keys.items() for problem in _problems(connection, name, key)]
    if wrong:
        raise NotPrepared("\n".join(wrong))


def find_table(connection: "Connection", name: str) -> tuple[int, bool]:
    """Number of a table that ``require_tables`` has seen, and whether it is partitioned."""
    row = connection.execute(FIND, name.split(".", 1)).fetchone()
    assert row is not None
    return int(row[0]), row[1] == PARTITIONED


def _problems(connection: "Connection", name: str, key: Sequence[str]) -> Iterator[str]:
    if "." not in name:
        yield f"table {name!r}: write it with its schema, such as public.{name}"
        return
    row = connection.execute(FIND, name.split(".", 1)).fetchone()
    if row is None:
        yield f"table {name} is not in the database; is it spelled as there, schema first?"
        return
    oid, kind, persistence, can_read, is_hidden = row
    if kind not in KINDS:
        yield f"{name} is no table (its kind is {kind!r}); capture what it is made of"
        return
    if persistence != "p":
        yield f"table {name} is not logged; run ALTER TABLE {name} SET LOGGED"
    if not can_read:
        yield f"table {name} cannot be read by this role; run GRANT SELECT ON {name} TO the role"
    if is_hidden:
        yield f"table {name} has row-level security, which hides rows; run ALTER ROLE ... BYPASSRLS"
    for leaf, identity, columns in connection.execute(LEAVES, {"oid": oid}).fetchall():
        yield from _identity_problems(leaf, identity, columns, key)


def _identity_problems(
    table: str, identity: str, columns: Sequence[str], key: Sequence[str]
) -> Iterator[str]:
    """Updates and deletes must carry the contract's key, or they name no row."""
    if identity == FULL or set(key) <= set(columns):
        return
    alter = f"ALTER TABLE {table} REPLICA IDENTITY"
    if not columns:
        yield (
            f"table {table}: its replica identity is {IDENTITY[identity]}, so updates and deletes "
            f"do not say which row they are about; give it a primary key ({alter} DEFAULT), or run "
            f"{alter} USING INDEX <a unique one on {', '.join(key)}>, or {alter} FULL"
        )
        return
    yield (
        f"table {table}: its replica identity {list(columns)} lacks the contract's key "
        f"{list(key)}; run {alter} USING INDEX <a unique one on {', '.join(key)}>, or {alter} FULL"
    )

"""What PostgreSQL refuses and when it fails: messages say what to do and keep passwords, and nothing is lost."""

from __future__ import annotations

import logging
import random
import subprocess
import threading
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from filter_cases import where
from llama_index.core.schema import TextNode
from postgres_server import PASSWORD, PostgresServer, pg_store_at
from store_calls import OpenStore, ask, node

from llama_index_mm_zhipu.stores import ExternalVectorStore
from llama_index_mm_zhipu.stores.postgres.backend import PostgresBackend
from llama_index_mm_zhipu.vector_store import ModelMismatchError
from llama_index_mm_zhipu.vector_store.errors import StoreError
from llama_index_mm_zhipu.vector_store.predicates import EVERY_NODE

pytestmark = pytest.mark.integration

BATCH = 50


@pytest.fixture(autouse=True)
def no_password_in_logs(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Checks what all packages logged during the test."""
    caplog.set_level(logging.DEBUG)
    yield
    assert PASSWORD not in caplog.text


def raised_by(call: Callable[[], object]) -> str:
    """Return the message of the ``StoreError`` that a call raises, after checking that nothing shows a password."""
    with pytest.raises(StoreError) as caught:
        call()
    shown = "".join(traceback.format_exception(caught.value))
    assert PASSWORD not in shown
    assert "parameters:" not in shown
    return str(caught.value)


def batch(number: int) -> list[TextNode]:
    return [node(f"{number}-{i}", i, text="飞机", page=number) for i in range(BATCH)]


# Servers that fail


def test_a_server_that_is_down_is_named(own_postgres: PostgresServer) -> None:
    own_postgres.stop()
    plain = pg_store_at(own_postgres)
    message = raised_by(lambda: ExternalVectorStore(plain))
    assert f"\"public.data_nodes\" (database 'postgres' at 127.0.0.1:{own_postgres.port})" in message
    assert "Connection refused" in message
    assert "check that the server runs" in message

    own_postgres.start()
    store = ExternalVectorStore(plain)
    store.add([node("a")])
    assert store.count() == 1
    store.close()


def test_the_same_store_works_after_a_restart(own_postgres: PostgresServer) -> None:
    store = ExternalVectorStore(pg_store_at(own_postgres))
    store.add(batch(0))
    for end in (own_postgres.stop, own_postgres.crash):
        end()
        for call in (store.count, lambda: store.query(ask()), lambda: store.add([node("a")]), store.get_nodes):
            assert "check that the server runs" in raised_by(call)
        own_postgres.start()
        assert store.count() == BATCH
        assert len(store.query(ask(k=5)).ids or []) == 5
    store.close()


def test_a_crash_in_the_middle_of_a_build_loses_nothing_that_was_acknowledged(own_postgres: PostgresServer) -> None:
    store = ExternalVectorStore(pg_store_at(own_postgres))
    store.require_model("model")
    acknowledged: list[int] = []
    some_written = threading.Event()

    def build(start: int = 0) -> None:
        for number in range(start, 200):
            store.add(batch(number), settings={"caption_weight": 0.5})
            acknowledged.append(number)
            if len(acknowledged) == 3:
                some_written.set()

    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(build)
        assert some_written.wait(300)
        own_postgres.crash()
        assert "nodes of earlier calls are there" in raised_by(first.result)

    own_postgres.start()
    # The transaction that was under way is there as a whole, or not at all.
    assert store.count() in (len(acknowledged) * BATCH, (len(acknowledged) + 1) * BATCH)
    assert len(store.get_nodes(filters=where("page", acknowledged[-1]))) == BATCH
    store.require_model("model")
    build(len(acknowledged))
    assert store.count() == 200 * BATCH
    assert store.get_setting("caption_weight") == 0.5
    store.close()


@pytest.fixture
def small_disk(own_postgres: PostgresServer) -> Iterator[Path]:
    """A file system of 20 MB where the server puts new tables, but not its log, without which it would stop."""
    folder = own_postgres.folder / "small"
    folder.mkdir()
    owner = f"uid={own_postgres.folder.stat().st_uid},mode=700"
    mount = ["mount", "-t", "tmpfs", "-o", f"size=20m,{owner}", "tmpfs", folder]
    if subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("needs the right to mount a file system")
    own_postgres.run_sql(f"create tablespace small location '{folder}'")
    own_postgres.run_sql("alter role tester set default_tablespace = small")
    yield folder
    own_postgres.stop()
    subprocess.run(["umount", folder], check=True)


def test_a_full_disk_is_an_error_that_loses_nothing(own_postgres: PostgresServer, small_disk: Path) -> None:
    store = ExternalVectorStore(pg_store_at(own_postgres))
    store.add(batch(0))
    letters = random.Random(0)

    def fill() -> None:
        for number in range(30):
            large = letters.randbytes(500_000).hex()
            store.add([node(f"large{number}", text="飞机", noise=large)])

    message = raised_by(fill)
    assert "No space left on device" in message
    assert "free space on the disk" in message
    assert len(store.get_nodes(filters=where("page", 0))) == BATCH
    subprocess.run(["mount", "-o", "remount,size=500m", small_disk], check=True)
    fill()
    assert store.count() == BATCH + 30
    store.close()


# What is refused


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"password": "wr0ng"}, "check user and password"),
        ({"user": "nobody_knows"}, "check user and password"),
        ({"connection_string": "no URL, with a passw0rd"}, "cannot read the connection_string"),
    ],
    ids=["password", "user", "URL"],
)
def test_wrong_credentials_are_named_but_not_shown(
    pg_store: Callable[..., Any], settings: dict[str, Any], said: str
) -> None:
    with pytest.raises((StoreError, ValueError), match=said) as caught:
        ExternalVectorStore(pg_store(**settings))
    shown = "".join(traceback.format_exception(caught.value))
    assert not any(secret in shown for secret in (PASSWORD, "wr0ng", "passw0rd"))


def test_a_database_that_is_missing_is_named(pg_store: Callable[..., Any], postgres: PostgresServer) -> None:
    url = postgres.url().replace("/postgres", "/missing")
    message = raised_by(lambda: ExternalVectorStore(pg_store(connection_string=url)))
    assert "database 'missing'" in message
    assert "create the database" in message


@pytest.fixture
def guest(postgres: PostgresServer, schema: str) -> Iterator[dict[str, str]]:
    """User and password of a role that may use the schema and nothing in it."""
    postgres.run_sql(f"create schema {schema}; create extension if not exists vector")
    postgres.run_sql(f"create role guest login password '{PASSWORD}'; grant usage on schema {schema} to guest")
    yield {"user": "guest", "password": PASSWORD}
    postgres.run_sql("drop owned by guest; drop role guest")


def test_users_need_rights(
    open_postgres: OpenStore, pg_store: Callable[..., Any], postgres: PostgresServer, schema: str, guest: dict[str, str]
) -> None:
    assert "the table is gone, or could not be created" in raised_by(lambda: open_postgres(**guest))

    # A table that LlamaIndex made: reading is not enough to add columns.
    pg_store().add([node("a")])
    postgres.run_sql(f"grant select on all tables in schema {schema} to guest")
    message = raised_by(lambda: open_postgres(**guest))
    assert "must be owner of table data_nodes" in message
    assert "only its owner" in message

    # A table that its owner opened: guests can read, and with more rights write.
    open_postgres()
    postgres.run_sql(f"grant select on all tables in schema {schema} to guest")
    store = open_postgres(**guest)
    assert store.query(ask()).ids == ["a"]
    message = raised_by(lambda: store.add([node("b")]))
    assert "permission denied for table data_nodes" in message
    assert "grant the user" in message
    postgres.run_sql(f"grant insert, update, delete on all tables in schema {schema} to guest")
    postgres.run_sql(f"grant usage on all sequences in schema {schema} to guest")
    store.add([node("b")], settings={"caption_weight": 0.5})
    store.delete_nodes(["a"])
    assert store.count() == 1


def test_a_text_that_an_index_of_the_user_cannot_take_is_an_error(open_postgres: OpenStore) -> None:
    # LlamaIndex's own full text, which hybrid_search=True turns on, takes texts of 1 MB.
    store = open_postgres(hybrid_search=True)
    store.add([node("a")])
    message = raised_by(lambda: store.add([node("large", text=" ".join(f"word{i}" for i in range(200_000)))]))
    assert "a node is too large" in message
    assert "word1" not in message
    assert store.count() == 1


def test_a_read_only_server_can_be_searched(open_postgres: OpenStore, postgres: PostgresServer) -> None:
    open_postgres().add([node("a")])
    read_only = {"connect_args": {"options": "-c default_transaction_read_only=on"}}
    store = open_postgres(create_engine_kwargs=read_only)
    assert store.query(ask()).ids == ["a"]
    assert "not read-only" in raised_by(lambda: store.add([node("b")]))


def test_a_table_that_was_dropped_is_an_error(open_postgres: OpenStore, postgres: PostgresServer, schema: str) -> None:
    store = open_postgres()
    postgres.run_sql(f"drop table {schema}.data_nodes")
    assert "the table is gone" in raised_by(store.count)


# Several writers


def test_several_processes_may_create_the_table(own_postgres: PostgresServer) -> None:
    ready = threading.Barrier(8)

    def open_and_add(number: int) -> None:
        plain = pg_store_at(own_postgres, schema_name="new")
        ready.wait()
        store = ExternalVectorStore(plain)
        store.add([node(f"n{number}")])
        store.close()

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(open_and_add, range(8)))
    assert own_postgres.run_sql("select count(*) from new.data_nodes") == "8"


def test_only_one_of_several_models_fills_a_store(open_postgres: OpenStore) -> None:
    def write(model: str) -> bool:
        store = open_postgres()
        store.require_model(model)
        ready.wait()
        try:
            for i in range(5):
                store.add([node(f"{model}{i}")])
        except ModelMismatchError:
            return False
        return True

    open_postgres()
    models = [f"model{i}" for i in range(4)]
    ready = threading.Barrier(len(models))
    with ThreadPoolExecutor(len(models)) as pool:
        accepted = list(pool.map(write, models))
    assert accepted.count(True) == 1
    (model,) = [model for model, is_accepted in zip(models, accepted, strict=True) if is_accepted]
    store = open_postgres()
    assert sorted(each.node_id for each in store.get_nodes()) == [f"{model}{i}" for i in range(5)]
    store.require_model(model)


def test_writers_and_deleters_do_not_get_into_each_others_way(open_postgres: OpenStore) -> None:
    stores = [open_postgres() for _ in range(4)]
    nodes = [node(f"n{i}", i, page=i % 2) for i in range(60)]

    def work(number: int) -> None:
        for _ in range(10):
            stores[number].add(nodes if number % 2 else nodes[::-1], settings={f"by {number}": number})
            stores[number].delete_nodes(filters=where("page", number % 2))

    with ThreadPoolExecutor(len(stores)) as pool:
        list(pool.map(work, range(len(stores))))
    stores[0].add(nodes)
    assert stores[1].count() == 60


def test_a_listing_shows_one_moment(open_postgres: OpenStore, pg_store: Callable[..., Any]) -> None:
    store = open_postgres()
    store.add([node(f"n{i}", i) for i in range(500)])
    listing = PostgresBackend(pg_store()).select(EVERY_NODE)
    seen = [each.node_id for each in next(listing)]
    store.add([node(f"n{i}", i) for i in range(500)])
    store.delete_nodes(["n400"])
    seen += [each.node_id for batch_ in listing for each in batch_]
    assert seen == [f"n{i}" for i in range(500)]


def test_an_empty_table_of_another_dimension_tells_what_to_give(open_postgres: OpenStore) -> None:
    store = open_postgres("default", dimension=1536)
    with pytest.raises(
        ValueError, match=r"data_default.* was made for vectors of dimension 1536, and the model's have 2; "
    ):
        store.add([node("a")])
    assert store.is_empty()

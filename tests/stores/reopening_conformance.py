"""The part of the conformance suite for stores that several objects and processes may open."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import pytest
from store_calls import OpenStore, ask, node

from llama_index_mm_zhipu.vector_store import ModelMismatchError, StoreError


class ReopeningConformance:
    """Tests of stores that several objects and processes may open.

    A subclass provides the fixture ``open_store``.
    """

    def test_a_store_can_be_opened_again(self, open_store: OpenStore) -> None:
        store = open_store("nodes")
        store.require_model("model")
        store.add([node("a", text="飞机", page=1)], settings={"caption_weight": 0.5})
        store.close()
        again = open_store("nodes")
        again.require_model("model")
        assert again.query(ask()).ids == ["a"]
        assert again.get_setting("caption_weight") == 0.5
        with pytest.raises(ModelMismatchError, match=r"model.*other"):
            again.require_model("other")
        again.add([node("a", text="猫")])
        assert [kept.get_content() for kept in again.get_nodes(["a"])] == ["猫"]

    def test_changes_of_one_are_seen_by_the_other_at_once(self, open_store: OpenStore) -> None:
        one, other = open_store("nodes"), open_store("nodes")
        one.add([node("a"), node("b", 2)])
        assert other.query(ask()).ids == ["b", "a"]
        other.delete_nodes(["b"])
        assert one.query(ask()).ids == ["a"]
        one.delete("a")
        assert other.query(ask()).ids == []
        assert other.is_empty()

    def test_settings_outlive_the_nodes_that_they_were_recorded_with(self, open_store: OpenStore) -> None:
        first = open_store("nodes")
        first.require_model("model")
        first.add([node("a")], settings={"caption_weight": 0.5})
        second = open_store("nodes")
        second.require_model("model")
        second.add([node("b")])
        second.delete_nodes(["a"])
        assert second.get_setting("caption_weight") == 0.5
        with pytest.raises(ModelMismatchError, match=r"model.*other"):
            second.require_model("other")

    @pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
    @pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
    def test_a_forked_process_gets_its_own_answers_or_an_error(self, open_store: OpenStore) -> None:
        store = open_store("nodes")
        ids = [f"n{i}" for i in range(20)]
        store.add([node(node_id) for node_id in ids])

        def read() -> int:
            try:
                answers = [[kept.node_id for kept in store.get_nodes([each])] for each in ids * 5]
            except StoreError as error:
                return 0 if "fork" in str(error) else 1
            return 0 if answers == [[each] for each in ids * 5] else 2

        children = []
        for _ in range(3):
            child = os.fork()
            if not child:
                # Nothing of pytest may run in a child.
                status = 3
                with suppress(BaseException):
                    status = read()
                os._exit(status)
            children.append(child)
        here = read()
        assert [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children] == [0, 0, 0]
        assert here == 0

    def test_two_writers_leave_each_node_once(self, open_store: OpenStore) -> None:
        stores = open_store("nodes"), open_store("nodes")

        def write(store: Any) -> None:
            for start in range(0, 60, 10):
                store.add([node(f"n{i}", i) for i in range(start, start + 10)])

        with ThreadPoolExecutor(2) as pool:
            list(pool.map(write, stores))
        for store in stores:
            assert store.count() == 60
            assert sorted(store.query(ask(k=100)).ids) == sorted(f"n{i}" for i in range(60))

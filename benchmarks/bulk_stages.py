"""The stage that fills a store with columns, in a transaction for each shard, and asks it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from contender import Contender
from dataset import BATCH, FILTERS, Dataset, ExactNeighbours
from jobs import Findings, Job
from llama_index.core.vector_stores.types import VectorStoreQuery, VectorStoreQueryMode
from series import WARM_UP, contender_of, dataset_of, disk_mib, query_name, run_queries, seconds_of

_SHARD = 25 * BATCH
_WORDS = 200
_TEXT_TYPES = {"one word": 1, "two words": 2}


def bulk(job: Job, findings: Findings) -> None:
    """Add nodes as columns to a store that has the nodes up to ``job.sizes[0]``; then search by vectors and words."""
    contender, dataset = contender_of(job), dataset_of(job)
    (first,) = job.sizes
    contender.open(Path(job.folder))
    seconds = 0.0
    for start in range(first, job.size, _SHARD):
        columns = _columns(dataset, start, min(start + _SHARD, job.size))
        seconds += seconds_of(lambda: contender.store.add_columns(**columns))  # noqa: B023
        added = start + len(columns["node_ids"])
        findings.update(added_in_bulk=added - first, bulk_per_second=(added - first) / seconds)
        findings.say(f"{added:,} nodes, {(added - first) / seconds:,.0f} a second")
    findings.update(settle_s=seconds_of(contender.settle))
    findings.update(series=_vector_series(job, contender, dataset, findings))
    findings.update(text=_text_series(contender, dataset), disk_mib=disk_mib(Path(job.folder)))
    contender.close()


def _columns(dataset: Dataset, start: int, stop: int) -> dict[str, Any]:
    # Batches begin at multiples of their size.
    before = start % BATCH
    batches = dataset.batches(start - before, stop, nodes=False)
    parts = [dataset.columns(batch.numbers, batch.vectors) for batch in batches]
    joined: dict[str, Any] = {"vectors": np.concatenate([part["vectors"] for part in parts])[before:]}
    for name in ("node_ids", "texts", "ref_doc_ids"):
        joined[name] = [value for part in parts for value in part[name]][before:]
    keys = parts[0]["metadata"]
    joined["metadata"] = {key: [value for part in parts for value in part["metadata"][key]][before:] for key in keys}
    return joined


def _vector_series(job: Job, contender: Contender, dataset: Dataset, findings: Findings) -> dict[str, dict[str, float]]:
    """Return recall and times of queries by vector, with each filter and without."""
    findings.say("true neighbours")
    queries = dataset.queries(job.queries + WARM_UP)
    truths = {selectivity: ExactNeighbours(dataset, queries, selectivity) for selectivity in (None, *FILTERS)}
    for batch in dataset.batches(0, job.size, nodes=False):
        for truth in truths.values():
            truth.see(batch)
    found = {}
    for selectivity, truth in truths.items():
        findings.say(query_name(selectivity))
        found[query_name(selectivity)] = run_queries(contender, dataset, queries, selectivity).summary(truth)
    return found


def _text_series(contender: Contender, dataset: Dataset) -> dict[str, dict[str, float]]:
    """Return the times of queries by words of two characters, alone and together with a vector."""
    queries = dataset.queries(_WORDS)
    found = {}
    for name, count in _TEXT_TYPES.items():
        for mode in (VectorStoreQueryMode.TEXT_SEARCH, VectorStoreQueryMode.HYBRID):
            ms = []
            for number, words in enumerate(dataset.words(_WORDS, count)):
                query = VectorStoreQuery(
                    query_str=words, query_embedding=queries[number].tolist(), similarity_top_k=10, mode=mode
                )
                ms.append(1000 * seconds_of(contender.store.query, query))
            found[f"{name}, {mode.value}"] = {
                "p50_ms": float(np.percentile(ms[WARM_UP:], 50)),
                "p95_ms": float(np.percentile(ms[WARM_UP:], 95)),
            }
    return found

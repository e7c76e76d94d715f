"""Full text in PostgreSQL: Chinese tokens as ``tsvector``, and BM25 as SQLite's FTS5 computes it.

PostgreSQL's own parsers do not split Chinese and drop emoji, so vectors and queries are built from quoted lexemes. Its
own ranking knows nothing of how rare a word is; the BM25 scores of the embedded store make fusion and thresholds mean
the same in both.

Limits of ``tsvector`` never lose a node: of a text beyond some 900 kB of different tokens the rest is not searched, the
order of tokens is known for the first 16,383 of them (after these, "iphone15" does not find "iPhone 15"), and at most
256 occurrences of a token are counted.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Any

from sqlalchemy import (
    ARRAY,
    ColumnElement,
    Float,
    Select,
    Text,
    bindparam,
    cast,
    func,
    literal,
    select,
    true,
)
from sqlalchemy.dialects.postgresql import TSQUERY
from sqlalchemy.sql.selectable import FromClause

from llama_index_mm_zhipu.vector_store.fulltext import tokens_of, words_of_query

_K1, _B = 1.2, 0.75
_MIN_IDF = 1e-6
"""Constants of FTS5: saturation, influence of the length, and the weight of a word that most texts have."""

_MAX_LEXEME_BYTES = 2_000
_MAX_VECTOR_BYTES = 900_000
_MAX_POSITION = 16_383
_MAX_POSITIONS = 256


def text_vector(text: str) -> tuple[str, int]:
    """Return the ``tsvector`` of a text as PostgreSQL reads it, and the number of its tokens.

    Examples:
        >>> text_vector("飞机")
        ("'飞':1 '机':2 '飞机':3", 3)
    """
    tokens = tokens_of(text).split()
    positions: dict[str, list[int]] = {}
    size = 0
    for position, token in enumerate(map(_lexeme, tokens), start=1):
        known = positions.setdefault(token, [])
        if not known:
            # PostgreSQL stores the lexeme, and aligns and counts its positions, of two bytes each.
            size += len(token.encode()) + 4
        if size > _MAX_VECTOR_BYTES:
            del positions[token]
            break
        if len(known) < _MAX_POSITIONS and known[-1:] != [_MAX_POSITION]:
            known.append(min(position, _MAX_POSITION))
            size += 2
    return " ".join(f"{_quoted(token)}:{','.join(map(str, known))}" for token, known in positions.items()), len(tokens)


def text_queries(query: str) -> list[str]:
    """Return the ``tsquery`` of each word of ``words_of_query``; a word of several tokens is a phrase.

    Examples:
        >>> text_queries("飞机 iphone15")
        ["'iphone' <-> '15'", "'iphone15'", "'飞机'"]
    """
    return [_phrase(word.split()) for word in words_of_query(query)]


def best_texts(
    table: FromClause, queries: list[str], condition: ColumnElement[bool], k: int
) -> Select[tuple[str, float]]:
    """Return a statement that selects keys and BM25 scores of the texts with any of the words, best first.

    As in FTS5, numbers of texts and of tokens are those of the whole table, whatever the condition.

    Args:
        table: Table with the columns ``mm_key``, ``mm_tokens``, ``mm_length`` and ``mm_order``.
        queries: ``text_queries``, at least one.
        condition: Condition on the rows.
        k: Maximum number of rows.
    """
    columns = table.c
    listed = cast(bindparam(None, queries, type_=ARRAY(Text)), ARRAY(Text))
    asked = func.unnest(listed).table_valued("word", name="asked").render_derived()
    any_word = cast(bindparam(None, " | ".join(queries), type_=Text), TSQUERY)
    found = (
        select(
            columns.mm_key,
            columns.mm_order,
            cast(columns.mm_length, Float).label("length"),
            condition.label("meets"),
            asked.c.word,
            _occurrences(columns.mm_tokens, cast(asked.c.word, TSQUERY)).label("occurrences"),
        )
        .select_from(table.join(asked, true()))
        .where(columns.mm_tokens.op("@@", is_comparison=True)(any_word))
        .cte("found")
    )
    # Only the index on mm_length is read.
    texts = (
        select(cast(func.count(), Float).label("number"), cast(func.avg(columns.mm_length), Float).label("length"))
        .where(columns.mm_length > 0)
        .cte("texts")
    )
    with_word = func.count()
    words = (
        select(found.c.word, _idf(select(texts.c.number).scalar_subquery(), with_word).label("idf"))
        .where(found.c.occurrences > 0)
        .group_by(found.c.word)
        .cte("words")
    )
    occurrences = found.c.occurrences
    relative_length = found.c.length / texts.c.length
    saturated = occurrences * (_K1 + 1) / (occurrences + _K1 * (1 - _B + _B * relative_length))
    score = func.sum(words.c.idf * saturated).label("score")
    return (
        select(found.c.mm_key, score)
        .select_from(found.join(words, found.c.word == words.c.word).join(texts, true()))
        .where(found.c.meets, occurrences > 0)
        .group_by(found.c.mm_key, found.c.mm_order)
        .order_by(score.desc(), found.c.mm_order)
        .limit(k)
    )


def _occurrences(tokens: ColumnElement[Any], query: ColumnElement[Any]) -> ColumnElement[float]:
    # Cover density with equal weights adds 1 for each place where the word or phrase is.
    weights = cast(literal("{1,1,1,1}", Text), ARRAY(Float(24)))
    return cast(func.ts_rank_cd(weights, tokens, query), Float)


def _idf(texts: ColumnElement[float], with_word: ColumnElement[int]) -> ColumnElement[float]:
    ratio = (texts - with_word + 0.5) / (with_word + 0.5)
    return func.greatest(func.ln(ratio), _MIN_IDF)


def _phrase(tokens: Iterable[str]) -> str:
    return " <-> ".join(_quoted(_lexeme(token)) for token in tokens)


def _lexeme(token: str) -> str:
    """Return a token, or of one that is too long for PostgreSQL a digest that no other token has."""
    if len(token) * 4 <= _MAX_LEXEME_BYTES or len(token.encode()) <= _MAX_LEXEME_BYTES:
        return token
    return f"{token[:100]}{hashlib.sha256(token.encode()).hexdigest()}"


def _quoted(lexeme: str) -> str:
    escaped = lexeme.replace("\\", "\\\\").replace("'", "''")
    return f"'{escaped}'"

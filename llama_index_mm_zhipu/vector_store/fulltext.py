"""Full text for Chinese: the tokens of a text, the terms that SQLite's FTS5 stores for them, and the words of a query.

A text is split into runs of characters of three types, which become tokens in different ways:

- Chinese and other scripts without spaces: single characters, and pairs of neighbours.
- Symbols (emoji, ``+``, ``€``, ``①``, ``²``): the same, and separate words for the normal form (NFKC) of a symbol.
- Words: the whole run of letters and digits, and its parts of letters and of digits.

FTS5 stores only which texts have a term, which takes a sixth of the space of a table with positions and texts. What
search needs beside that are terms of their own:

- A token that a text has n times is also stored as ``token#2`` to ``token#n``.
- Letters and digits in turn are also stored as one term, ``iphone/15`` and ``iphone/15/pro``, so that ``iphone15pro``
  is not found by every text with its parts.

No token contains ``#`` or ``/``.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from functools import cache, lru_cache
from operator import add
from typing import NamedTuple

from llama_index_mm_zhipu.text import CJK_RANGES
from llama_index_mm_zhipu.vector_store.character_terms import character_terms

ASCII_SYMBOLS = "$+<=>^`|~"
"""The ASCII characters that Unicode classifies as symbols, which FTS5's tokenizer would treat as separators."""

# Numbers that are not plain digits are symbols: NFKC would turn ①②③ into one number, 123.
_SYMBOL_CATEGORIES = frozenset({"Sm", "Sc", "Sk", "So", "No", "Nl"})
_EMOJI_OF_OTHER_CATEGORIES = "\u203c\u2049\u20e3\u2139\u3030"
# Whole blocks: characters that this Python's Unicode does not assign may be emoji in the next one.
_SYMBOL_BLOCKS = "\U0001d000-\U0001d3ff\U0001f000-\U0001fbef"
_JOINERS = "\u200d\ufe00-\ufe0f"
_WITHOUT_JOINERS = dict.fromkeys([0x200D, *range(0xFE00, 0xFE10)])
# Superscripts, subscripts and units in one character are parts of words: H₂O, B₁₂, m², 100㎡.
_IN_WORDS = "\u00b2\u00b3\u00b9\u2070\u2074-\u2079\u2080-\u2089\u3371-\u337a\u3380-\u33df"
_ANY_IN_WORDS = re.compile(f"[{_IN_WORDS}]")
# The lookbehind matches only at the start of a word: otherwise every character of a long word would be tried.
_WORDS_WITH_THESE = re.compile(rf"(?<![^\W{CJK_RANGES}])[^\W{CJK_RANGES}]*[{_IN_WORDS}][^\W{CJK_RANGES}]*")
_LETTERS_OR_DIGITS = re.compile(r"\d+|[^\W\d_]+")
_LETTERS = re.compile(rf"[^\W\d_{CJK_RANGES}]+")

_FULL_WIDTH_PUNCTUATION = re.compile("[！（），：；？]")

# Normalisation changes none of these, or only which character ends a run: ASCII, Chinese characters and punctuation.
_NORMAL = re.compile("[\0-\x7f\u4e00-\u9fff\u3000-\u3002\u3008-\u3011\u2014\u2018-\u201d\u2026！（），：；？]*")

_REPEATED, _BESIDE = "#", "/"
_IN_TURN = frozenset({"dl", "ld", "dld", "ldl"})
TERM_CHARACTERS = f"_{ASCII_SYMBOLS}{_REPEATED}{_BESIDE}"
"""The ASCII characters other than letters and digits that terms contain."""

_MAX_LENGTH = 8_000
"""Maximum characters of the tokens in terms other than tokens. FTS5 cuts terms at 32,768 bytes, and would make a longer
token and its repetitions the same term."""

_TEXTS_AT_ONCE = 512
_CHARACTERS_AT_ONCE = 2**16
"""Larger arrays leave the caches of a processor."""

_MIN_CHARACTERS = 1_000
"""Texts of fewer characters take longer by arrays than one by one."""

TOKENS_VERSION = 4
"""Must be increased with every change of ``tokens_of`` or of the table: stores then fill their full text again."""


class TextTerms(NamedTuple):
    """What the full-text table stores of a text.

    Attributes:
        length: Number of tokens, repetitions included.
        terms: The terms, separated by spaces.
    """

    length: int
    terms: str


class QueryWord(NamedTuple):
    """How a word of a query is looked up in the full-text table.

    Attributes:
        word: One of ``words_of_query``.
        terms: Terms that every text with the word has.
        is_exact: Whether every text with the terms has the word, as often as the term is repeated. Otherwise the tokens
            of these texts must be looked at.
    """

    word: str
    terms: tuple[str, ...]
    is_exact: bool


def tokens_of(text: str) -> str:
    """Return the tokens of a text, separated by spaces; empty if there are none."""
    return " ".join(_tokens(_runs(text)))


def terms_of(text: str) -> TextTerms | None:
    """Return what the full-text table stores of a text; None if it has no tokens."""
    runs = _runs(text)
    characters: list[str] = []
    pairs: list[str] = []
    for _, unspaced, symbols in runs:
        run = unspaced or symbols
        characters += run
        pairs += _pairs(run)
    words = _words(runs)
    terms = characters + pairs + words
    if not terms:
        return None
    length = len(terms)
    if repetitions := _repetitions(characters):
        terms += repetitions
        # Few pairs are left to look at. Looking up all of them takes as long as the rest.
        twice = {term[0] for term in repetitions}
        terms += _repetitions([pair for pair in pairs if pair[0] in twice and pair[1] in twice])
    return TextTerms(length, " ".join(terms + _more_terms(words, runs)))


def terms_of_texts(texts: Iterable[str]) -> Iterator[TextTerms | None]:
    """Yield ``terms_of`` each text; for many texts, this takes half the time."""
    batch: list[str] = []
    characters = 0
    for text in texts:
        batch.append(text)
        characters += len(text)
        if len(batch) == _TEXTS_AT_ONCE or characters >= _CHARACTERS_AT_ONCE:
            yield from _terms_of_batch(batch)
            batch, characters = [], 0
    yield from _terms_of_batch(batch) if characters >= _MIN_CHARACTERS else map(terms_of, batch)


def query_words(query: str) -> list[QueryWord]:
    """Return how each of ``words_of_query`` is looked up."""
    return [_query_word(word) for word in words_of_query(query)]


def repeated(term: str, times: int) -> str | None:
    """Return the term that texts have in which a term occurs at least so many times, 2 or more; None if there is none.

    Repetitions of very long tokens are not stored.
    """
    return f"{term}{_REPEATED}{times}" if len(term) <= _MAX_LENGTH else None


def match_all(terms: Sequence[str]) -> str:
    """Return the FTS5 expression that finds the texts with all of these terms."""
    return " AND ".join(f'"{term}"' for term in terms)


def occurrences(word: str, tokens: str) -> int:
    """Return how many times a text has one of ``words_of_query``, given its ``tokens_of``."""
    wanted, found = word.split(), tokens.split()
    return sum(found[start : start + len(wanted)] == wanted for start in range(len(found) - len(wanted) + 1))


def words_of_query(query: str) -> list[str]:
    """Return the words that a query is searched by, without repetitions: words, symbols and pairs of characters.

    A word of letters and digits is searched whole and by its parts in order, separated by a space: "iphone15" finds
    "iPhone15Pro" and "iPhone 15", but not every 15. Single Chinese characters are searched only if they stand alone:
    the characters of a longer word would match too much.
    """
    words: set[str] = set()
    for word, unspaced, symbols in _runs(query):
        if word:
            words.update([word, " ".join(_parts(word)) or word])
        else:
            words.update(symbols, _pairs(symbols), _pairs(unspaced) or unspaced)
    return sorted(words)


def count_words(words: Sequence[str], tokens: str) -> int:
    """Return how many of ``words_of_query`` a text has, given its ``tokens_of``."""
    # Looking up single tokens takes the same time for a text of any length; only the parts of a word need their order.
    single, in_order = set(tokens.split()), f" {tokens} "
    return sum(f" {word} " in in_order if " " in word else word in single for word in words)


def _terms_of_batch(texts: Sequence[str]) -> Iterator[TextTerms | None]:
    """Yield ``terms_of`` each text, with arrays for the characters and pairs of all texts."""
    runs_of_texts = [_runs(text) for text in texts]
    characters = [[unspaced or symbols for word, unspaced, symbols in runs if not word] for runs in runs_of_texts]
    for runs, count, *terms in zip(runs_of_texts, *character_terms(characters, _REPEATED), strict=True):
        words = _words(runs)
        length = count + len(words)
        if words:
            terms[1:1] = words
            terms += _more_terms(words, runs)
        yield TextTerms(length, " ".join(filter(None, terms))) if length else None


def _words(runs: list[tuple[str, str, str]]) -> list[str]:
    """Return the words among the runs of a text, each followed by its parts."""
    return [part for word, _, _ in runs if word for part in (word, *_parts(word))]


def _more_terms(words: list[str], runs: list[tuple[str, str, str]]) -> list[str]:
    """Return the terms of a text that stand for several words, or for repetitions of words.

    Args:
        words: The words of the text and their parts.
        runs: All runs of the text.
    """
    if not words:
        return []
    beside = _letters_beside_digits(_tokens(runs))
    return beside + _repetitions(words + beside)


def _tokens(runs: list[tuple[str, str, str]]) -> list[str]:
    """Return the tokens of the runs of a text, in order."""
    tokens: list[str] = []
    for word, unspaced, symbols in runs:
        if word:
            tokens.append(word)
            tokens += _parts(word)
        else:
            run = unspaced or symbols
            tokens += run
            tokens += _pairs(run)
    return tokens


def _repetitions(tokens: list[str]) -> list[str]:
    """Return ``token#2`` to ``token#n`` for each token that occurs n times."""
    times: dict[str, int] = {}
    terms = []
    # A Counter takes longer.
    for token in tokens:
        if token not in times:
            times[token] = 1
        elif len(token) <= _MAX_LENGTH:
            times[token] = time = times[token] + 1
            terms.append(f"{token}{_REPEATED}{time}")
    return terms


def _letters_beside_digits(tokens: Sequence[str]) -> list[str]:
    """Return a term for each two or three tokens that are letters and digits in turn."""
    kinds = "".join("d" if token.isdecimal() else "l" if _LETTERS.fullmatch(token) else "-" for token in tokens)
    if "d" not in kinds:
        return []
    return [
        _BESIDE.join(tokens[start : start + size])
        for size in (2, 3)
        for start in range(len(tokens) - size + 1)
        if kinds[start : start + size] in _IN_TURN and sum(map(len, tokens[start : start + size])) <= _MAX_LENGTH
    ]


def _query_word(word: str) -> QueryWord:
    parts = word.split()
    whole = word.replace(" ", _BESIDE)
    if len(parts) == 1 or whole in _letters_beside_digits(parts):
        return QueryWord(word, (whole,), is_exact=True)
    terms: list[str] = []
    for start in range(len(parts) - 1):
        two = parts[start : start + 2]
        terms += _letters_beside_digits(two) or two
    return QueryWord(word, tuple(dict.fromkeys(terms)), is_exact=False)


def _parts(word: str) -> list[str]:
    """Split a word into letters and digits, ``iphone15pro`` into three parts; empty if the word is one part."""
    if word.isalpha() or word.isdecimal():
        return []
    parts = _LETTERS_OR_DIGITS.findall(word)
    return [] if parts == [word] else parts


def _pairs(run: str) -> list[str]:
    return list(map(add, run, run[1:]))


def _runs(text: str) -> list[tuple[str, str, str]]:
    """Split a text into runs.

    Returns:
        For each run a word, characters of a script without spaces, and symbols. Two of the three are empty.
    """
    symbols, runs = _patterns()
    if _NORMAL.fullmatch(text):
        return runs.findall(text.lower())
    # Normalising a text with these takes longer than everything else.
    text = _FULL_WIDTH_PUNCTUATION.sub(" ", text)
    # NFC joins a symbol and its accent: = and a stroke become ≠. NFKC turns symbols into words, and so follows later.
    text = unicodedata.normalize("NFC", text)
    pieces = symbols.split(text)
    pieces[::2] = [unicodedata.normalize("NFKC", piece) for piece in pieces[::2]]
    pieces[1::2] = map(_spelled_out, pieces[1::2])
    if _ANY_IN_WORDS.search(text):
        pieces += [f" {unicodedata.normalize('NFKC', word)}" for word in _WORDS_WITH_THESE.findall(text)]
    return runs.findall("".join(pieces).lower())


# Texts repeat few symbols many times.
@lru_cache
def _spelled_out(symbols: str) -> str:
    """Return a run of symbols, followed by the words that NFKC turns them into, separated by spaces."""
    symbols = symbols.translate(_WITHOUT_JOINERS)
    if unicodedata.is_normalized("NFKC", symbols):
        return symbols
    one_symbol = _patterns()[0].fullmatch
    own, words = "", []
    for symbol in symbols:
        form = unicodedata.normalize("NFKC", symbol)
        # A full-width plus becomes a plus, but ① stays a symbol beside the word 1.
        is_symbol = one_symbol(form) is not None
        own += form if is_symbol else symbol
        words.append(" " if is_symbol else form)
    # ₁₂ is also the number 12. Repeated words are removed, as they would raise the score.
    return " ".join(dict.fromkeys([own, "".join(words), *words, ""]))


@cache
def _patterns() -> tuple[re.Pattern[str], re.Pattern[str]]:
    """Return the patterns of symbols and of runs. Building them takes some milliseconds."""
    every = re.sub(f"[{CJK_RANGES}]+", "", "".join(map(chr, range(0x10000))))
    found = [character for character in every if unicodedata.category(character) in _SYMBOL_CATEGORIES]
    symbols = re.escape("".join(found)) + _EMOJI_OF_OTHER_CATEGORIES + _SYMBOL_BLOCKS
    return (
        # Joiners and variation selectors do not end a run: they combine emoji, or select the style of one.
        re.compile(f"([{symbols}][{symbols}{_JOINERS}]*)"),
        re.compile(rf"([^\W{CJK_RANGES}{symbols}]+)|([{CJK_RANGES}]+)|([{symbols}]+)"),
    )

"""The conversations of the users, which know nothing of each other."""

from __future__ import annotations

import secrets
import threading
from dataclasses import dataclass, field

from cachetools import TTLCache

from llama_index_mm_zhipu.server.errors import ServerError
from llama_index_mm_zhipu.service.answers import ChatSession

MAX_CHATS = 500
"""How many conversations are kept; a further one replaces the one that was used longest ago."""

MAX_AGE = 2 * 3600
"""Seconds after its last message for which a conversation is kept."""

_ID_BYTES = 16


@dataclass(frozen=True)
class Chat:
    """A conversation.

    Attributes:
        session: The conversation.
        id: Its name, which nobody can guess: whoever has it may go on with the conversation.
        lock: Held while a message is answered.
    """

    session: ChatSession = field(repr=False)
    id: str = field(default_factory=lambda: secrets.token_urlsafe(_ID_BYTES))
    lock: threading.Lock = field(default_factory=threading.Lock, repr=False)


class Chats:
    """The conversations by id. Threads may share them."""

    def __init__(self) -> None:
        self._chats: TTLCache[str, Chat] = TTLCache(MAX_CHATS, MAX_AGE)
        self._lock = threading.Lock()

    def __len__(self) -> int:
        with self._lock:
            return len(self._chats)

    def keep(self, chat: Chat) -> None:
        """Keep a conversation; its time begins anew."""
        with self._lock:
            self._chats[chat.id] = chat

    def get(self, chat_id: str) -> Chat:
        """Return a conversation.

        Raises:
            ServerError: There is none with this id (any more).
        """
        with self._lock:
            chat = self._chats.get(chat_id)
        if chat is None:
            raise ServerError(
                410,
                "gone",
                "the conversation is not known any more: it is old, or the server was restarted; begin "
                "a new one by asking without a chat",
            )
        return chat

    def forget(self, chat_id: str) -> None:
        """Forget a conversation; nothing happens if it is not known."""
        with self._lock:
            self._chats.pop(chat_id, None)

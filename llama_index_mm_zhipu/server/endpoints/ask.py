"""``/api/ask`` and ``/api/chats``: answers as server-sent events, and the conversations that they belong to."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from llama_index_mm_zhipu.llm.images import small_bytes
from llama_index_mm_zhipu.server.chats import Chat
from llama_index_mm_zhipu.server.context import Context
from llama_index_mm_zhipu.server.endpoints.inputs import read_inputs
from llama_index_mm_zhipu.server.errors import ServerError, bad_request
from llama_index_mm_zhipu.server.events import Event, EventResponse, SendEvent
from llama_index_mm_zhipu.server.parameters import AskParameters
from llama_index_mm_zhipu.service.answers import AnswerStream, SourceOptions
from llama_index_mm_zhipu.service.conversion import results_of


def ask_routes(context: Context) -> list[Route]:
    """Return the routes of questions."""

    async def ask(request: Request) -> Response:
        asked, image = await read_inputs(request, AskParameters)
        if image is not None and asked.like is not None:
            raise bad_request("give either an image, or the id of one")
        if not asked.question.strip() and image is None and asked.like is None:
            raise bad_request("nothing is asked: give a question")
        chat = await context.asking(lambda: _chat_of(context, asked))
        if not chat.lock.acquire(blocking=False):
            raise ServerError(409, "conflict", "the conversation is being answered; wait, or begin a new one")
        try:
            stream = await context.asking(lambda: _answering(context, chat, asked, image))
        except BaseException:
            chat.lock.release()
            raise
        context.chats.keep(chat)

        def work(send: SendEvent) -> Event:
            with context.metrics.timed("ask"):
                return _answer(chat, stream, send)

        return EventResponse(work, context.streams, on_end=chat.lock.release, on_stop=stream.stop)

    async def forget(request: Request) -> Response:
        context.chats.forget(request.path_params["chat"])
        return Response(status_code=204)

    return [Route("/api/ask", ask, methods=["POST"]), Route("/api/chats/{chat}", forget, methods=["DELETE"])]


def _chat_of(context: Context, asked: AskParameters) -> Chat:
    if asked.chat:
        return context.chats.get(asked.chat)
    return Chat(context.service.chat())


def _answering(context: Context, chat: Chat, asked: AskParameters, image: bytes | None) -> AnswerStream:
    if asked.like is not None:
        image = context.service.look(asked.like).data
    elif image is not None:
        # Conversations keep their images.
        image = small_bytes(image)
    return chat.session.ask(asked.question, image, SourceOptions(asked.similarity_top_k, asked.filter))


def _answer(chat: Chat, stream: AnswerStream, send: SendEvent) -> Event:
    sources = [result.as_dict() for result in results_of(stream.sources)]
    send(Event("sources", {"chat": chat.id, "sources": sources}))
    for piece in stream:
        if piece:
            send(Event("text", {"text": piece}))
    return Event("answer", stream.read().as_dict())

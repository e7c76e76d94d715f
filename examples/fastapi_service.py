"""Search and ask over HTTP, in a FastAPI application of your own.

Runs offline over the demo images, with `pip install fastapi uvicorn python-multipart`. Only this machine can reach it:
put your own authentication before the routes. docs/en/operations/deployment.md says how to run it for others.

    python examples/fastapi_service.py
    python examples/fastapi_service.py --store mmzhipu_store --model ViT-B-16 --port 8001
    curl -F words=红苹果 http://127.0.0.1:8000/search
    curl -N -F question=图里有消防车吗？ http://127.0.0.1:8000/ask
"""

import argparse
import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Annotated, Any

from llama_index.core.llms import ChatMessage, ImageBlock, TextBlock
from llama_index.core.schema import NodeWithScore

from llama_index_mm_zhipu import ChineseClipEmbedding, GLMError, ZhipuMultiModal, build_index, load_index, read_jsonl
from llama_index_mm_zhipu.images import ImageError, encode_image, load_within
from llama_index_mm_zhipu.index import ImageIndex, has_index
from llama_index_mm_zhipu.llm import EmptyAnswerError
from llama_index_mm_zhipu.testing import connect_glm

try:
    import python_multipart  # noqa: F401  FastAPI needs it for forms.
    import uvicorn
    from fastapi import FastAPI, File, Form, HTTPException, Request, UploadFile
    from fastapi.responses import JSONResponse, Response, StreamingResponse
except ImportError as error:
    raise SystemExit(f"{error}; this program needs: pip install fastapi uvicorn python-multipart") from None

DEMO = Path(__file__).parent / "demo"
MAX_UPLOAD_BYTES = 20 * 1024 * 1024
MAX_SIDE = 1024


def build_app(index: ImageIndex, llm: ZhipuMultiModal | None) -> FastAPI:
    """Return the application; without a client of the model, it refuses ``/ask``."""
    app = FastAPI(title="Image search")
    retriever = index.as_retriever(similarity_top_k=5)
    engine = None
    if llm is not None:
        engine = index.as_query_engine(llm=llm, similarity_top_k=3, streaming=True)

    # aretrieve and aquery embed and search in worker threads: other requests go on.
    @app.post("/search")
    async def search(
        words: Annotated[str, Form(max_length=500)] = "",
        image: Annotated[UploadFile | None, File()] = None,
    ) -> list[dict[str, Any]]:
        if not words.strip() and image is None:
            raise HTTPException(422, "give words, an image, or both")
        images = [ImageBlock(image=await read_upload(image))] if image else []
        question = ChatMessage(blocks=[TextBlock(text=words), *images])
        return [as_dict(result) for result in await retriever.aretrieve(question)]

    @app.post("/ask")
    async def ask(question: Annotated[str, Form(max_length=500)]) -> StreamingResponse:
        if engine is None:
            raise HTTPException(503, "set ZHIPUAI_API_KEY, and start the service again")
        # This finds the images. The model is asked below, so its errors are events.
        response: Any = await engine.aquery(question)

        async def events() -> AsyncIterator[str]:
            yield event("sources", [as_dict(found) for found in response.source_nodes])
            try:
                async for piece in response.async_response_gen():
                    yield event("text", piece)
                yield event("citations", response.metadata["citations"])
            except (GLMError, EmptyAnswerError) as error:
                yield event("error", str(error))

        return StreamingResponse(events(), media_type="text/event-stream")

    # Ids hold slashes. They are looked up in the store and are never paths.
    @app.get("/images/{node_id:path}")
    async def image(node_id: str) -> Response:
        nodes = await asyncio.to_thread(index.image_store.get_nodes, node_ids=[node_id])
        if not nodes:
            raise HTTPException(404, "no image has this id")
        jpeg = await asyncio.to_thread(lambda: encode_image(load_within(nodes[0], MAX_SIDE)))
        return Response(jpeg, media_type="image/jpeg")

    @app.get("/healthz")
    async def health() -> dict[str, int]:
        return {"images": await asyncio.to_thread(index.image_store.count)}

    @app.exception_handler(ImageError)
    async def unreadable(request: Request, error: ImageError) -> JSONResponse:
        return JSONResponse({"detail": str(error)}, 422)

    return app


async def read_upload(image: UploadFile) -> bytes:
    """Return the bytes of an uploaded image, unless there are too many."""
    data = await image.read(MAX_UPLOAD_BYTES + 1)
    if len(data) > MAX_UPLOAD_BYTES:
        raise HTTPException(413, f"the image is larger than {MAX_UPLOAD_BYTES:,} bytes")
    return data


def as_dict(result: NodeWithScore) -> dict[str, Any]:
    """Return what clients get of a result."""
    return {"id": result.node.node_id, "score": result.score, "caption": result.node.get_content()}


def event(name: str, data: Any) -> str:
    """Return a server-sent event."""
    return f"event: {name}\ndata: {json.dumps(data, ensure_ascii=False)}\n\n"


def main() -> None:
    """Serve until Ctrl-C. If there is no index, the demo images are indexed first."""
    parser = argparse.ArgumentParser(description="Search images and ask about them over HTTP.")
    parser.add_argument("--store", type=Path, default=DEMO / "output" / "service", help="folder of the index")
    parser.add_argument("--model", default=str(DEMO / "model"), help="name such as ViT-B-16, or path of weights")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen at")
    parser.add_argument("--port", type=int, default=8000, help="port to listen at")
    options = parser.parse_args()
    embed_model = ChineseClipEmbedding(options.model)
    if not has_index(options.store):
        build_index(read_jsonl(DEMO / "test.jsonl"), embed_model, persist_dir=options.store).close()
    index, llm = load_index(options.store, embed_model), connect_glm()
    try:
        uvicorn.run(build_app(index, llm), host=options.host, port=options.port)
    finally:
        llm.close()
        index.close()


if __name__ == "__main__":
    main()

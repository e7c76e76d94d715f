"""Loads the page from the server. CI runs this script where plain pip installed the wheel with the extra ``serve``."""

import threading
from concurrent.futures import Future
from urllib.request import urlopen

from llama_index_mm_zhipu.server.app import PAGE, build_app
from llama_index_mm_zhipu.server.context import Context, LlmInfo
from llama_index_mm_zhipu.server.listening import Listener

app = build_app(Context(Future(), LlmInfo("glm-4v-flash", is_mock=True)), host="127.0.0.1")
listener = Listener("127.0.0.1", 0)
threading.Thread(target=listener.serve, args=(app,), daemon=True).start()
files = ["/", "/api", "/api/status", *(f"/page/{file.name}" for file in PAGE.iterdir() if file.suffix != ".html")]
for file in files:
    with urlopen(f"{listener.url}{file}") as response:
        assert response.read(), file
assert len(files) > 10, files
print(f"page: {len(files)} files served")

"""``python -m llama_index_mm_zhipu``: the command ``mmzhipu``."""

from llama_index_mm_zhipu.cli.main import main

if __name__ == "__main__":
    raise SystemExit(main())

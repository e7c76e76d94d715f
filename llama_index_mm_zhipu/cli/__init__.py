"""The command ``mmzhipu``, over ``service``. Its parser and ``info`` load neither llama-index-core nor torch."""

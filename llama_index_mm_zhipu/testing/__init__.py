"""What users of this package need for tests of their own."""

from llama_index_mm_zhipu.testing.checkpoints import tiny_checkpoint

__all__ = ["tiny_checkpoint"]

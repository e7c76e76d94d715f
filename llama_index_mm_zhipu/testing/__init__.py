"""What users of this package need for tests of their own: a stand-in for the GLM API, random checkpoints."""

from llama_index_mm_zhipu.testing.checkpoints import tiny_checkpoint
from llama_index_mm_zhipu.testing.glm_stand_in import GLMStandIn

__all__ = ["GLMStandIn", "tiny_checkpoint"]

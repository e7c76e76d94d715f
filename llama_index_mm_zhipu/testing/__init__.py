"""What users of this package need for tests of their own: a stand-in for the GLM API, random checkpoints."""

from llama_index_mm_zhipu.testing.checkpoints import tiny_checkpoint
from llama_index_mm_zhipu.testing.connect import connect_glm
from llama_index_mm_zhipu.testing.faults import (
    Cut,
    Delay,
    EmptyChoices,
    Ending,
    ErrorAnswer,
    ErrorEvent,
    Fault,
    GarbageEvent,
    MissingDone,
    NoFinalNewline,
    NullContent,
    RawAnswer,
    Reasoning,
    Says,
    Stall,
    Trickle,
    Wrapped,
)
from llama_index_mm_zhipu.testing.glm_stand_in import GLMStandIn

__all__ = [
    "Cut",
    "Delay",
    "EmptyChoices",
    "Ending",
    "ErrorAnswer",
    "ErrorEvent",
    "Fault",
    "GLMStandIn",
    "GarbageEvent",
    "MissingDone",
    "NoFinalNewline",
    "NullContent",
    "RawAnswer",
    "Reasoning",
    "Says",
    "Stall",
    "Trickle",
    "Wrapped",
    "connect_glm",
    "tiny_checkpoint",
]

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
from llama_index_mm_zhipu.testing.gateway_faults import (
    Compressed,
    Endless,
    GatewayError,
    NoFinishReason,
    OddEvents,
    ToolCalls,
)
from llama_index_mm_zhipu.testing.mock_server import GLMStandIn

__all__ = [
    "Compressed",
    "Cut",
    "Delay",
    "EmptyChoices",
    "Ending",
    "Endless",
    "ErrorAnswer",
    "ErrorEvent",
    "Fault",
    "GLMStandIn",
    "GarbageEvent",
    "GatewayError",
    "MissingDone",
    "NoFinalNewline",
    "NoFinishReason",
    "NullContent",
    "OddEvents",
    "RawAnswer",
    "Reasoning",
    "Says",
    "Stall",
    "ToolCalls",
    "Trickle",
    "Wrapped",
    "connect_glm",
    "tiny_checkpoint",
]

"""Tools for tests of code that uses this package: a mock of the GLM API, faults, and random checkpoints."""

from llama_index_mm_zhipu.testing.checkpoints import tiny_checkpoint
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
from llama_index_mm_zhipu.testing.layout import SentPage
from llama_index_mm_zhipu.testing.mock_server import MockGLMServer, connect_glm

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
    "GarbageEvent",
    "GatewayError",
    "MissingDone",
    "MockGLMServer",
    "NoFinalNewline",
    "NoFinishReason",
    "NullContent",
    "OddEvents",
    "RawAnswer",
    "Reasoning",
    "Says",
    "SentPage",
    "Stall",
    "ToolCalls",
    "Trickle",
    "Wrapped",
    "connect_glm",
    "tiny_checkpoint",
]

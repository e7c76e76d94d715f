"""When a failed call is tried again, and how long to wait before."""

from __future__ import annotations

import logging

from tenacity import (
    AsyncRetrying,
    RetryCallState,
    retry_if_exception,
    stop_after_attempt,
    stop_before_delay,
    wait_random_exponential,
)

from llama_index_mm_zhipu.llm.errors import GLMError

logger = logging.getLogger(__name__)

BACKOFF = wait_random_exponential(multiplier=0.5, max=20.0)
"""Seconds before the next try: random, up to 0.5, 1, 2, … 20."""


def retrying(max_retries: int, deadline: float) -> AsyncRetrying:
    """Retry what may pass, with jittered back-off that respects ``Retry-After``; the last error is raised.

    Args:
        max_retries: Further tries after the first.
        deadline: Seconds; a wait that would end later is not begun.
    """
    return AsyncRetrying(
        stop=stop_after_attempt(max_retries + 1) | stop_before_delay(deadline),
        wait=_wait,
        retry=retry_if_exception(lambda error: isinstance(error, GLMError) and error.retryable),
        before_sleep=_log,
        reraise=True,
    )


def _wait(state: RetryCallState) -> float:
    asked = getattr(_error(state), "retry_after", None) or 0.0
    return max(asked, BACKOFF(state))


def _log(state: RetryCallState) -> None:
    logger.info("trying again in %.1f s, after try %d: %s", state.upcoming_sleep, state.attempt_number, _error(state))


def _error(state: RetryCallState) -> BaseException | None:
    return state.outcome.exception() if state.outcome is not None else None

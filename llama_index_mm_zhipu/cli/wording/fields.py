"""The fields that the words of each language fill."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from llama_index_mm_zhipu.text import counted


class Count(int):
    """A number that words format with what is counted: ``{images:image}`` gives ``1 image`` or ``1,389 images``.

    Without a noun, as in Chinese, it is the number alone.
    """

    def __format__(self, noun: str) -> str:
        return counted(int(self), noun) if noun else f"{int(self):,}"


@dataclass(frozen=True)
class CliWording:
    """The words of one language.

    Attributes:
        description: What the program does.
        usage: Title of the usage.
        commands: Title of the list of commands.
        command: Placeholder of a command in the usage.
        arguments: Title of the list of arguments.
        options: Title of the list of options.
        epilog: Example and hint below the help.
        help: Help of each command and option by name; ``command.option`` goes before ``option``.
        errors: Patterns of argparse's messages, as regular expressions, and their translations.
        reasons: What to say for an error of the library, by the name of its class; ``{message}`` is its own message,
            and other names are attributes of the error.
        warnings: What to say for a log message of the library, by its ``reporting.WORDING_KEY``, with its arguments.
        comma: Stands between the items of a list.
        error: Precedes an error; ``{message}``.
        warning: Precedes a warning; ``{message}``.
        unexpected: Says that the program failed; ``{type}``, ``{message}``.
        see_help: Hint after an error of usage; ``{program}``.
        no_path: A file or folder of the command line does not exist; ``{path}``.
        no_index: There is no index; ``{store}``.
        empty_index: The index has no images; ``{store}``.
        or_create: Follows ``no_index`` where an empty index can be created.
        nothing_found: The search found nothing.
        nothing_given: There is nothing to search for; ``{options}`` are the options for images.
        interrupted: The user pressed Ctrl-C.
        interrupted_continues: The user pressed Ctrl-C, and the same command continues.
        indexed: Result of ``index``; ``{images}``, ``{store}``, ``{new}``, ``{kept}``, ``{removed}``, ``{seconds}``.
        skipped: Names what was left out; ``{count}``.
        more: Stands for what is not listed; ``{count}``.
        next_search: Hint after indexing; ``{command}``.
        similarity: Names a score that is a cosine similarity; ``{score}``.
        score: Names another score; ``{score}``.
        text_result: Name of a text among results.
        page: Names the page of a file; ``{page}``.
        cited: Title of the cited sources.
        no_citations: The answer cites nothing.
        unknown_citations: The answer cites images that do not exist; ``{names}``.
        chat_help: Explains the chat.
        chat_cleared: The conversation was forgotten.
        chat_unknown: There is no such command in the chat; ``{command}``.
        chat_no_file: There is no such image; ``{path}``.
        mock: Says that the local mock answers.
        saved: Names the page that was written; ``{path}``.
        not_opened: No browser could be opened; ``{path}``.
        needs_terminal: Images can only be drawn in a terminal.
        exported: Result of ``export``; ``{nodes}``, ``{folder}``, ``{kept}``, ``{size}``, ``{seconds}``.
        imported: Result of ``import``; ``{nodes}``, ``{store}``, ``{kept}``, ``{seconds}``.
        info: Names of the lines of ``info`` by field.
        unknown: A value that is not known.
        gone: Marks a source that does not exist any more.
        vectors: Describes vectors; ``{dimension}``, ``{precision}``, ``{index_type}``.
        weight: Describes the share of captions; ``{weight}``.
        no_weight: Says that captions are not in the vectors.
        doctor_ok: All checks passed.
        doctor_failed: Some did not; ``{failed}``, ``{warnings}``.
        serving: The MCP server listens; ``{url}``.
        serving_page: The page is served; ``{url}``.
        stop_serving: Says how the server is stopped, and that the model is being loaded.
        ready: The index is open; ``{images}``.
        needs_token: Another address than that of this machine needs a token.
    """

    description: str
    usage: str
    commands: str
    command: str
    arguments: str
    options: str
    epilog: str
    help: Mapping[str, str]
    errors: Mapping[str, str]
    reasons: Mapping[str, str]
    warnings: Mapping[str, str]
    comma: str
    error: str
    warning: str
    unexpected: str
    see_help: str
    no_path: str
    no_index: str
    empty_index: str
    or_create: str
    nothing_found: str
    nothing_given: str
    interrupted: str
    interrupted_continues: str
    indexed: str
    skipped: str
    more: str
    next_search: str
    similarity: str
    score: str
    text_result: str
    page: str
    cited: str
    no_citations: str
    unknown_citations: str
    chat_help: str
    chat_cleared: str
    chat_unknown: str
    chat_no_file: str
    mock: str
    saved: str
    not_opened: str
    needs_terminal: str
    exported: str
    imported: str
    info: Mapping[str, str]
    unknown: str
    gone: str
    vectors: str
    weight: str
    no_weight: str
    doctor_ok: str
    doctor_failed: str
    serving: str
    serving_page: str
    stop_serving: str
    ready: str
    needs_token: str

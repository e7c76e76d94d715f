"""Caption and legible text in what a model wrote, however it dressed them up."""

from __future__ import annotations

import re

# Nothing here repeats without bound next to what matches the same: models fill answers with line breaks.
_DRESS = r"[*#>_`\-\d.、）)（(【\[\"“'「一二 \t]{0,8}"
_OF_WHAT = r"(?:这张|该|此)?(?:图片|图像|照片|图中|图)?的?(?:内容)?的?"
_LABEL = re.compile(
    rf"(?:^|(?<=[\n。；;]))[ \t]{{0,8}}{_DRESS}{_OF_WHAT}"
    r"(?:(?P<caption>说明|描述|caption|description)|(?P<text>文字|text))"
    r"(?:[（(][^）)\n]{0,12}[）)])?[*_` \t]{0,4}(?:[：:]|[】\]][：:]?)[*_` \t]{0,4}",
    re.IGNORECASE,
)
_THOUGHT = re.compile(r"\A\s{0,99}<think>.*?</think>", re.DOTALL)
_FENCE = re.compile(r"^```\w{0,20}[ \t]{0,9}$", re.MULTILINE)
_QUOTES = {'"': '"', "“": "”", "「": "」"}
_NO_TEXT = re.compile(
    r"(?:这张|该)?(?:图片?|照片|画面)?[中里上]?(?:没有|未见|无法|无)"
    r"(?:任何|明显|可见|可|辨认|识别|清晰|看清|看得清|可读|显示|出|的){0,5}(?:文字|文本|字)?(?:内容|信息)?"
    r"|none|n/?a|nothing"
    r"|(?:there is )?no (?:legible |visible |readable )?text(?: is)?(?: legible| visible| readable)?"
    r"(?: in the (?:picture|image))?",
    re.IGNORECASE,
)
_BLANK = " \t\r\n*_`\"'“”‘’。．.，,！!（）()【】[]「」"


def caption_in(answer: str) -> str:
    """Return caption and legible text of an answer, each on lines of their own.

    Either may be missing, and they may come in any order; "无" is no text. Words before the text of a picture are its
    caption where nothing is called so, and an answer without labels is taken whole.
    """
    answer = _unquoted(_FENCE.sub("", _THOUGHT.sub("", answer)).strip())
    # The text in a picture may hold such labels itself: the first of each kind counts.
    first = {label.lastgroup: label for label in reversed(list(_LABEL.finditer(answer)))}
    labels = sorted(first.values(), key=lambda label: label.start())
    if not labels:
        return answer
    ends = [*(label.start() for label in labels[1:]), len(answer)]
    found = {label.lastgroup: answer[label.end() : end].strip() for label, end in zip(labels, ends, strict=True)}
    caption = found.get("caption", answer[: labels[0].start()].strip())
    text = found.get("text", "")
    return "\n".join(filter(None, [caption, "" if _NO_TEXT.fullmatch(text.strip(_BLANK)) else text]))


def _unquoted(answer: str) -> str:
    closing = _QUOTES.get(answer[:1])
    return answer[1:-1].strip() if closing and len(answer) > 1 and answer.endswith(closing) else answer

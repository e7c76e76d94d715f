"""Caption and legible text in what a model wrote, however it dressed them up."""

from __future__ import annotations

import re

# Nothing here repeats without bound next to what matches the same: models fill answers with line breaks.
_DRESS = r"[*#>_`\-\d.、）) \t]{0,8}"
_LABEL = re.compile(
    rf"(?:^|(?<=[\n。；;]))[ \t]{{0,8}}{_DRESS}"
    r"(?:(?P<caption>图片说明|说明|描述|caption|description)|(?P<text>图中文字|文字|text))"
    r"[*_` \t]{0,4}[：:][*_` \t]{0,4}",
    re.IGNORECASE,
)
_THOUGHT = re.compile(r"\A\s{0,99}<think>.*?</think>", re.DOTALL)
_FENCE = re.compile(r"^```\w{0,20}[ \t]{0,9}$", re.MULTILINE)
_NO_TEXT = re.compile(
    r"(?:图片?[中里上]|画面[中里])?(?:没有|未见|无)(?:任何|明显|可见|可辨认|可识别|清晰|看得清|可读)?的?(?:文字|文本|字)?(?:内容)?"
    r"|none|n/?a|nothing|(?:there is )?no (?:legible |visible |readable )?text(?: in the (?:picture|image))?",
    re.IGNORECASE,
)
_BLANK = " \t\r\n*_`\"'“”‘’。．.，,！!"


def caption_in(answer: str) -> str:
    """Return caption and legible text of an answer, each on lines of their own.

    Either may be missing, and they may come in any order; "无" is no text. An answer without labels is taken whole.
    """
    answer = _FENCE.sub("", _THOUGHT.sub("", answer)).strip()
    found: dict[str, str] = {}
    labels = list(_LABEL.finditer(answer))
    # The text in a picture may hold such labels itself: the first of each kind counts.
    first = {label.lastgroup: label for label in reversed(labels) if label.lastgroup}
    chosen = sorted(first.values(), key=lambda label: label.start())
    if not chosen:
        return answer
    ends = [*(label.start() for label in chosen[1:]), len(answer)]
    for label, end in zip(chosen, ends, strict=True):
        found[str(label.lastgroup)] = answer[label.end() : end].strip()
    text = found.get("text", "")
    if _NO_TEXT.fullmatch(text.strip(_BLANK)):
        text = ""
    return "\n".join(filter(None, [found.get("caption", "").strip(), text.strip()]))

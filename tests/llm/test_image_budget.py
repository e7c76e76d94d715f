"""More images than a model accepts are dropped or merged into contact sheets, according to the policy."""

from __future__ import annotations

import logging
from io import BytesIO
from pathlib import Path

import pytest
from llama_index.core.base.llms.types import ChatMessage, ImageBlock, TextBlock
from PIL import Image

from llama_index_mm_zhipu.images import ImageError, UrlRules, load_image
from llama_index_mm_zhipu.llm import GLMInvalidRequestError, image_budget
from llama_index_mm_zhipu.llm.image_budget import ImageBudget, ImagePolicy
from llama_index_mm_zhipu.llm.images import QUERY_IMAGE_NUMBER, NumberedImageBlock


@pytest.fixture(scope="module")
def image() -> ImageBlock:
    buffer = BytesIO()
    Image.new("RGB", (60, 40), "red").save(buffer, "PNG")
    return ImageBlock(image=buffer.getvalue())


def chat(image: ImageBlock, *counts: int) -> list[ChatMessage]:
    """Return a message for each count, with so many images and a question."""
    return [ChatMessage(role="user", blocks=[*[image] * count, TextBlock(text="?")]) for count in counts]


def outline(messages: list[ChatMessage], image: ImageBlock) -> list[str]:
    """Return a letter for each block: p for an unchanged image, s for a contact sheet, t for text."""
    letters = {True: "p", False: "s"}
    return [
        "".join(letters[block is image] if isinstance(block, ImageBlock) else "t" for block in message.blocks)
        for message in messages
    ]


@pytest.mark.parametrize(
    ("policy", "limit", "counts", "expected"),
    [
        ("auto", 5, (2, 3), ["ppt", "pppt"]),
        ("auto", 5, (1, 1, 5), ["tt", "tt", "pppppt"]),
        ("auto", 5, (2, 4), ["ptt", "ppppt"]),
        ("auto", 2, (3, 0, 1), ["pttt", "t", "pt"]),
        ("auto", 1, (2, 3), ["ttt", "tsttt"]),
        ("auto", 2, (0, 4), ["t", "tsttstt"]),
        ("auto", 3, (1, 4), ["tt", "ptstpt"]),
        ("grid", 5, (3, 4), ["tsttt", "ppppt"]),
        ("grid", 3, (4, 1, 4), ["tstttt", "pt", "tstttt"]),
        ("grid", 2, (1, 3, 3), ["tt", "tsttt", "tsttt"]),
        ("newest", 2, (1, 3), ["tt", "pptt"]),
        ("newest", 4, (3, 3), ["pttt", "pppt"]),
        ("error", 5, (2, 3), ["ppt", "pppt"]),
    ],
)
def test_images_are_kept_merged_or_dropped_by_policy(
    image: ImageBlock, policy: ImagePolicy, limit: int, counts: tuple[int, ...], expected: list[str]
) -> None:
    fitted = ImageBudget(limit, policy).fit(chat(image, *counts))
    assert sum(line.count("p") + line.count("s") for line in outline(fitted, image)) <= limit
    assert outline(fitted, image) == expected


def test_dropped_images_are_replaced_by_a_text(image: ImageBlock) -> None:
    old, _ = ImageBudget(1).fit(chat(image, 1, 1))
    assert [block.text for block in old.blocks if isinstance(block, TextBlock)] == ["[图片略]", "?"]


def test_contact_sheets_are_explained_and_numbered(image: ImageBlock) -> None:
    (message,) = ImageBudget(1).fit(chat(image, 3))
    explanation, sheet, second, third, _ = message.blocks
    assert isinstance(explanation, TextBlock)
    assert explanation.text == "（下面一张是拼图，含3张图片，上方标有编号1、2、3；此处指其中编号1的图片。）"
    assert [block.text for block in (second, third) if isinstance(block, TextBlock)] == [
        "[即上面拼图中编号2的图片]",
        "[即上面拼图中编号3的图片]",
    ]
    assert isinstance(sheet, ImageBlock)
    assert load_image(sheet).width > 2 * 60


def test_a_wide_budget_spreads_images_over_several_sheets(image: ImageBlock) -> None:
    (message,) = ImageBudget(3).fit(chat(image, 8))
    texts = [block.text for block in message.blocks if isinstance(block, TextBlock)]
    lists = [text.split("编号")[1].split("；")[0] for text in texts if "拼图，含" in text]
    assert lists == ["1、2、3", "4、5", "6、7、8"]


def test_a_sheet_is_drawn_once(image: ImageBlock, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[object] = []
    draw = image_budget.contact_sheet
    monkeypatch.setattr(
        image_budget, "contact_sheet", lambda *given, **options: drawn.append(given) or draw(*given, **options)
    )
    for _ in range(3):
        ImageBudget(1, max_side=777).fit(chat(image, 3))
    assert len(drawn) == 1


def test_urls_are_fetched_for_a_sheet_only_if_allowed(file_server: str, photos: list[Path]) -> None:
    message = ChatMessage(role="user", blocks=[ImageBlock(url=f"{file_server}/{photo.name}") for photo in photos[:3]])
    with pytest.raises(ImageError, match=r"would have to be fetched for a contact sheet; set inline_urls=True, or"):
        ImageBudget(1).fit([message])
    (fitted,) = ImageBudget(1, urls=UrlRules(allowed=True, allow_private=True)).fit([message])
    assert load_image(fitted.blocks[1]).width > 2 * Image.open(photos[0]).width
    (unfetched,) = ImageBudget(1, "newest").fit([message])
    assert unfetched.blocks[0] is message.blocks[0]


def test_given_messages_are_not_changed(image: ImageBlock) -> None:
    messages = chat(image, 2, 3)
    before = [list(message.blocks) for message in messages]
    ImageBudget(1).fit(messages)
    assert [list(message.blocks) for message in messages] == before


def test_the_policy_error_names_both_numbers(image: ImageBlock) -> None:
    with pytest.raises(GLMInvalidRequestError, match=r"7 images, and the model takes 5.*image_policy") as caught:
        ImageBudget(5, "error").fit(chat(image, 3, 4))
    assert not caught.value.retryable


def test_merged_and_dropped_images_are_logged(image: ImageBlock, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    ImageBudget(2).fit(chat(image, 1, 3))
    assert "4 images, and the model takes 2 in one request: 3 share contact sheets, 1 are left out" in caplog.text


# Numbered images


def numbered(image: ImageBlock, *numbers: int) -> ChatMessage:
    blocks = [NumberedImageBlock(image=image.image, number=number) for number in numbers]
    return ChatMessage(role="user", blocks=[*blocks, TextBlock(text="?")])


def sheets_of(message: ChatMessage) -> list[str]:
    texts = [block.text for block in message.blocks if isinstance(block, TextBlock)]
    return [text.split("编号")[1].split("；")[0] for text in texts if "拼图，含" in text]


def test_a_sheet_shows_the_numbers_of_the_prompt(image: ImageBlock) -> None:
    (message,) = ImageBudget(2).fit([numbered(image, 7, 8, 9)])
    assert sheets_of(message) == ["7、8"]


def test_the_image_that_the_question_is_about_is_not_on_a_sheet(image: ImageBlock) -> None:
    message = numbered(image, QUERY_IMAGE_NUMBER, 1, 2, 3, 4)
    (fitted,) = ImageBudget(3).fit([message])
    assert fitted.blocks[0] is message.blocks[0]
    assert sheets_of(fitted) == ["1、2", "3、4"]


def test_a_sheet_is_explained_in_the_language_of_the_prompt(image: ImageBlock) -> None:
    blocks = [NumberedImageBlock(image=image.image, number=number, language="en") for number in (1, 2)]
    (fitted,) = ImageBudget(1).fit([ChatMessage(role="user", blocks=[*blocks, TextBlock(text="?")])])
    texts = [block.text for block in fitted.blocks if isinstance(block, TextBlock)]
    assert texts[0].startswith("(The next picture is a contact sheet of 2 pictures, with the numbers 1, 2 above them")
    assert texts[1] == "[number 2 on the contact sheet above]"


def test_the_image_that_the_question_is_about_is_on_the_sheet_if_only_one_image_fits(image: ImageBlock) -> None:
    (fitted,) = ImageBudget(1).fit([numbered(image, QUERY_IMAGE_NUMBER, 1, 2)])
    assert sheets_of(fitted) == ["0、1、2"]


def test_several_images_that_the_question_is_about_get_letters_on_a_sheet(image: ImageBlock) -> None:
    message = numbered(image, QUERY_IMAGE_NUMBER, QUERY_IMAGE_NUMBER, QUERY_IMAGE_NUMBER, 1, 2)
    (spread,) = ImageBudget(4).fit([message])
    assert [spread.blocks[place] is message.blocks[place] for place in range(3)] == [True] * 3
    assert sheets_of(spread) == ["1、2"]
    (fitted,) = ImageBudget(2).fit([message])
    assert fitted.blocks[0] is message.blocks[0]
    assert sheets_of(fitted) == ["B、C、1、2"]


def test_texts_about_images_are_in_the_language_of_the_chat(image: ImageBlock) -> None:
    question = TextBlock(text="What is on the left?")
    old = ChatMessage(role="user", blocks=[image, question])
    new = ChatMessage(role="user", blocks=[image, image, question])
    first, second = ImageBudget(1).fit([old, new])
    assert first.blocks[0] == TextBlock(text="[image left out]")
    assert "contact sheet of 2 pictures" in str(second.content)


@pytest.mark.parametrize(("limit", "kept"), [(1, False), (2, True), (5, True)])
def test_retrieved_images_share_a_sheet_to_keep_an_image_of_the_user(image: ImageBlock, limit: int, kept: bool) -> None:
    chat = [numbered(image, QUERY_IMAGE_NUMBER), numbered(image, QUERY_IMAGE_NUMBER), numbered(image, 1, 2, 3, 4, 5)]
    oldest, own, newest = ImageBudget(limit).fit(chat)
    assert not any(isinstance(block, ImageBlock) for block in oldest.blocks)
    assert (own.blocks[0] is chat[1].blocks[0]) == kept
    assert sum(isinstance(block, ImageBlock) for block in newest.blocks) == limit - kept
    assert sheets_of(newest)


def test_images_of_the_user_in_the_newest_message_are_preferred_to_older_ones(image: ImageBlock) -> None:
    chat = [
        numbered(image, QUERY_IMAGE_NUMBER),
        numbered(image, QUERY_IMAGE_NUMBER),
        numbered(image, QUERY_IMAGE_NUMBER, 1),
    ]
    for limit, sent in ((2, [0, 0, 2]), (3, [0, 1, 2])):
        fitted = ImageBudget(limit).fit(chat)
        assert [sum(isinstance(block, ImageBlock) for block in message.blocks) for message in fitted] == sent

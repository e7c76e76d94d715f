/** A question with its answer: the text as it comes, its citations, and its sources. */

import { thumbnail } from "./attachment.js";
import { createCard, moveByArrows } from "./cards.js";
import { numbersOf, showAnswer, splitAnswer } from "./citations.js";
import { element, icon, iconTextButton, scrollTo } from "./dom.js";
import { describe, errorNotice, notice } from "./notices.js";
import { nameOf } from "./result_parts.js";
import { imageName, words } from "./words.js";

/** @typedef {import("./api.js").Result} Result */

/**
 * @typedef {object} Turn
 * @property {string} question
 * @property {File | null} file Image that the question is about.
 * @property {string} about Id of an image of the index that the question is about.
 * @property {"finding" | "answering" | "done" | "stopped" | "broken" | "failed"} phase
 * @property {string} text The answer as far as it is known.
 * @property {Result[]} sources
 * @property {import("./api.js").AnswerData | null} answer The whole answer; null until it is complete.
 * @property {unknown} error
 */

/** How long a source stays marked after a click on its citation, in milliseconds. */
const MARK_DURATION = 2500;

/** Shows one turn of a conversation. */
export class TurnView {
  /**
   * @param {Turn} turn
   * @param {() => void} askAgain
   */
  constructor(turn, askAgain) {
    this.turn = turn;
    this.askAgain = askAgain;
    this.node = element("article", { class: "turn" });
    this.text = element("div", { class: "answer-text" });
    this.render();
  }

  /** Shows everything; for a change of the phase or of the language. */
  render() {
    const { turn } = this;
    this.showText();
    this.node.replaceChildren(
      questionOf(turn),
      element(
        "div",
        { class: "answer" },
        element("h4", { class: "hidden-text" }, words().answer),
        this.text,
        progressOf(turn),
        ...remarks(turn, this.askAgain),
        this.actions(),
        ...this.sources(),
      ),
    );
  }

  /** Shows the text of the answer as far as it is known. */
  showText() {
    const { turn } = this;
    const numbers = new Set(turn.sources.map((each) => each.number ?? 0).filter(Boolean));
    const cited = new Set(numbersOf(turn.answer?.citations ?? {}));
    showAnswer(
      this.text,
      splitAnswer(turn.text, numbers, cited),
      (number) => this.showSource(number),
      (number) => this.markSource(number, "hovered"),
    );
    this.text.hidden = !turn.text;
  }

  /** @param {number} number */
  showSource(number) {
    const card = this.node.querySelector(`.card[data-number="${number}"]`);
    if (!card) return;
    const details = card.closest("details");
    if (details) details.open = true;
    scrollTo(card, "nearest");
    card.querySelector("button")?.focus({ preventScroll: true });
    this.markSource(number, "marked");
    setTimeout(() => this.markSource(null, "marked"), MARK_DURATION);
  }

  /**
   * @param {number | null} number Null for none.
   * @param {"marked" | "hovered"} mark
   */
  markSource(number, mark) {
    for (const card of this.node.querySelectorAll(".card")) {
      card.classList.toggle(mark, card.getAttribute("data-number") === String(number));
    }
  }

  /** @param {number | null} number @returns {string} What the answer calls an image, whose language may be another. */
  nameOf(number) {
    if (number === null) return "";
    const name = /(图片?|[Pp]icture|[Ii]mage)(\s*)\d/.exec(this.turn.text);
    return name ? `${name[1]}${name[2]}${number}` : imageName(number, this.turn.question);
  }

  actions() {
    const { turn } = this;
    if (turn.phase === "finding" || turn.phase === "answering") return null;
    const canRepeat = turn.phase !== "done";
    return element(
      "div",
      { class: "answer-actions" },
      turn.text ? copyButton(this.text, turn.text) : null,
      canRepeat && turn.phase !== "failed" ? iconTextButton("retry", words().askAgain, this.askAgain) : null,
    );
  }

  /** @returns {HTMLElement[]} The cited sources, and the others behind a summary. */
  sources() {
    const { sources, answer } = this.turn;
    if (!sources.length) return answer ? [element("p", { class: "quiet-text" }, words().noSources)] : [];
    const ids = new Set(Object.values(answer?.citations ?? {}));
    const cited = sources.filter((each) => ids.has(each.node_id));
    const others = sources.filter((each) => !ids.has(each.node_id));
    if (!cited.length) return [sourcesTitle(words().allSources(sources.length)), this.grid(sources)];
    const shown = [sourcesTitle(words().cited(cited.length)), this.grid(cited)];
    if (!others.length) return shown;
    const summary = element("summary", {}, words().otherSources(others.length));
    return [...shown, element("details", { class: "other-sources" }, summary, this.grid(others))];
  }

  /** @param {Result[]} shown */
  grid(shown) {
    const { question, sources, answer } = this.turn;
    const grid = element(
      "ul",
      { class: "grid sources" },
      ...shown.map((each) =>
        createCard(each, sources, {
          name: this.nameOf(each.number),
          note: answer?.skipped[each.node_id],
          searched: question,
        }),
      ),
    );
    moveByArrows(grid);
    return grid;
  }
}

/** @param {Turn} turn */
function questionOf(turn) {
  const image = turn.file ?? turn.about;
  return element(
    "div",
    { class: "question" },
    element("h3", { class: "hidden-text" }, words().you),
    image ? thumbnail(image, words().aboutChip) : null,
    turn.question ? element("p", {}, turn.question) : null,
  );
}

/** @param {Turn} turn */
function progressOf({ phase }) {
  if (phase !== "finding" && phase !== "answering") return null;
  const text = phase === "finding" ? words().findingSources : words().answering;
  return element("p", { class: "answer-progress" }, element("span", { class: "pulse" }), text);
}

/**
 * @param {Turn} turn
 * @param {() => void} askAgain
 * @returns {HTMLElement[]} Errors, and what readers of the answer should know.
 */
function remarks(turn, askAgain) {
  const found = [];
  const again = [{ icon: "retry", text: words().askAgain, run: askAgain }];
  if (turn.phase === "stopped") found.push(element("p", { class: "quiet-text" }, words().answerStopped));
  if (turn.phase === "broken") found.push(notice("error", words().answerBroken));
  if (turn.phase === "failed") {
    const isGone = describe(turn.error).title === words().errors.gone;
    found.push(isGone ? notice("error", words().chatGone, "", again) : errorNotice(turn.error, askAgain));
  }
  if (!turn.answer) return found;
  const { unknown_citations: unknown, skipped, sources } = turn.answer;
  if (unknown.length) found.push(remark(words().unknownCitations(unknown.join(words().separator))));
  const reasons = Object.entries(skipped);
  if (reasons.length) {
    const names = new Map(sources.map((each) => [each.node_id, nameOf(each)]));
    found.push(
      element(
        "details",
        { class: "remark" },
        element("summary", {}, words().skippedSources(reasons.length)),
        element("ul", {}, ...reasons.map(([id, reason]) => element("li", {}, `${names.get(id) ?? id}: ${reason}`))),
      ),
    );
  }
  return found;
}

/** @param {string} text */
const sourcesTitle = (text) => element("h4", { class: "sources-title" }, text);

/** @param {string} text */
const remark = (text) => element("p", { class: "remark" }, icon("alert"), element("span", {}, text));

/**
 * @param {HTMLElement} shown
 * @param {string} text
 */
function copyButton(shown, text) {
  const button = iconTextButton("copy", words().copy, async () => {
    const isCopied = await copy(shown, text);
    /** @type {HTMLElement} */ (button.lastElementChild).textContent = isCopied ? words().copied : words().copyFailed;
    if (isCopied) button.firstElementChild?.replaceWith(icon("check"));
  });
  return button;
}

/**
 * @param {HTMLElement} shown
 * @param {string} text
 * @returns {Promise<boolean>}
 */
async function copy(shown, text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    // Browsers offer the clipboard to pages of this computer and to HTTPS alone.
    getSelection()?.selectAllChildren(shown);
    return document.execCommand("copy");
  }
}

/** Cards of results: image, caption, score and source, and what can be done with them. */

import { element } from "./dom.js";
import { openImage } from "./lightbox.js";
import { actions, createImage, nameOf, placeOf, scoreName } from "./result_parts.js";
import { words } from "./words.js";

/** @typedef {import("./api.js").Result} Result */

/**
 * Returns the card of a result.
 *
 * @param {Result} result
 * @param {Result[]} list The results that the lightbox goes through.
 * @param {{name?: string, note?: string, searched?: string}} [options] The name by which the answer cites the image, a
 *   remark, and the words by which it was found.
 */
export function createCard(result, list, { name = "", note = "", searched = "" } = {}) {
  const isImage = result.type === "image";
  return element(
    "li",
    { class: isImage ? "card" : "card text-card", data: { id: result.node_id, number: name && result.number } },
    isImage ? imageButton(result, list, searched) : null,
    element(
      "div",
      { class: "card-body" },
      element(
        "p",
        { class: "card-marks" },
        name ? element("strong", { class: "badge" }, name) : null,
        isImage ? null : element("strong", { class: "badge" }, words().textCard),
        scoreText(result),
      ),
      captionOf(result),
      element("p", { class: "card-source", title: result.source }, placeOf(result)),
      note ? element("p", { class: "card-note" }, note) : null,
      isImage ? actions(result) : null,
    ),
  );
}

/** Shows where the cards of a search will be. @param {number} count */
export const skeletons = (count) =>
  Array.from({ length: count }, () =>
    element(
      "li",
      { class: "card skeleton", "aria-hidden": "true" },
      element("span", { class: "image-frame" }),
      element(
        "div",
        { class: "card-body" },
        element("span", { class: "bone" }),
        element("span", { class: "bone short" }),
      ),
    ),
  );

/**
 * Moves the focus among the cards of a grid by the arrow keys.
 *
 * @param {HTMLElement} grid
 */
export function moveByArrows(grid) {
  grid.addEventListener("keydown", (event) => {
    const from = event.target instanceof Element ? event.target.closest(".card") : null;
    if (!from || event.ctrlKey || event.metaKey || event.altKey) return;
    const cards = [...grid.querySelectorAll(".card")].filter((card) => card.querySelector("button"));
    // Texts have no button; arrows scroll them.
    const to = cards.includes(from) ? neighbour(cards, cards.indexOf(from), event.key) : null;
    if (!to) return;
    event.preventDefault();
    to.querySelector("button")?.focus();
  });
}

/**
 * @param {Element[]} cards
 * @param {number} index
 * @param {string} key
 */
function neighbour(cards, index, key) {
  const columnOf = (/** @type {Element} */ card) => Math.round(card.getBoundingClientRect().left);
  const inColumn = cards.filter((card) => columnOf(card) === columnOf(cards[index]));
  const position = inColumn.indexOf(cards[index]);
  switch (key) {
    case "ArrowRight":
      return cards[index + 1];
    case "ArrowLeft":
      return cards[index - 1];
    case "ArrowDown":
      return inColumn[position + 1];
    case "ArrowUp":
      return inColumn[position - 1];
    case "Home":
      return cards[0];
    case "End":
      return cards.at(-1);
    default:
      return undefined;
  }
}

/**
 * @param {Result} result
 * @param {Result[]} list
 * @param {string} searched
 */
const imageButton = (result, list, searched) =>
  element(
    "button",
    { type: "button", class: "card-image", onclick: () => openImage(result, list, searched) },
    createImage(result.node_id, nameOf(result), "thumbnail"),
  );

/** @param {Result} result */
function captionOf(result) {
  if (result.caption) return element("p", { class: "caption", title: result.caption }, result.caption);
  if (result.type === "text") return element("p", { class: "full-text", tabIndex: 0 }, result.text);
  if (result.text) return element("p", { class: "caption excerpt" }, result.text);
  return element("p", { class: "caption none" }, words().noCaption);
}

/** @param {Result} result */
const scoreText = (result) => (result.score === null ? null : element("span", { class: "score" }, scoreName(result)));

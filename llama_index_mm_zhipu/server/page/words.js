/** The language of the page and its texts, which are all in `words_zh.js` and `words_en.js`. */

import { en } from "./words_en.js";
import { zh } from "./words_zh.js";

/** @typedef {"zh" | "en"} Language */
/** @typedef {keyof typeof zh} Word */

const TEXTS = { zh, en };

/** @type {Language} */
let current = "zh";

/** @returns {Language} The language of the page. */
export const language = () => current;

/**
 * Sets the language of the page, and the texts of its static parts.
 *
 * @param {Language} chosen
 */
export function setLanguage(chosen) {
  current = chosen;
  document.documentElement.lang = chosen === "zh" ? "zh-CN" : "en";
  fill("text", (node, text) => (node.textContent = text));
  fill("label", (node, text) => {
    node.setAttribute("aria-label", text);
    if (node instanceof HTMLButtonElement) node.title = text;
  });
  fill("title", (node, text) => (node.title = text));
  fill("placeholder", (node, text) => node.setAttribute("placeholder", text));
}

/**
 * The texts of the current language; functions take the values that they show.
 *
 * @returns {typeof zh}
 */
export const words = () => TEXTS[current];

/**
 * Returns the name by which answers cite an image. Answers have the language of the question.
 *
 * @param {number} number
 * @param {string} question
 */
export const imageName = (number, question) => (/[\u4e00-\u9fff]/.test(question) ? `图${number}` : `Picture ${number}`);

/**
 * @param {"text" | "label" | "title" | "placeholder"} use
 * @param {(node: HTMLElement, text: string) => void} apply
 */
function fill(use, apply) {
  for (const node of document.querySelectorAll(`[data-${use}]`)) {
    if (!(node instanceof HTMLElement)) continue;
    apply(node, String(words()[/** @type {Word} */ (node.dataset[use])]));
  }
}

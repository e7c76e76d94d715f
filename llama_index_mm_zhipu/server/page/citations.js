/** Finds the citations in an answer, such as `[图1，图2]`, and shows them as buttons. */

import { element } from "./dom.js";
import { words } from "./words.js";

// The same forms as in query/citations.py of the package. Names without brackets are only looked for if the server says
// that the answer cites them, so that their context need not be judged as closely as there.
const NAME = "图片?|[Pp]ictures?|[Ii]mages?";
const CLOCK = "\\d{1,3}(?:[:：]\\d{2}){1,2}(?:[.．]\\d{1,3})?(?!\\d)";
const TIME = `\\s*(?:[，,、：:@]\\s*)?(?:${CLOCK}|[（(]\\s*${CLOCK}\\s*[）)])`;
const JOINT = "、|，|,\\s*and\\b|,\\s*or\\b|,|;|；|和|与|及|以及|或|and\\b|or\\b|&|至|到|~|～|–|—|-|to\\b|through\\b";
const NUMBER = "\\d{1,4}(?!\\d|[.．]\\d|[A-Za-z])";
const BRACKETED =
  `[\\[【（(]\\s*(?:${NAME})\\s*${NUMBER}(?:${TIME})?` +
  `(?:\\s*(?:${JOINT})\\s*(?:(?:${NAME})\\s*)?\\d{1,4}(?:${TIME})?)*\\s*[\\]】）)]`;
// 图 may be the end of a word such as 地图; after these characters it begins one.
const BEFORE =
  "(?<![\\u4e00-\\u9fff])|(?<=[如见在从和与及或跟对由的是为据按比看将把向有中而但此以自于用若括除到至示请则都也让使另同仅这那考阅察取做认来去着得里前后间])";
const BARE = `(?:(?:${BEFORE})图片?|\\b[Pp]icture|\\b[Ii]mage)\\s*(?<bare>${NUMBER})(?!\\s*[室厅号层楼栋期版维])`;
const MENTION = new RegExp(`(?<bracketed>${BRACKETED})|${BARE}`, "g");
const IN_BRACKETS = new RegExp(`(?:(?:${NAME})\\s*)?(?<number>\\d{1,4})(?:${TIME})?`, "g");

/** @typedef {string | {number: number, text: string}} Part A text, or a citation with its words. */

/**
 * Splits an answer into texts and citations of images that exist.
 *
 * @param {string} answer
 * @param {Set<number>} numbers Numbers of the images among the sources.
 * @param {Set<number>} cited Numbers of those that the server found to be cited; empty while the answer is on its way.
 * @returns {Part[]}
 */
export function splitAnswer(answer, numbers, cited) {
  /** @type {Part[]} */
  const parts = [];
  let end = 0;
  for (const match of answer.matchAll(MENTION)) {
    const { bracketed, bare } = /** @type {Record<string, string | undefined>} */ (match.groups);
    const pieces = bracketed ? splitBrackets(bracketed, numbers) : [{ number: Number(bare), text: match[0] }];
    if (!bracketed && !cited.has(Number(bare))) continue;
    parts.push(answer.slice(end, match.index), ...pieces);
    end = match.index + match[0].length;
  }
  parts.push(answer.slice(end));
  return parts.filter((part) => part !== "");
}

/**
 * Returns the numbers of the images that an answer cites, in order.
 *
 * @param {Record<string, string>} citations Node ids by name.
 */
export const numbersOf = (citations) => Object.keys(citations).map((name) => Number(/\d+/.exec(name)?.[0] ?? 0));

/**
 * Shows an answer with its citations as buttons.
 *
 * @param {HTMLElement} container
 * @param {Part[]} parts
 * @param {(number: number) => void} onCite
 * @param {(number: number | null) => void} onHover Takes null when the pointer leaves.
 */
export function showAnswer(container, parts, onCite, onHover) {
  const shown = [...container.childNodes];
  // What is there already stays, so that a citation can be clicked while the answer goes on.
  const isShown = (/** @type {Part} */ part, /** @type {number} */ index) =>
    typeof part === "string"
      ? shown[index] instanceof Text && shown[index].textContent === part
      : shown[index] instanceof Element && shown[index].textContent === part.text;
  const changed = parts.findIndex((part, index) => !isShown(part, index));
  const start = changed === -1 ? parts.length : changed;
  shown.slice(start).forEach((node) => node.remove());
  container.append(
    ...parts
      .slice(start)
      .map((part) => (typeof part === "string" ? part : citation(part.text, part.number, onCite, onHover))),
  );
}

/**
 * @param {string} text
 * @param {number} number
 * @param {(number: number) => void} onCite
 * @param {(number: number | null) => void} onHover
 */
const citation = (text, number, onCite, onHover) =>
  element(
    "button",
    {
      type: "button",
      class: "citation",
      title: words().showSource(text),
      onclick: () => onCite(number),
      onmouseenter: () => onHover(number),
      onmouseleave: () => onHover(null),
    },
    text,
  );

/**
 * @param {string} bracketed
 * @param {Set<number>} numbers
 * @returns {Part[]} Without the brackets if all of the images exist.
 */
function splitBrackets(bracketed, numbers) {
  const inner = bracketed.slice(1, -1);
  /** @type {Part[]} */
  const parts = [];
  let end = 0;
  let areKnown = true;
  for (const match of inner.matchAll(IN_BRACKETS)) {
    const number = Number(match.groups?.number);
    if (!numbers.has(number)) {
      areKnown = false;
      continue;
    }
    parts.push(inner.slice(end, match.index), { number, text: match[0].trim() });
    end = match.index + match[0].length;
  }
  parts.push(inner.slice(end));
  return areKnown ? parts : [bracketed[0], ...parts, bracketed.at(-1) ?? ""];
}

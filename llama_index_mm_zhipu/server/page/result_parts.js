/** Parts of results that cards and the lightbox share. */

import { imageProblem, imageUrl } from "./api.js";
import { element, fileName, icon, iconTextButton } from "./dom.js";
import { askAbout, searchLike } from "./state.js";
import { words } from "./words.js";

/** @typedef {import("./api.js").Result} Result */

/**
 * Returns the buttons that search by an image of the index and ask about it.
 *
 * @param {Result} result
 */
export const actions = (result) =>
  element(
    "div",
    { class: "card-actions" },
    iconTextButton("similar", words().like, () => searchLike(result.node_id), { title: words().likeTitle }),
    iconTextButton("ask", words().about, () => askAbout(result.node_id), { title: words().aboutTitle }),
  );

/**
 * Why images cannot be shown, by their addresses, so that they are not asked for again.
 *
 * @type {Map<string, string>}
 */
const problems = new Map();

/**
 * Returns an image of the index. If it cannot be loaded, the reason is shown in its place.
 *
 * @param {string} id
 * @param {string} alt
 * @param {"thumbnail" | "whole"} size
 * @returns {HTMLElement}
 */
export function createImage(id, alt, size) {
  const url = imageUrl(id, size);
  const frame = element("span", { class: "image-frame" });
  const known = problems.get(url);
  if (known) {
    showProblem(frame, alt, known);
    return frame;
  }
  const image = element("img", { src: url, alt, decoding: "async", draggable: false });
  if (size === "thumbnail") image.loading = "lazy";
  image.addEventListener("load", () => frame.classList.add("loaded"));
  image.addEventListener("error", async () => {
    showProblem(frame, alt, words().imageMissing);
    const reason = await imageProblem(url);
    if (!reason) return;
    problems.set(url, reason);
    showProblem(frame, alt, reason);
  });
  frame.append(image);
  return frame;
}

/**
 * @param {HTMLElement} frame
 * @param {string} alt
 * @param {string} reason
 */
function showProblem(frame, alt, reason) {
  frame.classList.add("missing");
  frame.title = reason;
  frame.replaceChildren(
    icon("image"),
    element("span", { class: "hidden-text" }, alt),
    element("span", { class: "missing-text" }, reason),
  );
}

/**
 * Returns what an image is called: its caption, or the name of its file.
 *
 * @param {Result} result
 */
export const nameOf = (result) => result.caption || fileName(result.source) || result.node_id;

/**
 * Returns where a result comes from in one line: file, page and time.
 *
 * @param {Result} result
 */
export const placeOf = (result) =>
  [fileName(result.source), result.page && words().page(result.page), result.time].filter(Boolean).join(" · ");

/**
 * Returns the score with its name; empty for results that were not searched for.
 *
 * @param {Result} result
 */
export function scoreName(result) {
  if (result.score === null) return "";
  const score = result.score.toFixed(2);
  return result.score_type === "similarity" ? words().similarity(score) : words().score(score);
}

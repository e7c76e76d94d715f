/** The whole image in a dialog, with what is known of it and the lines of text in it. */

import { fetchDetails, isAbort } from "./api.js";
import { byId, element, iconButton } from "./dom.js";
import { errorNotice } from "./notices.js";
import { actions, createImage, nameOf, scoreName } from "./result_parts.js";
import { onLanguage } from "./settings.js";
import { go, leaveImage, onState, state } from "./state.js";
import { words } from "./words.js";

/** @typedef {import("./api.js").Result} Result */
/** @typedef {import("./api.js").Line} Line */

/** @type {HTMLDialogElement} */
const dialog = byId("lightbox");

/** How far a finger moves sideways for the next image, in pixels. */
const SWIPE = 60;

/** @type {Result[]} */
let list = [];

/** @type {AbortController | null} */
let loading = null;

let showsAllBoxes = false;

/**
 * Opens an image.
 *
 * @param {Result} result
 * @param {Result[]} results The results among which the arrow keys move; texts are left out.
 */
export function openImage(result, results) {
  list = results.filter((each) => each.type === "image");
  go({ image: result.node_id });
}

/**
 * Lets the arrow keys move among results, if the open image is one of them.
 *
 * @param {Result[]} results
 */
export function offerList(results) {
  if (!dialog.open || list.length || !results.some((each) => each.node_id === state().image)) return;
  list = results.filter((each) => each.type === "image");
  show(state().image);
}

/** Lets the state of the page open and close the dialog. */
export function initLightbox() {
  onState(({ image }) => {
    if (image && image !== dialog.dataset.shown) show(image);
    else if (!image && dialog.open) dialog.close();
  });
  dialog.addEventListener("close", () => {
    loading?.abort();
    const card = document.querySelector(`main section:not([hidden]) .card[data-id="${CSS.escape(dialog.dataset.shown ?? "")}"] button`);
    delete dialog.dataset.shown;
    dialog.replaceChildren();
    if (card instanceof HTMLElement) card.focus();
    if (state().image) leaveImage();
  });
  dialog.addEventListener("keydown", (event) => {
    if (event.key === "ArrowLeft") move(-1);
    else if (event.key === "ArrowRight") move(1);
  });
  dialog.addEventListener("click", (event) => {
    if (event.target === dialog) dialog.close();
  });
  onLanguage(() => {
    if (dialog.open) show(state().image);
  });
}

/** @param {number} step */
function move(step) {
  const next = list[indexOf(state().image) + step];
  if (next) go({ image: next.node_id }, { replace: true });
}

/** @param {HTMLElement} stage */
function moveBySwipes(stage) {
  /** @type {Touch | undefined} */
  let start;
  stage.addEventListener("touchstart", (event) => {
    start = event.touches.length === 1 ? event.touches[0] : undefined;
  }, { passive: true });
  stage.addEventListener("touchend", (event) => {
    const end = event.changedTouches[0];
    if (!start || (visualViewport?.scale ?? 1) > 1) return;
    const [across, down] = [end.clientX - start.clientX, end.clientY - start.clientY];
    if (Math.abs(across) > SWIPE && Math.abs(across) > 2 * Math.abs(down)) move(across < 0 ? 1 : -1);
  });
}

/** @param {string} id */
const indexOf = (id) => list.findIndex((each) => each.node_id === id);

/** @param {string} id */
async function show(id) {
  dialog.dataset.shown = id;
  const known = list[indexOf(id)] ?? null;
  if (!known) list = [];
  const stage = element("div", { class: "stage" });
  const side = element("div", { class: "details", tabIndex: 0, role: "region", "aria-label": words().imageDetails });
  const frame = stageFrame(id, known ? nameOf(known) : words().image);
  stage.append(frame);
  moveBySwipes(stage);
  dialog.replaceChildren(toolbar(id), stage, side);
  if (known) side.append(...description(known));
  else side.append(element("p", { class: "quiet-text" }, words().loadingDetails));
  if (!dialog.open) dialog.showModal();
  loading?.abort();
  loading = new AbortController();
  try {
    const { result, lines } = await fetchDetails(id, state().words, loading.signal);
    // The score and the number belong to the search, not to the image.
    const whole = known ? { ...result, score: known.score, score_type: known.score_type } : result;
    side.replaceChildren(...description(whole), ...textSection(whole, lines, frame));
    const image = frame.querySelector("img");
    if (image) image.alt = nameOf(whole);
  } catch (error) {
    if (isAbort(error)) return;
    const notice = errorNotice(error, () => show(id));
    if (known) side.append(notice);
    else side.replaceChildren(notice);
  }
}

/** @param {string} id */
function toolbar(id) {
  const index = indexOf(id);
  const previous = iconButton("left", words().previous, () => move(-1));
  const next = iconButton("right", words().next, () => move(1));
  previous.disabled = index < 1;
  next.disabled = index < 0 || index === list.length - 1;
  return element(
    "div",
    { class: "lightbox-bar" },
    previous,
    next,
    element("span", { class: "position" }, list.length > 1 ? words().position(index + 1, list.length) : ""),
    iconButton("close", words().close, () => dialog.close(), "icon-button close"),
  );
}

/**
 * Returns the image in a frame of the same proportions, so that boxes can be placed by shares of its sides.
 *
 * @param {string} id
 * @param {string} alt
 */
function stageFrame(id, alt) {
  const frame = createImage(id, alt, "whole");
  const image = frame.querySelector("img");
  image?.addEventListener("load", () => {
    frame.style.setProperty("--ratio", String(image.naturalWidth / image.naturalHeight));
    frame.style.setProperty("--width", `${image.naturalWidth}px`);
  });
  return frame;
}

/** @param {Result} result @returns {HTMLElement[]} */
function description(result) {
  const facts = [
    [words().scoreLabel, scoreName(result)],
    [words().source, result.source],
    [words().pageLabel, result.page],
    [words().time, result.time],
    [words().nodeId, result.node_id],
  ].filter(([, value]) => value);
  const metadata = Object.entries(result.metadata);
  return [
    element("h2", {}, nameOf(result)),
    actions(result),
    element("dl", { class: "facts" }, ...facts.flatMap(([name, value]) => [element("dt", {}, name), element("dd", {}, value)])),
    ...(metadata.length ? [metadataTable(metadata)] : []),
  ];
}

/** @param {[string, unknown][]} metadata */
const metadataTable = (metadata) =>
  element(
    "table",
    { class: "metadata" },
    element("caption", {}, words().metadata),
    element(
      "tbody",
      {},
      ...metadata.map(([name, value]) =>
        element("tr", {}, element("th", { scope: "row" }, words().keyNames[name] ?? name), element("td", {}, typeof value === "string" ? value : JSON.stringify(value))),
      ),
    ),
  );

/**
 * @param {Result} result
 * @param {Line[]} lines
 * @param {HTMLElement} frame
 * @returns {HTMLElement[]}
 */
function textSection(result, lines, frame) {
  if (!lines.length) {
    return result.text ? [element("h3", {}, words().textInImage), element("p", { class: "page-text" }, result.text)] : [];
  }
  const boxes = lines.map(boxOf);
  frame.append(...boxes);
  const matches = lines.filter((line) => line.is_match).length;
  const toggle = element("input", { type: "checkbox", checked: showsAllBoxes, role: "switch" });
  const apply = () => {
    showsAllBoxes = toggle.checked;
    frame.classList.toggle("all-boxes", showsAllBoxes);
  };
  toggle.addEventListener("change", apply);
  apply();
  return [
    element(
      "div",
      { class: "text-head" },
      element("h3", {}, words().textInImage),
      element("label", { class: "switch" }, toggle, element("span", {}, words().showAllBoxes)),
    ),
    matches ? element("p", { class: "quiet-text" }, words().matches(matches)) : element("span"),
    element("ol", { class: "lines" }, ...lines.map((line, index) => lineItem(line, boxes[index]))),
  ];
}

/** @param {Line} line */
function boxOf({ box: [left, top, right, bottom], text, is_match: isMatch }) {
  const box = element("span", { class: isMatch ? "box match" : "box", title: text, "aria-hidden": "true" });
  // Boxes that reach out of the image would lie over the text beside it.
  const percent = (/** @type {number} */ share) => `${Math.min(1, Math.max(0, share)) * 100}%`;
  Object.assign(box.style, { left: percent(left), top: percent(top), right: percent(1 - right), bottom: percent(1 - bottom) });
  return box;
}

/**
 * @param {Line} line
 * @param {HTMLElement} box
 */
function lineItem(line, box) {
  const button = element(
    "button",
    { type: "button", class: "line" },
    line.is_match ? element("mark", {}, line.text) : line.text,
  );
  const mark = (/** @type {boolean} */ isActive) => () => {
    box.classList.toggle("active", isActive);
    button.classList.toggle("active", isActive);
  };
  for (const [node, begin, end] of /** @type {const} */ ([
    [button, "mouseenter", "mouseleave"], [button, "focus", "blur"], [box, "mouseenter", "mouseleave"],
  ])) {
    node.addEventListener(begin, mark(true));
    node.addEventListener(end, mark(false));
  }
  return element("li", {}, button);
}

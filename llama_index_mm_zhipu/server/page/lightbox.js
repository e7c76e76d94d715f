/** The whole image in a dialog, with what is known of it and the lines of text in it. */

import { fetchDetails, isAbort } from "./api.js";
import { byId, element, iconButton } from "./dom.js";
import { textSection } from "./image_text.js";
import { errorNotice } from "./notices.js";
import { actions, nameOf, scoreName } from "./result_parts.js";
import { onLanguage } from "./settings.js";
import { createStage, isZoomed, toggleZoom } from "./stage.js";
import { go, leaveImage, onState, state } from "./state.js";
import { words } from "./words.js";

/** @typedef {import("./api.js").Result} Result */

/** @type {HTMLDialogElement} */
const dialog = byId("lightbox");

/** @type {Result[]} */
let list = [];

/** @type {AbortController | null} */
let loading = null;

/** Words whose lines are marked in the image. */
let searched = "";

/**
 * Opens an image.
 *
 * @param {Result} result
 * @param {Result[]} results The results among which the arrow keys move; texts are left out.
 * @param {string} text Words whose lines are marked in the image.
 */
export function openImage(result, results, text) {
  searched = text;
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
    const card = document.querySelector(
      `main section:not([hidden]) .card[data-id="${CSS.escape(dialog.dataset.shown ?? "")}"] button`,
    );
    delete dialog.dataset.shown;
    searched = "";
    dialog.replaceChildren();
    if (card instanceof HTMLElement) card.focus();
    if (state().image) leaveImage();
  });
  dialog.addEventListener("keydown", (event) => {
    // Arrows scroll an enlarged image.
    if (event.target instanceof Element && isZoomed(event.target)) return;
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

/** @param {string} id */
const indexOf = (id) => list.findIndex((each) => each.node_id === id);

/** @param {string} id */
async function show(id) {
  dialog.dataset.shown = id;
  const known = list[indexOf(id)] ?? null;
  if (!known) list = [];
  const control = dialog.open ? document.activeElement?.getAttribute("data-control") : null;
  const { stage, frame } = createStage(id, known ? nameOf(known) : words().image, move);
  const side = element("div", { class: "details", tabIndex: 0, role: "region", "aria-label": words().imageDetails });
  dialog.replaceChildren(toolbar(id, stage), stage, side);
  if (known) side.append(...description(known));
  else side.append(element("p", { class: "quiet-text" }, words().loadingDetails));
  if (!dialog.open) dialog.showModal();
  if (control) focusControl(control);
  loading?.abort();
  loading = new AbortController();
  try {
    const { result, lines } = await fetchDetails(id, searched || state().words, loading.signal);
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

/**
 * Focuses the control that had the focus before the next image was shown, or one that is not disabled.
 *
 * @param {string} name
 */
function focusControl(name) {
  const control = dialog.querySelector(`[data-control="${name}"]:not(:disabled)`) ?? dialog.querySelector(".close");
  if (control instanceof HTMLElement) control.focus();
}

/**
 * @param {string} id
 * @param {HTMLElement} stage
 */
function toolbar(id, stage) {
  const index = indexOf(id);
  const controls = {
    previous: iconButton("left", words().previous, () => move(-1)),
    next: iconButton("right", words().next, () => move(1)),
    zoom: iconButton("zoom", words().zoom, () => toggleZoom(stage)),
    close: iconButton("close", words().close, () => dialog.close(), "icon-button close"),
  };
  for (const [name, control] of Object.entries(controls)) control.dataset.control = name;
  controls.previous.disabled = index < 1;
  controls.next.disabled = index < 0 || index === list.length - 1;
  const position = list.length > 1 ? words().position(index + 1, list.length) : "";
  return element(
    "div",
    { class: "lightbox-bar" },
    controls.previous,
    controls.next,
    element("span", { class: "position" }, position),
    controls.zoom,
    controls.close,
  );
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
    element(
      "dl",
      { class: "facts" },
      ...facts.flatMap(([name, value]) => [element("dt", {}, name), element("dd", {}, value)]),
    ),
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
        element(
          "tr",
          {},
          element("th", { scope: "row" }, words().keyNames[name] ?? name),
          element("td", {}, typeof value === "string" ? value : JSON.stringify(value)),
        ),
      ),
    ),
  );

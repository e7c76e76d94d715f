/** Starts the page: views, keyboard, images that are dropped or pasted, and the state of the server. */

import { addDropped, initAdd, showReading } from "./add.js";
import { askByFile, initAsk } from "./ask.js";
import { byId, element, sizeText } from "./dom.js";
import { initLightbox } from "./lightbox.js";
import { errorNotice, notice } from "./notices.js";
import { watchDrops } from "./image_input.js";
import { initSearch } from "./search.js";
import { initSettings, onLanguage } from "./settings.js";
import { go, onState, searchByFile, state, urlOf } from "./state.js";
import { isEmpty, onStatus, refreshStatus, status } from "./status.js";
import { words } from "./words.js";

/** @typedef {import("./state.js").State["view"]} View */

/** @type {View[]} */
const VIEWS = ["search", "ask", "add"];

/** @type {HTMLDialogElement} */
const keys = byId("keys");

/** A message about what was dropped; it stays until the next step. */
let dropNotice = /** @type {HTMLElement | null} */ (null);

/** @param {View} view @returns {HTMLAnchorElement} */
const tabOf = (view) => /** @type {HTMLAnchorElement} */ (document.querySelector(`.tabs [data-view=${view}]`));

const canAdd = () => Boolean(status()?.can_add);

function initViews() {
  for (const view of VIEWS) {
    tabOf(view).addEventListener("click", (event) => {
      if (event.metaKey || event.ctrlKey || event.shiftKey) return;
      event.preventDefault();
      go({ view, image: "" });
    });
  }
  onState(() => {
    dropNotice = null;
    showViews();
    showBanner();
  });
}

function showViews() {
  for (const view of VIEWS) {
    const isShown = state().view === view;
    byId(`view-${view}`).hidden = !isShown || (view !== "add" && isEmpty());
    const tab = tabOf(view);
    tab.href = urlOf({ ...state(), view, image: "" });
    if (isShown) tab.setAttribute("aria-current", "page");
    else tab.removeAttribute("aria-current");
  }
  tabOf("add").hidden = !canAdd() && state().view !== "add";
  document.title = [state().view === "search" ? state().words : "", words()[state().view], "mmzhipu"]
    .filter(Boolean)
    .join(" – ");
}

/**
 * @param {import("./api.js").Status | null} known
 * @param {import("./api.js").ApiError | null} error
 */
function showServer(known, error) {
  const index = known?.index;
  byId("count").replaceChildren(
    index ? words().images(index.images) : "",
    index?.texts ? element("span", { class: "texts" }, ` · ${words().texts(index.texts)}`) : "",
  );
  serverError = error;
  byId("drop-zone").hidden = Boolean(known) && !canAdd();
  showViews();
  showBanner();
}

let serverError = /** @type {import("./api.js").ApiError | null} */ (null);

function showBanner() {
  byId("banner").replaceChildren(...(dropNotice ? [dropNotice] : []), ...serverNotices());
}

/** @returns {HTMLElement[]} */
function serverNotices() {
  const known = status();
  if (serverError) return [errorNotice(serverError, refreshStatus)];
  if (!known) return [element("p", { class: "quiet-text" }, words().unknownState)];
  if (known.state === "failed") return [notice("error", words().loadFailed, known.error?.message)];
  if (known.state === "loading") {
    return [
      element(
        "p",
        { class: "loading-model", role: "status" },
        element("span", { class: "pulse" }),
        words().loadingModel,
      ),
    ];
  }
  if (isEmpty() && state().view !== "add") return [emptyIndex()];
  return state().view === "add" && !canAdd() ? [notice("info", words().addClosed)] : [];
}

const emptyIndex = () =>
  element(
    "div",
    { class: "empty-index" },
    element("h2", {}, words().addEmpty),
    element("p", {}, canAdd() ? words().addEmptyHint : words().addEmptyClosed),
    canAdd()
      ? element("button", { type: "button", class: "primary", onclick: () => go({ view: "add" }) }, words().addHeading)
      : null,
  );

/** @param {string} text */
function warn(text) {
  dropNotice = notice("error", text);
  showBanner();
}

/** @param {File} file */
function takeImage(file) {
  if (canAdd() && (state().view === "add" || isEmpty())) {
    addDropped(Promise.resolve([{ file, name: file.name }]));
    return;
  }
  const limit = status()?.limits.image_bytes ?? Infinity;
  if (file.size > limit) warn(words().imageTooLarge(sizeText(file.size), sizeText(limit)));
  else if (state().view === "ask") askByFile(file);
  else searchByFile(file);
}

/** @param {boolean} isSingleImage */
function dropHint(isSingleImage) {
  if (state().view === "add" || isEmpty() || !isSingleImage) return words().dropToAdd;
  return state().view === "ask" ? words().dropToAsk : words().dropToSearch;
}

function initDrops() {
  watchDrops({
    onImage: takeImage,
    onFiles: (files) => {
      if (canAdd()) addDropped(files);
      else warn(words().addClosed);
    },
    hint: dropHint,
    onReading: showReading,
  });
}

function initKeys() {
  const fill = () =>
    byId("key-list").replaceChildren(
      ...words().keyList.flatMap(([key, text]) => [
        element("dt", {}, element("kbd", {}, key)),
        element("dd", {}, text),
      ]),
    );
  fill();
  onLanguage(fill);
  byId("show-keys").addEventListener("click", () => keys.showModal());
  keys.addEventListener("click", (event) => {
    if (event.target === keys) keys.close();
  });
  addEventListener("keydown", (event) => {
    const isTyping = event.target instanceof Element && event.target.matches("input, textarea, select");
    if (isTyping || event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]")) return;
    if (event.key === "?") keys.showModal();
    if (event.key !== "/") return;
    event.preventDefault();
    if (state().view === "add") go({ view: "search" });
    focusInput();
  });
}

function focusInput() {
  byId(state().view === "ask" ? "question" : "words").focus();
}

initSettings();
initViews();
initSearch();
initAsk();
initAdd();
initLightbox();
initDrops();
initKeys();
onStatus(showServer);
onLanguage(() => showServer(status(), serverError));
onState(() => {
  // Whoever asks about an image goes on to type.
  if (state().view === "ask" && state().about && !state().image) focusInput();
});
showBanner();
refreshStatus();

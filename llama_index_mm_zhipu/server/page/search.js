/** The view that searches by words, by an image, or by both. */

import { isAbort, search } from "./api.js";
import { showAttachment } from "./attachment.js";
import { createCard, moveByArrows, skeletons } from "./cards.js";
import { byId, element } from "./dom.js";
import { createFilterBar } from "./filters.js";
import { chooseFiles, keptFile } from "./image_input.js";
import { offerList } from "./lightbox.js";
import { errorNotice, hintList, notice } from "./notices.js";
import { onLanguage } from "./settings.js";
import { NUMBERS, go, onState, searchByFile, state } from "./state.js";
import { isEmpty, isReady, onStatus, status } from "./status.js";
import { words } from "./words.js";

/** @typedef {import("./api.js").Result} Result */
/** @typedef {{results: Result[], seconds: number}} Found */

const SLIDER_DELAY = 250;
const MAX_RECENT = 20;

/**
 * What was found lately by query, so that going back shows it at once, where the user had scrolled to.
 *
 * @type {Map<string, Found>}
 */
const recent = new Map();

/** @type {HTMLInputElement} */
const input = byId("words");
/** @type {HTMLInputElement} */
const cutoff = byId("cutoff");
/** @type {HTMLSelectElement} */
const number = byId("number");
const grid = byId("results");
const summary = byId("search-summary");
const noticeArea = byId("search-notice");

/** What is shown: results, an error, or nothing yet. */
let found = /** @type {Found | null} */ (null);
let failure = /** @type {unknown} */ (null);

/** The query whose outcome is shown or awaited, as a text that can be compared. */
let shownQuery = "";

/** All that the shown results and hints depend on; they are kept while it stays the same, with the focus in them. */
let shownBasis = "";

/** What the shown results were searched by, and whether they stay while others are searched by the same. */
let searchedBy = "";
let keepsResults = false;

/** @type {AbortController | null} */
let running = null;
let sliderTimer = 0;
let knownImages = 0;

/** Starts the view. */
export function initSearch() {
  number.replaceChildren(...NUMBERS.map((each) => element("option", { value: String(each) }, String(each))));
  createFilterBar("search-filters");
  moveByArrows(grid);
  byId("search-form").addEventListener("submit", (event) => {
    event.preventDefault();
    submit();
  });
  byId("search-image").addEventListener("click", () =>
    chooseFiles({ accept: "image/*" }, ([chosen]) => chosen?.file && searchByFile(chosen.file)),
  );
  number.addEventListener("change", () => go({ number: Number(number.value) }));
  cutoff.addEventListener("input", () => {
    showCutoff(Number(cutoff.value));
    clearTimeout(sliderTimer);
    // Steps of the slider are no entries of the history.
    sliderTimer = setTimeout(() => go({ cutoff: Number(cutoff.value) }, { replace: true }), SLIDER_DELAY);
  });
  onState(() => {
    showControls();
    update();
  });
  onStatus(() => {
    const images = status()?.index?.images ?? 0;
    if (images !== knownImages) forget();
    knownImages = images;
    update();
  });
  onLanguage(() => {
    showControls();
    render();
  });
}

/** Takes the words of the input, and searches again if they are the same. */
function submit() {
  const text = input.value.trim();
  if (text === state().words) {
    forget();
    update();
  } else {
    go({ words: text });
  }
}

/** Makes the next update search again. */
function forget() {
  recent.clear();
  shownQuery = "";
}

function showControls() {
  const shown = state();
  input.value = shown.words;
  input.maxLength = status()?.limits.words ?? 4000;
  number.value = String(shown.number);
  cutoff.value = String(shown.cutoff);
  showCutoff(shown.cutoff);
  const file = keptFile(shown.upload);
  showAttachment(byId("search-attachment"), file ?? shown.like, file ? words().imageChip : words().likeChip, () =>
    go({ like: "", upload: 0 }),
  );
}

/** @param {number} value */
const showCutoff = (value) => {
  byId("cutoff-value").textContent = value ? value.toFixed(2) : words().cutoffOff;
};

/** Whether there are words or an image to search for; filters alone are not enough. */
const hasQuery = () => Boolean(state().words || state().like || keptFile(state().upload));

/** Searches if the state asks for something else than what is shown, and the server is ready. */
function update() {
  const { view, words: text, like, upload, filters, cutoff: least, number: most } = state();
  if (view !== "search") return;
  const query = hasQuery() ? JSON.stringify([text, like, upload, filters, least, most]) : "";
  const basis = JSON.stringify([query, filters, status()?.state, isEmpty()]);
  const isChanged = basis !== shownBasis;
  shownBasis = basis;
  if (query && isReady() && query !== shownQuery) {
    shownQuery = query;
    const known = recent.get(query);
    if (known) showKnown(known);
    else run();
    return;
  }
  if (!query && shownQuery) {
    running?.abort();
    running = null;
    found = null;
    failure = null;
    shownQuery = "";
  }
  if (isChanged) render();
}

/** What is searched by, as a text that can be compared. */
const subject = () => JSON.stringify([state().words, state().like, state().upload]);

/** @param {Found} known */
function showKnown(known) {
  running?.abort();
  running = null;
  found = known;
  failure = null;
  searchedBy = subject();
  render();
}

async function run() {
  running?.abort();
  const mine = new AbortController();
  running = mine;
  const { words: text, like, upload, filters, cutoff: least, number: most } = state();
  keepsResults = found !== null && subject() === searchedBy;
  if (found && !keepsResults) scrollTo({ top: 0, behavior: "instant" });
  searchedBy = subject();
  failure = null;
  render();
  const image = keptFile(upload);
  try {
    found = await search(
      { words: text, like: image ? "" : like, image, filters, cutoff: least, number: most },
      mine.signal,
    );
  } catch (error) {
    if (isAbort(error)) return;
    found = null;
    failure = error;
  }
  if (running !== mine) return;
  running = null;
  render();
  if (!found) return;
  offerList(found.results);
  recent.set(shownQuery, found);
  if (recent.size > MAX_RECENT) recent.delete([...recent.keys()][0]);
}

function render() {
  const isWaiting = hasQuery() && status()?.state === "loading";
  const isSearching = running !== null || isWaiting;
  grid.setAttribute("aria-busy", String(isSearching));
  if (isSearching) {
    summary.textContent = isWaiting ? words().searchWaits : words().searching;
    noticeArea.replaceChildren();
    if (keepsResults) grid.classList.add("stale");
    else grid.replaceChildren(...skeletons(8));
    return;
  }
  grid.classList.remove("stale");
  const results = found?.results ?? [];
  grid.replaceChildren(...results.map((result) => createCard(result, results, { searched: state().words })));
  summary.textContent = found ? summaryText(results.length, found.seconds) : "";
  noticeArea.replaceChildren(...notices());
}

/** @param {number} count @param {number} seconds */
function summaryText(count, seconds) {
  const duration = seconds < 1 ? Math.max(0.01, seconds).toFixed(2) : seconds.toFixed(1);
  if (!count) return words().nothingFound;
  return state().cutoff
    ? words().foundAbove(count, state().cutoff.toFixed(2), duration)
    : words().found(count, duration);
}

/** @returns {Node[]} */
function notices() {
  if (failure) return [errorNotice(failure, run, loosening())];
  if (found && !found.results.length) return [notice("info", "", advice(), loosening())];
  if (hasQuery() || found || isEmpty()) return [];
  const needsWords = state().filters.length ? [notice("info", words().filtersNeedWords)] : [];
  return [...needsWords, hintList(words().firstTitle, words().firstHints)];
}

const advice = () =>
  [
    state().cutoff ? words().loosenCutoff : "",
    state().filters.length ? words().loosenFilters : "",
    words().loosenWords,
  ].join(document.documentElement.lang === "en" ? " " : "");

/** @returns {import("./notices.js").Action[]} Actions that let a search find more. */
function loosening() {
  const actions = [];
  if (state().cutoff) actions.push({ icon: "close", text: words().cutoffReset, run: () => go({ cutoff: 0 }) });
  if (state().filters.length)
    actions.push({ icon: "close", text: words().filtersReset, run: () => go({ filters: [] }) });
  return actions;
}

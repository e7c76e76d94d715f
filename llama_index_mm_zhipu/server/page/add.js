/** The view that adds files and folders to the index. */

import { byId, element, fileName, iconTextButton, sizeText } from "./dom.js";
import { chooseFiles } from "./image_input.js";
import { errorNotice, notice } from "./notices.js";
import { onLanguage } from "./settings.js";
import { go } from "./state.js";
import { onStatus, refreshStatus, status } from "./status.js";
import { Upload } from "./upload.js";
import { words } from "./words.js";

/** @typedef {import("./image_input.js").NamedFile} NamedFile */

const MAX_LISTED = 200;

/** The types that are named, if the server takes them; it takes others, too. */
const NAMED_TYPES = ["JPG", "PNG", "WebP", "GIF", "BMP", "TIFF", "PDF", "PPTX", "MP4", "MOV"];

const area = byId("upload");
const upload = new Upload(render);

/** Number of files found so far in folders that are being read; null if none is. */
let reading = /** @type {number | null} */ (null);

/** Starts the view. */
export function initAdd() {
  byId("choose-files").addEventListener("click", () =>
    chooseFiles({ multiple: true, accept: status()?.suffixes.join(",") }, take),
  );
  byId("choose-folder").addEventListener("click", () => chooseFiles({ folder: true }, take));
  onStatus(showHints);
  onLanguage(() => {
    panel = null;
    showHints();
    render();
  });
  addEventListener("beforeunload", (event) => {
    if (upload.phase === "running") event.preventDefault();
  });
}

/**
 * Adds files that were dropped.
 *
 * @param {Promise<NamedFile[]>} files
 */
export async function addDropped(files) {
  go({ view: "add", image: "" });
  const found = await files;
  reading = null;
  take(found);
}

/**
 * Shows how many files were found so far.
 *
 * @param {number} count
 */
export function showReading(count) {
  reading = count;
  render();
}

/** @param {NamedFile[]} files */
function take(files) {
  const known = status();
  if (!known) return;
  if (files.length) upload.add(files, known);
  else area.replaceChildren(notice("info", words().noFiles));
}

function showHints() {
  const known = status();
  if (!known?.suffixes.length) return;
  const suffixes = NAMED_TYPES.filter((each) => known.suffixes.includes(`.${each.toLowerCase()}`));
  // Captions are then part of the vectors, and of no added image.
  byId("captions-hint").hidden = !known.index?.caption_weight;
  const { image_bytes: image, file_bytes: file } = known.limits;
  byId("known-types").textContent = words().knownTypes(
    suffixes.join(words().separator),
    sizeText(image),
    sizeText(file),
  );
}

/** What is shown of the upload; it is made anew when the phase changes, so that buttons stay under the pointer. */
let panel = /** @type {Panel | null} */ (null);

/** Number of new images at the last request for the status. */
let countedImages = 0;

function render() {
  if (reading !== null) {
    panel = null;
    area.replaceChildren(element("p", { class: "quiet-text" }, words().readingFolder(reading)));
    return;
  }
  if (upload.phase === "idle") return;
  if (panel?.phase !== upload.phase) {
    panel = createPanel();
    area.replaceChildren(panel.node, ...problem(), panel.skipped);
    announce();
  }
  showProgress(panel);
  if (upload.newImages === countedImages) return;
  countedImages = upload.newImages;
  // What is stored can be searched for while the rest is added.
  refreshStatus();
}

function announce() {
  byId("add-status").textContent = `${phaseText()} ${words().filesDone(upload.done, upload.total)}`;
  if (upload.phase !== "running") refreshStatus();
}

function phaseText() {
  switch (upload.phase) {
    case "paused":
      return words().uploadPaused;
    case "stopped":
      return words().uploadStopped;
    case "done":
      return words().uploadDone;
    default:
      return words().uploading;
  }
}

/**
 * @typedef {object} Panel
 * @property {string} phase
 * @property {HTMLElement} node
 * @property {HTMLProgressElement} bar
 * @property {HTMLElement} facts
 * @property {HTMLElement} batch
 * @property {HTMLElement} skipped
 */

/** @returns {Panel} */
function createPanel() {
  const { phase } = upload;
  const bar = element("progress", { "aria-label": words().progress });
  const facts = element("p", { class: "upload-facts" });
  const batch = element("p", { class: "quiet-text" });
  const head = element("div", { class: "upload-head" }, element("strong", {}, phaseText()), ...buttons());
  const node = element("div", { class: `upload ${phase}` }, head, bar, facts, batch);
  return { phase, node, bar, facts, batch, skipped: element("div") };
}

/** @param {Panel} shown */
function showProgress({ bar, facts, batch, skipped }) {
  bar.max = Math.max(1, upload.total);
  bar.value = upload.done + shareOfBatch();
  facts.textContent = [
    words().filesDone(upload.done, upload.total),
    words().newImages(upload.newImages),
    upload.kept ? words().keptImages(upload.kept) : "",
    upload.skippedCount ? words().skippedFiles(upload.skippedCount) : "",
  ]
    .filter(Boolean)
    .join(" · ");
  batch.hidden = upload.phase !== "running";
  batch.textContent = batchText();
  if (skipped.dataset.count === String(upload.skippedCount)) return;
  skipped.dataset.count = String(upload.skippedCount);
  skipped.replaceChildren(...skippedList(skipped.querySelector("details")?.open ?? false));
}

/** @returns {number} The part of the present batch that is done, in files. */
function shareOfBatch() {
  const { progress, batch } = upload;
  return progress?.total ? batch.length * (progress.done / progress.total) : 0;
}

function batchText() {
  const [first] = upload.batch;
  if (!first) return "";
  const name = fileName(first.name);
  const names = upload.batch.length > 1 ? words().andMore(name, upload.batch.length) : name;
  const { progress } = upload;
  return progress ? words().inBatch(progress.done, progress.total) : words().sending(names);
}

/** @returns {HTMLElement[]} */
function buttons() {
  if (upload.phase === "running") {
    return [iconTextButton("stop", words().stop, () => upload.stop(), { class: "secondary small" })];
  }
  if (upload.phase === "done") {
    return [iconTextButton("search", words().searchNow, () => go({ view: "search" }), { class: "primary small" })];
  }
  return [iconTextButton("retry", words().resume, () => upload.run(), { class: "primary small" })];
}

/** @returns {HTMLElement[]} The reason of a pause. */
const problem = () => (upload.phase === "paused" ? [errorNotice(upload.error)] : []);

/** @param {boolean} isOpen @returns {HTMLElement[]} */
function skippedList(isOpen) {
  if (!upload.skippedCount) return [];
  const listed = [...upload.skipped].slice(0, MAX_LISTED);
  const more = upload.skippedCount - listed.length;
  return [
    element(
      "details",
      { class: "skipped", open: isOpen || upload.skipped.size <= 5 },
      element("summary", {}, words().skippedFiles(upload.skippedCount)),
      element(
        "ul",
        {},
        ...listed.map(([name, reason]) =>
          element("li", {}, element("span", { class: "skipped-name" }, name), element("span", {}, reason)),
        ),
      ),
      more > 0 ? element("p", { class: "quiet-text" }, words().skippedMore(more)) : null,
    ),
  ];
}

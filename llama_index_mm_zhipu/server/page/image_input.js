/** Images and files that are dropped, pasted or chosen. */

import { byId, element } from "./dom.js";

/**
 * @typedef {object} NamedFile
 * @property {File | null} file Null for a file that the browser may not read.
 * @property {string} name Its path in the folder that was chosen.
 */

/** @type {File[]} */
const kept = [];

/**
 * Keeps an image for the history of this page, and returns its key, from 1.
 *
 * @param {File} file
 */
export const keep = (file) => kept.push(file);

/**
 * Returns an image that was kept; null if the page was reloaded since.
 *
 * @param {number} key
 */
export const keptFile = (key) => kept[key - 1] ?? null;

/**
 * Returns whether a file is an image by what the browser knows of it.
 *
 * @param {File} file
 */
export const isImage = (file) => file.type.startsWith("image/") && file.type !== "image/svg+xml";

/**
 * @typedef {object} Receiver
 * @property {(file: File) => void} onImage Takes a single image.
 * @property {(files: Promise<NamedFile[]>) => void} onFiles Takes anything else.
 * @property {(isImage: boolean) => string} hint Says what a drop of a single image, or of anything else, will do.
 * @property {(count: number) => void} onReading Takes the number of files found so far in folders.
 */

/**
 * Takes what is dropped anywhere on the page or pasted.
 *
 * @param {Receiver} receiver
 */
export function watchDrops(receiver) {
  const overlay = byId("drop-overlay");
  const hide = () => (overlay.hidden = true);
  addEventListener("dragover", (event) => {
    if (!event.dataTransfer?.types.includes("Files")) return;
    event.preventDefault();
    event.dataTransfer.dropEffect = "copy";
    if (!overlay.hidden) return;
    const [item, ...others] = event.dataTransfer.items;
    overlay.firstElementChild?.replaceChildren(receiver.hint(!others.length && item.type.startsWith("image/")));
    overlay.hidden = false;
  });
  addEventListener("dragleave", (event) => {
    // Only the one that leaves the window has no related target.
    if (!event.relatedTarget) hide();
  });
  addEventListener("drop", (event) => {
    hide();
    if (!event.dataTransfer?.types.includes("Files")) return;
    event.preventDefault();
    receive(event.dataTransfer, receiver);
  });
  addEventListener("paste", (event) => {
    const files = [...(event.clipboardData?.files ?? [])];
    const isTyping = event.target instanceof Element && event.target.matches("input, textarea");
    // Office programs copy an image of a text beside it.
    const isText = isTyping && event.clipboardData?.types.includes("text/plain");
    if (!files.length || isText) return;
    event.preventDefault();
    if (files.length === 1 && isImage(files[0])) receiver.onImage(files[0]);
    else receiver.onFiles(Promise.resolve(files.map(named)));
  });
}

/**
 * Lets the user choose files.
 *
 * @param {{accept?: string, multiple?: boolean, folder?: boolean}} options
 * @param {(files: NamedFile[]) => void} onFiles
 */
export function chooseFiles({ accept = "", multiple = false, folder = false }, onFiles) {
  const input = element("input", { type: "file", accept, multiple, webkitdirectory: folder });
  input.hidden = true;
  input.addEventListener("change", () => {
    input.remove();
    onFiles([...(input.files ?? [])].map(named));
  });
  input.addEventListener("cancel", () => input.remove());
  // Safari forgets inputs that are not part of the page.
  document.body.append(input);
  input.click();
}

/** @param {File} file @returns {NamedFile} */
const named = (file) => ({ file, name: file.webkitRelativePath || file.name });

/**
 * @param {DataTransfer} transfer
 * @param {Receiver} receiver
 */
function receive(transfer, receiver) {
  // Entries and files must be taken before the event ends.
  const entries = [...transfer.items].map((item) => item.webkitGetAsEntry?.() ?? null);
  const files = [...transfer.files];
  if (files.length === 1 && isImage(files[0]) && !entries[0]?.isDirectory) receiver.onImage(files[0]);
  else if (entries.some((entry) => entry?.isDirectory)) receiver.onFiles(filesIn(entries, receiver.onReading));
  else receiver.onFiles(Promise.resolve(files.map(named)));
}

/**
 * @param {(FileSystemEntry | null)[]} entries
 * @param {(count: number) => void} onReading
 * @returns {Promise<NamedFile[]>} The files of folders, too, in the order of their names.
 */
async function filesIn(entries, onReading) {
  /** @type {NamedFile[]} */
  const found = [];
  /** @param {FileSystemEntry | null} entry */
  const visit = async (entry) => {
    if (entry?.isFile) {
      const file = await fileOf(/** @type {FileSystemFileEntry} */ (entry));
      found.push({ file, name: entry.fullPath.replace(/^\//, "") });
      onReading(found.length);
    } else if (entry?.isDirectory) {
      for (const child of await childrenOf(/** @type {FileSystemDirectoryEntry} */ (entry))) await visit(child);
    }
  };
  for (const entry of entries) await visit(entry);
  return found;
}

/** @param {FileSystemFileEntry} entry @returns {Promise<File | null>} */
const fileOf = (entry) => new Promise((resolve) => entry.file(resolve, () => resolve(null)));

/**
 * @param {FileSystemDirectoryEntry} folder
 * @returns {Promise<FileSystemEntry[]>}
 */
async function childrenOf(folder) {
  const reader = folder.createReader();
  const children = [];
  for (;;) {
    // Browsers return the entries in batches, Chromium in those of 100.
    const batch = await new Promise((resolve) =>
      reader.readEntries(resolve, () => resolve(/** @type {FileSystemEntry[]} */ ([]))),
    );
    if (!batch.length) return children.sort((one, other) => one.name.localeCompare(other.name));
    children.push(...batch);
  }
}

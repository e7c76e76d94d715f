/** The queue of files that are added to the index: batches, progress, and what was left out. */

import { ApiError, addFiles, isAbort } from "./api.js";
import { sizeText } from "./dom.js";
import { isImage } from "./image_input.js";
import { describe } from "./notices.js";
import { words } from "./words.js";

/** @typedef {import("./image_input.js").NamedFile} NamedFile */
/** @typedef {import("./api.js").Status} Status */
/** @typedef {{file: File, name: string}} Waiting */

const MAX_BATCH_FILES = 16;
const MAX_BATCH_BYTES = 16e6;

/** Files that systems put into folders, which nobody means to add. */
const NOISE = /(^|\/)(\.[^/]*|__MACOSX|Thumbs\.db|desktop\.ini)(\/|$)/i;

/** Errors that another attempt with the same files would meet again. */
const FAULTS_OF_FILES = new Set(["bad_request", "too_large", "unsupported", "not_found"]);

/** Sends files in batches, one after the other. */
export class Upload {
  /** @param {() => void} onChange Called whenever something is to be shown. */
  constructor(onChange) {
    this.onChange = onChange;
    /** @type {"idle" | "running" | "paused" | "stopped" | "done"} */
    this.phase = "idle";
    /** @type {Waiting[]} */
    this.waiting = [];
    /** @type {Waiting[]} */
    this.batch = [];
    /** @type {{done: number, total: number | null} | null} */
    this.progress = null;
    this.total = 0;
    this.newImages = 0;
    this.kept = 0;
    /** @type {Map<string, string>} */
    this.skipped = new Map();
    this.skippedCount = 0;
    /** @type {unknown} */
    this.error = null;
    /** @type {Set<string>} */
    this.known = new Set();
    /** @type {AbortController | null} */
    this.controller = null;
  }

  /** Number of files that are done, including those that were left out. */
  get done() {
    return this.total - this.waiting.length - this.batch.length;
  }

  /**
   * Adds files to the queue and starts to send them.
   *
   * @param {NamedFile[]} files
   * @param {Status} server Says what can be added.
   */
  add(files, server) {
    if (this.phase === "done") this.reset();
    for (const { file, name } of files) {
      const key = `${name}\n${file?.size}\n${file?.lastModified}`;
      if (NOISE.test(name) || this.known.has(key)) continue;
      this.known.add(key);
      this.total += 1;
      const reason = file ? refusal(file, name, server) : words().unreadableFile;
      if (file && !reason) this.waiting.push({ file, name });
      else this.skip(name, reason);
    }
    if (this.phase !== "running") this.run();
    else this.onChange();
  }

  /** Stops after what the server is working on. */
  stop() {
    this.controller?.abort();
  }

  /** Sends what is waiting. */
  async run() {
    this.phase = "running";
    this.error = null;
    this.controller = new AbortController();
    while (this.waiting.length && this.phase === "running") {
      this.batch = this.waiting.splice(0, batchSize(this.waiting));
      this.progress = null;
      this.onChange();
      await this.sendBatch(this.controller.signal);
    }
    if (this.phase === "running") this.phase = "done";
    this.onChange();
  }

  /** @param {AbortSignal} signal */
  async sendBatch(signal) {
    try {
      let isReported = false;
      for await (const { type, data } of addFiles(this.batch, signal)) {
        isReported ||= type === "report";
        this.receive(type, data);
      }
      if (!isReported) throw new ApiError("unexpected", words().uploadBroken);
    } catch (error) {
      this.fail(error);
    }
    this.batch = [];
  }

  /**
   * @param {string} type
   * @param {any} data
   */
  receive(type, data) {
    if (type === "error") throw new ApiError(data.error.code, data.error.message);
    if (type === "progress") this.progress = data;
    if (type === "report") {
      this.newImages += data.new_images;
      this.kept += data.kept;
      for (const [name, reason] of Object.entries(data.skipped)) this.skipped.set(name, String(reason));
      this.skippedCount += data.skipped_count;
    }
    this.onChange();
  }

  /** @param {unknown} error */
  fail(error) {
    if (error instanceof ApiError && FAULTS_OF_FILES.has(error.code)) {
      for (const { name } of this.batch) this.skip(name, error.message || describe(error).title);
      return;
    }
    this.waiting.unshift(...this.batch);
    this.phase = isAbort(error) ? "stopped" : "paused";
    // A connection that breaks in the middle is no ApiError.
    this.error = error instanceof ApiError || isAbort(error) ? error : new ApiError("offline");
  }

  /**
   * @param {string} name
   * @param {string} reason
   */
  skip(name, reason) {
    this.skipped.set(name, reason);
    this.skippedCount += 1;
  }

  reset() {
    Object.assign(this, { phase: "idle", total: 0, newImages: 0, kept: 0, skippedCount: 0, error: null });
    this.skipped.clear();
    this.known.clear();
  }
}

/**
 * @param {File} file
 * @param {string} name
 * @param {Status} server
 * @returns {string} Why a file is not sent; empty if it is.
 */
function refusal(file, name, { limits, suffixes }) {
  const suffix = /\.[^./]+$/.exec(name.toLowerCase())?.[0] ?? "";
  if (!suffixes.includes(suffix)) return words().unknownType;
  if (!file.size) return words().emptyFile;
  const limit = isImage(file) ? limits.image_bytes : limits.file_bytes;
  return file.size > limit ? words().tooLarge(sizeText(limit)) : "";
}

/** @param {Waiting[]} waiting @returns {number} How many files go into the next request, at least one. */
function batchSize(waiting) {
  let bytes = 0;
  const end = waiting.slice(0, MAX_BATCH_FILES).findIndex(({ file }) => (bytes += file.size) > MAX_BATCH_BYTES);
  return end === -1 ? Math.min(MAX_BATCH_FILES, waiting.length) : Math.max(1, end);
}

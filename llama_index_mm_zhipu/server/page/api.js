/** Requests to the server, its errors, and server-sent events as responses of POST requests. */

/**
 * @typedef {object} Result An image or text, as `SearchResult` of the server.
 * @property {"image" | "text"} type
 * @property {number | null} number Number by which answers cite the image.
 * @property {string} node_id
 * @property {number | null} score
 * @property {"similarity" | "score" | null} score_type
 * @property {string} caption
 * @property {string} text
 * @property {string} page
 * @property {string} time
 * @property {string} source
 * @property {Record<string, unknown>} metadata
 */

/**
 * @typedef {object} Filterable A metadata key that results can be filtered by.
 * @property {string} key
 * @property {("text" | "number")[]} types
 * @property {string[]} values The first texts.
 * @property {number | null} min
 * @property {number | null} max
 */

/**
 * @typedef {object} Status
 * @property {"ready" | "loading" | "failed"} state
 * @property {{code: string, message: string} | null} error
 * @property {string} version
 * @property {{images: number, texts: number, folder: string, model: string, caption_weight: number | null} | null} index
 * @property {Filterable[]} filters
 * @property {{model: string, is_mock: boolean}} llm
 * @property {boolean} can_add
 * @property {{words: number, similarity_top_k: number, image_bytes: number, file_bytes: number, files: number}} limits
 * @property {string[]} suffixes Of the files that can be added.
 */

/**
 * @typedef {object} Line A line of text in an image.
 * @property {string} text
 * @property {[number, number, number, number]} box Left, top, right and bottom as shares of width and height.
 * @property {number} score
 * @property {boolean} is_match
 */

/**
 * @typedef {object} AnswerData
 * @property {string} text
 * @property {Record<string, string>} citations Node ids by name.
 * @property {string[]} unknown_citations
 * @property {Result[]} sources
 * @property {Record<string, string>} skipped Reasons by node id.
 */

/**
 * @typedef {object} Report What adding files did.
 * @property {number} images
 * @property {number} new_images
 * @property {number} kept
 * @property {Record<string, string>} skipped
 * @property {number} skipped_count
 */

/** @typedef {{type: string, data: any}} ServerEvent */

/** An error that the server reported, or the code `offline` if it did not answer. */
export class ApiError extends Error {
  /**
   * @param {string} code
   * @param {string} [message]
   */
  constructor(code, message = "") {
    super(message);
    this.name = "ApiError";
    this.code = code;
  }
}

/**
 * Returns whether an error only says that a request was given up.
 *
 * @param {unknown} error
 */
export const isAbort = (error) => error instanceof DOMException && error.name === "AbortError";

/**
 * Returns the address of an image of the index.
 *
 * @param {string} id
 * @param {"thumbnail" | "whole"} size
 */
export const imageUrl = (id, size) => `api/images/${encodeURIComponent(id)}?size=${size}`;

/** @returns {Promise<Status>} */
export const fetchStatus = async () => (await request("api/status")).json();

/**
 * @typedef {object} Query
 * @property {string} words
 * @property {string} like Id of an image of the index.
 * @property {string[]} filters
 * @property {number} number
 * @property {number} cutoff 0 for none.
 * @property {File | null} image
 */

/**
 * @param {Query} query
 * @param {AbortSignal} signal
 * @returns {Promise<{results: Result[], seconds: number}>}
 */
export async function search(query, signal) {
  /** @type {[string, string][]} */
  const fields = [["similarity_top_k", String(query.number)], ...query.filters.map(asFilter)];
  if (query.words) fields.push(["words", query.words]);
  if (query.like) fields.push(["like", query.like]);
  if (query.cutoff) fields.push(["cutoff", String(query.cutoff)]);
  const response = query.image
    ? await request("api/search", { method: "POST", body: formOf(fields, query.image), signal })
    : await request(`api/search?${new URLSearchParams(fields)}`, { signal });
  return response.json();
}

/**
 * @param {string} id
 * @param {string} searched Words whose lines are marked.
 * @param {AbortSignal} signal
 * @returns {Promise<{result: Result, lines: Line[]}>}
 */
export const fetchDetails = async (id, searched, signal) =>
  (
    await request(`api/details/${encodeURIComponent(id)}?${new URLSearchParams({ words: searched })}`, { signal })
  ).json();

/**
 * Asks a question; the answer comes as events `sources`, `text`, and `answer` or `error`.
 *
 * @param {{question: string, image: File | null, like: string, filters: string[], chat: string}} asked
 * @param {AbortSignal} signal
 * @returns {AsyncGenerator<ServerEvent>}
 */
export async function* ask(asked, signal) {
  /** @type {[string, string][]} */
  const fields = [["question", asked.question], ...asked.filters.map(asFilter)];
  if (asked.like) fields.push(["like", asked.like]);
  if (asked.chat) fields.push(["chat", asked.chat]);
  yield* events(await request("api/ask", { method: "POST", body: formOf(fields, asked.image), signal }));
}

/**
 * Makes the server forget a conversation.
 *
 * @param {string} chat
 */
export const forgetChat = (chat) => request(`api/chats/${encodeURIComponent(chat)}`, { method: "DELETE" });

/**
 * Adds files to the index; events `progress`, and `report` or `error`.
 *
 * @param {{file: File, name: string}[]} files With their paths in the folder that was chosen.
 * @param {AbortSignal} signal
 * @returns {AsyncGenerator<ServerEvent>}
 */
export async function* addFiles(files, signal) {
  const form = new FormData();
  for (const { file, name } of files) form.append("files", file, name);
  yield* events(await request("api/index", { method: "POST", body: form, signal }));
}

/**
 * Returns the reason why an image cannot be shown; empty if the server does not tell.
 *
 * @param {string} url
 */
export async function imageProblem(url) {
  try {
    await request(url);
    return "";
  } catch (error) {
    return error instanceof ApiError ? error.message : "";
  }
}

/** @param {string} filter @returns {[string, string]} */
const asFilter = (filter) => ["filter", filter];

/**
 * @param {[string, string][]} fields
 * @param {File | null} image
 */
function formOf(fields, image) {
  const form = new FormData();
  for (const [name, value] of fields) form.append(name, value);
  if (image) form.append("image", image, image.name || "image");
  return form;
}

/**
 * @param {string} path
 * @param {RequestInit} [options]
 * @returns {Promise<Response>} A response that succeeded.
 */
async function request(path, options = {}) {
  let response;
  try {
    response = await fetch(path, options);
  } catch (error) {
    if (isAbort(error)) throw error;
    throw new ApiError("offline");
  }
  if (!response.ok) throw await errorOf(response);
  return response;
}

/** @param {Response} response */
async function errorOf(response) {
  try {
    const { error } = await response.json();
    return new ApiError(String(error.code), String(error.message));
  } catch {
    // A proxy, or something else that is not this server, answered.
    return new ApiError(response.status === 401 ? "unauthorized" : "unexpected", `HTTP ${response.status}`);
  }
}

/**
 * Reads server-sent events. `EventSource` cannot send POST requests.
 *
 * @param {Response} response
 * @returns {AsyncGenerator<ServerEvent>}
 */
export async function* events(response) {
  if (!response.body) return;
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let buffer = "";
  try {
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return;
      const blocks = (buffer + value).split(/\r\n\r\n|\n\n|\r\r/);
      buffer = blocks.pop() ?? "";
      yield* blocks.map(parsedEvent).filter((event) => event !== null);
    }
  } finally {
    // The consumer may stop in the middle.
    reader.cancel().catch(() => {});
  }
}

/** @param {string} block @returns {ServerEvent | null} Null for comments. */
function parsedEvent(block) {
  let type = "message";
  const data = [];
  for (const line of block.split(/\r\n|\n|\r/)) {
    const [, field, value] = /^([^:]*):? ?(.*)$/s.exec(line) ?? [];
    if (field === "event") type = value;
    else if (field === "data") data.push(value);
  }
  return data.length ? { type, data: JSON.parse(data.join("\n")) } : null;
}

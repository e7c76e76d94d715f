/** State of the server: whether the model is loaded, what the index holds, and what the server accepts. */

import { ApiError, fetchStatus } from "./api.js";

/** @typedef {import("./api.js").Status} Status */

const POLL_SECONDS = 1;

/** @type {((status: Status | null, error: ApiError | null) => void)[]} */
const listeners = [];

/** @type {Status | null} */
let current = null;

/** @type {ApiError | null} */
let problem = null;

/** @returns {Status | null} The last known status; null before the first. */
export const status = () => current;

/** Whether searches and questions can be sent. */
export const isReady = () => current?.state === "ready";

/** Whether the index has nothing to search for. */
export const isEmpty = () => isReady() && !(current?.index?.images || current?.index?.texts);

/**
 * Calls a function whenever the status changes, with the error if the server cannot be reached.
 *
 * @param {(status: Status | null, error: ApiError | null) => void} listener
 */
export function onStatus(listener) {
  listeners.push(listener);
  if (current || problem) listener(current, problem);
}

/** Asks for the status, and again each second while the model is loading. */
export async function refreshStatus() {
  try {
    current = await fetchStatus();
    problem = null;
  } catch (error) {
    problem = error instanceof ApiError ? error : new ApiError("unexpected", String(error));
  }
  listeners.forEach((listener) => listener(current, problem));
  if (current?.state === "loading" && !problem) setTimeout(refreshStatus, POLL_SECONDS * 1000);
}

/** Shows the OpenAPI document as a page: each operation with its parameters, responses and an example. */

import { byId, element } from "./dom.js";

/**
 * @typedef {object} Schema A JSON schema, as far as the document uses it.
 * @property {string} [$ref]
 * @property {string} [type]
 * @property {string} [format]
 * @property {string} [description]
 * @property {Schema[]} [anyOf]
 * @property {Schema} [items]
 * @property {number} [maxItems]
 * @property {number} [minimum]
 * @property {number} [maximum]
 * @property {string[]} [enum]
 * @property {unknown} [default]
 * @property {Record<string, Schema>} [properties]
 */

/** @typedef {Record<string, {schema: Schema}>} Content Schemas by media type. */

/**
 * @typedef {object} Operation
 * @property {string} summary
 * @property {string} [description]
 * @property {{name: string, in: string, description: string, schema: Schema}[]} [parameters]
 * @property {{content: Content}} [requestBody]
 * @property {Record<string, {description: string, content?: Content}>} responses
 */

const FORM = "multipart/form-data";

/** What the examples send, by name of a parameter. @type {Record<string, string>} */
const SAMPLES = { words: "红苹果", question: "哪个是红苹果？", similarity_top_k: "5", files: "@photo.jpg", image: "@photo.jpg" };

/**
 * Returns the type of a schema in words, such as `integer, 1 to 100, default 20`.
 *
 * @param {Schema} schema
 * @returns {string}
 */
function typeOf(schema) {
  if (schema.$ref) return schema.$ref.split("/").at(-1) ?? "";
  const parts = [
    nameOf(schema),
    schema.minimum === undefined ? "" : `${schema.minimum} to ${schema.maximum}`,
    schema.enum?.join(", "),
    schema.maxItems ? `at most ${schema.maxItems}` : "",
    schema.default === undefined || schema.default === null ? "" : `default ${JSON.stringify(schema.default)}`,
  ];
  return parts.filter(Boolean).join(", ");
}

/**
 * @param {Schema} schema
 * @returns {string}
 */
function nameOf(schema) {
  if (schema.anyOf) return schema.anyOf.map(typeOf).filter((each) => each !== "null").join(" or ");
  if (schema.items) return `list of ${typeOf(schema.items)}`;
  if (schema.format === "binary") return "file";
  return schema.type === "array" ? "list" : (schema.type ?? "any");
}

/**
 * @param {string[]} headings
 * @param {(string | Node)[][]} rows
 */
function table(headings, rows) {
  const head = element("tr", {}, ...headings.map((text) => element("th", { scope: "col" }, text)));
  const body = rows.map((cells) => element("tr", {}, ...cells.map((cell) => element("td", {}, cell))));
  const whole = element("table", {}, element("thead", {}, head), element("tbody", {}, ...body));
  // It can be scrolled by the keyboard, too.
  return element("div", { class: "table", tabindex: "0", role: "region", "aria-label": headings.join(", ") }, whole);
}

/** @param {Record<string, Schema>} properties */
const rowsOf = (properties) =>
  Object.entries(properties).map(([name, schema]) => [code(name), typeOf(schema), schema.description ?? ""]);

/** @param {string} text */
const code = (text) => element("code", {}, text);

/**
 * Returns a command that sends a request to this server.
 *
 * @param {string} path
 * @param {string} method
 * @param {Operation} operation
 */
function example(path, method, operation) {
  const base = new URL(".", location.href).href.replace(/\/$/, "");
  const url = base + path.replace("{id}", "ID").replace("{chat}", "CHAT");
  const form = operation.requestBody?.content[FORM]?.schema.properties;
  if (form) {
    const names = "question" in form ? ["question"] : ["image", "files"].filter((name) => name in form);
    return `curl ${names.map((name) => `-F ${name}=${SAMPLES[name]}`).join(" ")} ${url}`;
  }
  const query = (operation.parameters ?? []).filter((each) => each.in === "query" && each.name in SAMPLES);
  const data = query.map((each) => ` --data-urlencode ${each.name}=${SAMPLES[each.name]}`).join("");
  const verb = method === "get" ? "" : `-X ${method.toUpperCase()} `;
  return data ? `curl -G ${url}${data}` : `curl ${verb}${url}`;
}

/**
 * @param {string} path
 * @param {string} method
 * @param {Operation} operation
 */
function operationSection(path, method, operation) {
  const parts = [];
  if (operation.description) parts.push(element("p", {}, operation.description));
  if (operation.parameters?.length) {
    const rows = operation.parameters.map((each) => [code(each.name), typeOf(each.schema), each.description]);
    parts.push(element("h3", {}, "Parameters"), table(["name", "type", "meaning"], rows));
  }
  if (operation.requestBody) {
    const content = operation.requestBody.content;
    const rows = rowsOf(content[FORM].schema.properties ?? {});
    parts.push(element("h3", {}, `Body: ${Object.keys(content).join(" or ")}`), table(["name", "type", "meaning"], rows));
  }
  const responses = Object.entries(operation.responses).map(([status, each]) => {
    const types = Object.entries(each.content ?? {}).map(([type, { schema }]) => `${type}: ${typeOf(schema)}`);
    return [status, each.description, types.join(", ")];
  });
  parts.push(element("h3", {}, "Responses"), table(["status", "meaning", "content"], responses));
  parts.push(element("h3", {}, "Example"), element("pre", { tabindex: "0" }, example(path, method, operation)));
  const name = element("span", { class: "method" }, method.toUpperCase());
  return folded([name, code(path), element("span", { class: "about" }, operation.summary)], parts);
}

/**
 * @param {string} name
 * @param {Schema} schema
 */
const schemaSection = (name, schema) =>
  folded(
    [code(name)],
    [element("p", {}, schema.description ?? ""), table(["field", "type", "meaning"], rowsOf(schema.properties ?? {}))],
  );

/**
 * @param {Node[]} title
 * @param {Node[]} content
 */
const folded = (title, content) =>
  element(
    "section",
    { class: "operation" },
    element("details", {}, element("summary", {}, ...title), element("div", { class: "content" }, ...content)),
  );

/** @returns {Promise<{info: Record<string, string>, paths: Record<string, Record<string, Operation>>, components: {schemas: Record<string, Schema>}}>} */
async function fetchDocument() {
  const response = await fetch("api/openapi.json");
  if (response.status === 401) throw new Error("open the address that mmzhipu serve printed: it contains the token");
  return response.json();
}

async function show() {
  const main = byId("operations");
  try {
    const { info, paths, components } = await fetchDocument();
    byId("about").textContent = `${info.description} Version ${info.version}.`;
    const operations = Object.entries(paths).flatMap(([path, methods]) =>
      Object.entries(methods).map(([method, operation]) => operationSection(path, method, operation)),
    );
    const schemas = Object.entries(components.schemas).map(([name, schema]) => schemaSection(name, schema));
    main.replaceChildren(element("h2", {}, "Operations"), ...operations, element("h2", {}, "Types"), ...schemas);
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    main.replaceChildren(element("p", { role: "alert" }, `The document cannot be shown: ${reason}`));
  }
}

show();

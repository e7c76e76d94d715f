/** Shows the OpenAPI document as a page: each operation with its parameters, responses and an example. */

/** An element with attributes and children, which are elements or texts. */
function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    made.setAttribute(key, value);
  }
  made.append(...children);
  return made;
}

/** The type of a schema in words, such as `integer, 1 to 100, default 20`. */
function typeOf(schema) {
  if (schema.$ref) {
    return schema.$ref.split("/").pop();
  }
  const alternatives = schema.anyOf?.map(typeOf).filter((each) => each !== "null");
  const type = alternatives ? alternatives.join(" or ") : schema.items ? `list of ${typeOf(schema.items)}` : schema.type === "array" ? "list" : schema.type;
  const range = "minimum" in schema ? `${schema.minimum} to ${schema.maximum}` : "";
  const names = schema.enum?.join(", ") ?? "";
  const length = schema.maxItems ? `at most ${schema.maxItems}` : "";
  const initial = schema.default !== undefined && schema.default !== null ? `default ${JSON.stringify(schema.default)}` : "";
  return [type === "string" && schema.format === "binary" ? "file" : type, range, names, length, initial].filter(Boolean).join(", ");
}

function table(headings, rows) {
  const head = element("tr", {}, ...headings.map((text) => element("th", { scope: "col" }, text)));
  const body = rows.map((cells) => element("tr", {}, ...cells.map((cell) => element("td", {}, cell))));
  // A table that is wider than a phone is scrolled, also by the keyboard.
  const whole = element("table", {}, element("thead", {}, head), element("tbody", {}, ...body));
  return element("div", { class: "table", tabindex: "0", role: "region", "aria-label": headings.join(", ") }, whole);
}

function fields(properties) {
  return Object.entries(properties).map(([name, schema]) => [element("code", {}, name), typeOf(schema), schema.description ?? ""]);
}

/** A command that sends a request to this server. */
function example(path, method, operation) {
  const samples = { words: "红苹果", question: "哪个是红苹果？", like: "ID", files: "@photo.jpg", image: "@photo.jpg", similarity_top_k: "5" };
  const url = new URL(".", location.href).href.replace(/\/$/, "") + path.replace("{id}", "ID").replace("{chat}", "CHAT");
  const form = operation.requestBody?.content["multipart/form-data"]?.schema.properties;
  if (form) {
    const given = ["question", "image", "files"].filter((name) => name in form && !(name === "image" && "question" in form));
    return `curl ${given.map((name) => `-F ${name}=${samples[name]}`).join(" ")} ${url}`;
  }
  const query = (operation.parameters ?? []).filter((each) => each.in === "query" && ["words", "similarity_top_k"].includes(each.name));
  const data = query.map((each) => `--data-urlencode ${each.name}=${samples[each.name]}`).join(" ");
  const verb = method === "get" ? "" : `-X ${method.toUpperCase()} `;
  return data ? `curl -G ${url} ${data}` : `curl ${verb}${url}`;
}

function operationSection(path, method, operation) {
  const parts = [];
  if (operation.description) {
    parts.push(element("p", {}, operation.description));
  }
  if (operation.parameters?.length) {
    const rows = operation.parameters.map((each) => [element("code", {}, each.name), typeOf(each.schema), each.description]);
    parts.push(element("h3", {}, "Parameters"), table(["name", "type", "meaning"], rows));
  }
  const form = operation.requestBody?.content["multipart/form-data"];
  if (form) {
    const types = Object.keys(operation.requestBody.content).join(" or ");
    parts.push(element("h3", {}, `Body: ${types}`), table(["name", "type", "meaning"], fields(form.schema.properties)));
  }
  const responses = Object.entries(operation.responses).map(([status, each]) => {
    const content = Object.entries(each.content ?? {}).map(([type, { schema }]) => `${type}: ${typeOf(schema)}`).join(", ");
    return [status, each.description, content];
  });
  parts.push(element("h3", {}, "Responses"), table(["status", "meaning", "content"], responses));
  parts.push(element("h3", {}, "Example"), element("pre", { tabindex: "0" }, example(path, method, operation)));
  const title = element("summary", {}, element("span", { class: "method" }, method.toUpperCase()), element("code", {}, path), element("span", { class: "summary" }, operation.summary));
  return element("section", {}, element("details", {}, title, element("div", {}, ...parts)));
}

function schemaSection(name, schema) {
  const title = element("summary", {}, element("code", {}, name));
  return element("section", {}, element("details", {}, title, element("div", {}, element("p", {}, schema.description ?? ""), table(["field", "type", "meaning"], fields(schema.properties ?? {})))));
}

async function show() {
  const main = document.getElementById("operations");
  try {
    const response = await fetch("api/openapi.json");
    if (response.status === 401) {
      throw new Error("open the address that mmzhipu serve printed: it contains the token");
    }
    const spec = await response.json();
    document.getElementById("about").textContent = `${spec.info.description} Version ${spec.info.version}.`;
    const operations = Object.entries(spec.paths).flatMap(([path, methods]) =>
      Object.entries(methods).map(([method, operation]) => operationSection(path, method, operation)),
    );
    const schemas = Object.entries(spec.components.schemas).map(([name, schema]) => schemaSection(name, schema));
    main.replaceChildren(element("h2", {}, "Operations"), ...operations, element("h2", {}, "Types"), ...schemas);
  } catch (error) {
    main.replaceChildren(element("p", { role: "alert" }, `The document cannot be shown: ${error.message}`));
  }
}

show();

// Renders /openapi.json. Text is only ever set as text.
"use strict";

let doc;
const make = (tag, properties = {}, ...children) => {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children.filter((child) => child !== undefined && child !== null));
  return element;
};
const resolve = (node) => node && node.$ref ? node.$ref.slice(2).split("/").reduce((at, part) => at[part], doc) : node;

// A schema as an example-like outline.
function outline(schema, depth = 0) {
  schema = resolve(schema) || {};
  const pad = "  ".repeat(depth + 1), end = "  ".repeat(depth);
  if (schema.allOf) {
    const merged = { type: "object", properties: {}, required: [] };
    for (const part of schema.allOf.map(resolve)) {
      Object.assign(merged.properties, part.properties);
      merged.required.push(...(part.required || []));
    }
    return outline(merged, depth);
  }
  if (schema.properties) {
    const required = schema.required || [];
    const rows = Object.entries(schema.properties).map(([name, value]) => pad + name + (required.includes(name) ? "" : "?") + ": " + outline(value, depth + 1));
    return "{\n" + rows.join("\n") + "\n" + end + "}";
  }
  if (schema.type === "array") return "[ " + outline(schema.items, depth) + " ]";
  if (schema.enum) return schema.enum.map((value) => JSON.stringify(value)).join(" | ");
  if (schema.const !== undefined) return JSON.stringify(schema.const);
  if (schema.additionalProperties) return "{ name: " + outline(schema.additionalProperties, depth) + " }";
  const type = Array.isArray(schema.type) ? schema.type.join(" | ") : schema.type || "any";
  return type + (schema.format ? " (" + schema.format + ")" : "") + (schema.description ? "  // " + schema.description : "");
}

function table(head, rows) {
  return make("table", {}, make("thead", {}, make("tr", {}, ...head.map((text) => make("th", { scope: "col" }, text)))),
    make("tbody", {}, ...rows.map((row) => make("tr", {}, ...row.map((cell) => make("td", {}, cell))))));
}

function body(content) {
  const [type, media] = Object.entries(content)[0];
  return [make("p", { className: "soft" }, type), media.schema ? make("pre", { tabIndex: 0 }, outline(media.schema)) : null];
}

function operation(method, path, entry) {
  const inside = make("div", {}, entry.description ? make("p", {}, entry.description) : null);
  const parameters = (entry.parameters || []).map(resolve);
  if (parameters.length) {
    inside.append(make("h3", {}, "Parameters"), table(["Name", "In", "Type", ""], parameters.map((p) =>
      [make("code", {}, p.name), p.in + (p.required ? ", required" : ""), outline({ ...resolve(p.schema), description: undefined }), p.description || ""])));
  }
  if (entry.requestBody) inside.append(make("h3", {}, "Body" + (entry.requestBody.required ? "" : " (optional)")), ...body(entry.requestBody.content));
  inside.append(make("h3", {}, "Answers"));
  for (const [status, raw] of Object.entries(entry.responses)) {
    const response = resolve(raw);
    inside.append(make("p", {}, make("code", {}, status), " " + response.description));
    if (response.content && status[0] === "2") inside.append(...body(response.content).filter(Boolean));
  }
  const open = entry.security && entry.security.some((scheme) => Object.keys(scheme).length === 0);
  return make("details", { id: entry.operationId },
    make("summary", {}, make("code", { className: "method " + method }, method.toUpperCase()), make("code", {}, path),
      entry.tags.includes("admin") ? make("span", { className: "badge" }, "admin listener") : null,
      open ? null : make("span", { className: "badge" }, "credential"), make("span", { className: "soft" }, entry.summary)), inside);
}

fetch("/openapi.json").then((response) => response.json()).then((loaded) => {
  doc = loaded;
  document.title = doc.info.title;
  const page = document.getElementById("page");
  page.replaceChildren(make("h1", {}, doc.info.title), make("p", {}, doc.info.summary), make("p", { className: "soft" }, doc.info.description),
    make("p", {}, make("a", { href: "/openapi.json" }, "openapi.json"), " · version " + doc.info.version));
  for (const tag of doc.tags) {
    page.append(make("h2", {}, tag.name), make("p", { className: "soft" }, tag.description));
    for (const [path, methods] of Object.entries(doc.paths))
      for (const [method, entry] of Object.entries(methods)) if (entry.tags[0] === tag.name) page.append(operation(method, path, entry));
  }
  const wanted = location.hash && document.getElementById(location.hash.slice(1));
  if (wanted) wanted.open = true;
});

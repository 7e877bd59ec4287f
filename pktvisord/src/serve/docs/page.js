"use strict";
// Inserts data of the document and of answers as text, never as HTML.

function element(tag, properties, ...children) {
  const node = Object.assign(document.createElement(tag), properties);
  node.append(...children);
  return node;
}

// Returns the name of the schema that a reference points to.
const nameOf = (reference) => reference.split("/").pop();

// Returns the type of a value, with links to its schemas.
function typeOf(schema) {
  if (!schema || Object.keys(schema).length === 0) return ["any"];
  if (schema.$ref) {
    const name = nameOf(schema.$ref);
    return [element("a", { href: `#schema-${name}`, textContent: name })];
  }
  const choices = schema.oneOf || schema.anyOf;
  if (choices) {
    const given = choices.filter((choice) => choice.type !== "null");
    return given.flatMap((choice, i) => (i ? [" or ", ...typeOf(choice)] : typeOf(choice)));
  }
  const type = [].concat(schema.type || "object").filter((name) => name !== "null").join(" or ");
  if (type === "array") return ["list of ", ...typeOf(schema.items)];
  if (schema.additionalProperties) return ["object of string → ", ...typeOf(schema.additionalProperties)];
  return [schema.format ? `${type} (${schema.format})` : type];
}

function table(rows) {
  return element("table", {}, element("tbody", {}, ...rows.map(([name, type, description]) =>
    element("tr", {},
      element("td", {}, element("code", { textContent: name })),
      element("td", { className: "type" }, ...type),
      element("td", {}, ...prose(description))))));
}

// Returns text with its `code` spans as elements.
function prose(text) {
  return (text || "").split("`").map((part, i) => (i % 2 ? element("code", { textContent: part }) : part));
}

function paragraphs(text) {
  return (text || "").split("\n\n").filter(Boolean).map((part) => element("p", {}, ...prose(part)));
}

// Returns a hex dump of the first 512 bytes of a binary answer.
function hex(octets) {
  const lines = [];
  for (let at = 0; at < Math.min(octets.length, 512); at += 16) {
    const line = [...octets.slice(at, at + 16)].map((octet) => octet.toString(16).padStart(2, "0"));
    lines.push(`${at.toString(16).padStart(6, "0")}  ${line.join(" ")}`);
  }
  if (octets.length > 512) lines.push("…");
  return lines.join("\n");
}

function show(type, octets) {
  if (type.startsWith("application/octet-stream")) return hex(octets);
  const body = new TextDecoder().decode(octets);
  return type.startsWith("application/json") ? JSON.stringify(JSON.parse(body), null, 2) : body;
}

// Returns a form that requests the route and shows the answer.
function tryIt(path, parameters) {
  const inputs = parameters.map((parameter) => element("input", {
    name: parameter.name,
    value: parameter.example ?? "",
    ariaLabel: parameter.name,
    placeholder: parameter.name,
    autocomplete: "off",
  }));
  const status = element("span", { className: "dim", role: "status" });
  const output = element("pre", { hidden: true, tabIndex: 0 });
  const form = element("form", { className: "try" },
    ...inputs.flatMap((input) => [element("code", { textContent: `${input.name} =` }), input]),
    element("button", { textContent: "Try it" }), status);
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const url = inputs.reduce(
      (url, input) => url.replace(`{${input.name}}`, encodeURIComponent(input.value)), path);
    const begin = performance.now();
    status.className = "dim";
    status.textContent = "…";
    try {
      const response = await fetch(url);
      const octets = new Uint8Array(await response.arrayBuffer());
      const took = Math.round(performance.now() - begin);
      status.className = response.ok ? "good" : "bad";
      status.textContent = `${response.status} ${response.statusText} · ${octets.length} bytes · ${took} ms`;
      output.textContent = show(response.headers.get("content-type") || "", octets);
      output.hidden = false;
    } catch (error) {
      status.className = "bad";
      status.textContent = `No answer: ${error.message}`;
      output.hidden = true;
    }
  });
  return [form, output];
}

function operation(path, method, route) {
  const parameters = route.parameters || [];
  const section = element("section", { id: route.operationId },
    element("div", { className: "route" },
      element("span", { className: "method", textContent: method.toUpperCase() }),
      element("span", { className: "path", textContent: path })),
    element("h3", { textContent: route.summary || "" }), ...paragraphs(route.description));
  if (parameters.length) {
    section.append(element("h4", { textContent: "Parameters" }), table(parameters.map((parameter) =>
      [parameter.name, typeOf(parameter.schema), parameter.description])));
  }
  section.append(element("h4", { textContent: "Answers" }), table(Object.entries(route.responses).map(
    ([code, response]) => {
      const [[type, content]] = Object.entries(response.content || { "": {} });
      const body = type === "application/json" ? typeOf(content.schema) : [type];
      return [code, body, response.description];
    })));
  if (method === "get") section.append(...tryIt(path, parameters));
  return section;
}

function schema(name, definition) {
  const required = new Set(definition.required || []);
  const section = element("section", { id: `schema-${name}` },
    element("h3", { textContent: name }), ...paragraphs(definition.description));
  const properties = Object.entries(definition.properties || {});
  if (properties.length) {
    section.append(table(properties.map(([key, value]) =>
      [required.has(key) ? key : `${key}?`, typeOf(value), value.description])));
  } else {
    section.append(element("p", { className: "type" }, ...typeOf(definition)));
  }
  return section;
}

function render(api) {
  document.getElementById("version").textContent = api.info.version;
  const main = document.getElementById("main");
  const contents = document.getElementById("contents");
  main.replaceChildren(...paragraphs(api.info.description));
  const group = (title, description, entries) => {
    contents.append(element("h4", { textContent: title }));
    main.append(element("h2", { textContent: title }, element("small", { textContent: description })));
    for (const [label, section] of entries) {
      contents.append(element("a", { href: `#${section.id}`, textContent: label, title: label }));
      main.append(section);
    }
  };
  const routes = Object.entries(api.paths).flatMap(([path, methods]) =>
    Object.entries(methods).map(([method, route]) => ({ path, method, route })));
  for (const tag of api.tags) {
    const tagged = routes.filter(({ route }) => route.tags.includes(tag.name));
    group(tag.name, tag.description, tagged.map(({ path, method, route }) =>
      [path.replace("/api/v1", ""), operation(path, method, route)]));
  }
  const schemas = Object.entries(api.components.schemas);
  group("schemas", "A ? marks optional fields", schemas.map(([name, definition]) =>
    [name, schema(name, definition)]));
  // The page is complete: scroll to the fragment of the URL.
  if (location.hash) document.getElementById(decodeURIComponent(location.hash.slice(1)))?.scrollIntoView();
}

document.getElementById("filter").addEventListener("input", (event) => {
  const wanted = event.target.value.trim().toLowerCase();
  for (const link of document.querySelectorAll("#contents a")) {
    const section = document.getElementById(link.hash.slice(1));
    link.hidden = section.hidden = !section.textContent.toLowerCase().includes(wanted);
  }
});

fetch("/api/v1/openapi.json").then((answer) => answer.json()).then(render).catch((error) => {
  document.getElementById("main").replaceChildren(
    element("p", { className: "bad", textContent: `Cannot load the document: ${error.message}` }));
});

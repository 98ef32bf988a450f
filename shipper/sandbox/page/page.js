// The sandbox's page: asks once a second for what arrived since, and shows the newest lines first.
// Everything that came from outside reaches the document through textContent alone.
"use strict";

const ROWS = 500;          // lines in the document; older ones leave it
const INTERVAL = 1000;     // ms between two looks
const LEVELS = ["emergency", "alert", "critical", "error", "warning", "notice", "info", "debug", "ok"];

const $ = (id) => document.getElementById(id);
const lines = $("lines");

let after = 0;             // id of the last event that was asked for
let epoch = null;          // changes when the sandbox was reset or started anew
let paused = false;
let rows = [];             // newest first: {event, item, text}
let unseen = 0;            // lines that went by between two looks, beyond ROWS
let rates = new Map();     // provider → {ms, events}
let titles = new Map();    // provider → its name as people write it
let busy = false;
let last = null;           // the last summary

function make(tag, className, text) {
  const node = document.createElement(tag);
  if (className) node.className = className;
  if (text !== undefined && text !== null) node.textContent = text;
  return node;
}

const numbers = new Intl.NumberFormat("en");
const count = (n) => numbers.format(n);

function bytes(n) {
  for (const unit of ["B", "kB", "MB", "GB"]) {
    if (n < 1000 || unit === "GB") return `${n < 10 && unit !== "B" ? n.toFixed(1) : Math.round(n)} ${unit}`;
    n /= 1000;
  }
}

function clock(ms) {
  const date = new Date(ms);
  const two = (n) => String(n).padStart(2, "0");
  if (date.getFullYear() !== new Date().getFullYear()) return isoLocal(ms).slice(0, 10);
  if (Math.abs(Date.now() - ms) > 12 * 3600 * 1000) {
    return `${two(date.getMonth() + 1)}-${two(date.getDate())} ${two(date.getHours())}:${two(date.getMinutes())}`;
  }
  return `${two(date.getHours())}:${two(date.getMinutes())}:${two(date.getSeconds())}.${String(date.getMilliseconds()).padStart(3, "0")}`;
}

function isoLocal(ms) {
  const date = new Date(ms);
  return Number.isNaN(date.getTime()) ? String(ms) : date.toISOString();
}

// Codes for a terminal (ECMA-48): colours, titles, two-character ones.
const CODES = /\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[@-Z\\^_])/g;

// Other characters that do not print, as a terminal shows them: ^G for a bell.
function printable(text) {
  return text.replace(/[\x00-\x08\x0b-\x1f\x7f]/g, (c) => `^${String.fromCharCode(c.charCodeAt(0) ^ 64)}`);
}

// A whole text, its codes dimmed.
function spell(into, text) {
  let at = 0;
  for (const found of text.matchAll(CODES)) {
    into.append(printable(text.slice(at, found.index)), make("span", "code", printable(found[0])));
    at = found.index + found[0].length;
  }
  into.append(printable(text.slice(at)));
  return into;
}

// --- lines

function row(event) {
  const item = make("li");
  const level = LEVELS.includes(event.level) ? event.level : "info";
  item.classList.add(level);
  if (event.attributes && event.attributes.logger === "shipper") item.classList.add("own");
  const button = make("button", "row");
  button.type = "button";
  button.setAttribute("aria-expanded", "false");
  const time = make("span", "time", clock(event.time_ms));
  time.title = isoLocal(event.time_ms);
  const message = make("span", "message");
  message.append(make("span", "text", event.message === "" ? "(empty)" : printable(event.message.slice(0, 2000).replace(CODES, ""))));
  if (event.marks.length) message.classList.add("marked");
  button.append(
    time,
    make("span", "provider", titles.get(event.provider) || event.provider),
    make("span", `level l-${level}`, level),
    make("span", `stream ${event.stream === "stderr" ? "stderr" : ""}`, event.stream || "–"),
    make("span", "host", event.host || "–"),
    make("span", "source", event.source || "–"),
    message,
  );
  button.tabIndex = -1;
  button.addEventListener("click", () => toggle(record));
  item.append(button);
  const record = { event, item, button, text: null };
  return record;
}

function searchable(record) {
  if (record.text === null) {
    const e = record.event;
    record.text = [e.message, e.level, e.stream, e.host, e.source, e.service, e.run, JSON.stringify(e.attributes), e.tags.join(" ")]
      .join("\n").toLowerCase();
  }
  return record.text;
}

const FIELDS = ["level", "stream", "host", "source", "service", "run", "provider"];

function parseFilter(text) {
  return text.toLowerCase().split(/\s+/).filter(Boolean).map((word) => {
    const at = word.indexOf(":");
    const field = at > 0 ? word.slice(0, at) : "";
    if (FIELDS.includes(field)) return (r) => String(r.event[field] ?? "").toLowerCase().startsWith(word.slice(at + 1));
    return (r) => searchable(r).includes(word);
  });
}

let tests = [];
function matches(record) {
  const provider = $("provider").value;
  return (!provider || record.event.provider === provider) && tests.every((test) => test(record));
}

function add(events) {
  if (!events.length) return;
  const fresh = [];
  for (const event of events) {
    const record = row(event);
    record.item.hidden = !matches(record);
    if (rows.length) record.item.classList.add("fresh");
    fresh.unshift(record);
  }
  lines.prepend(...fresh.map((r) => r.item));
  rows = fresh.concat(rows);
  for (const old of rows.splice(ROWS)) old.item.remove();
  settle();
}

function settle() {
  const shown = rows.filter((r) => !r.item.hidden);
  $("empty").hidden = rows.length > 0;
  $("no-match").hidden = rows.length === 0 || shown.length > 0;
  const parts = [];
  if (rows.length) parts.push(shown.length === rows.length ? `last ${some(rows.length, "line", "lines")}` : `${count(shown.length)} of the last ${some(rows.length, "line", "lines")}`);
  if (unseen) parts.push(`${count(unseen)} went by too fast to show`);
  $("shown").textContent = parts.join(" · ");
  if (shown.length && !shown.some((r) => r.button.tabIndex === 0)) shown[0].button.tabIndex = 0;
}

function toggle(record) {
  const open = record.button.getAttribute("aria-expanded") === "true";
  record.button.setAttribute("aria-expanded", String(!open));
  if (open) record.item.querySelector(".detail").remove();
  else record.item.append(detail(record.event));
}

function pair(list, name, value, note) {
  if (value === null || value === undefined || value === "") return;
  const dd = make("dd", "", String(value));
  if (note) dd.append(" ", make("small", "", note));
  list.append(make("dt", "", name), dd);
}

function detail(event) {
  const box = make("div", "detail");
  if (event.marks.length) {
    const marks = make("ul", "marks");
    for (const mark of event.marks) marks.append(make("li", "", mark));
    box.append(marks);
  }
  const text = make("div", "text");
  text.append(make("h3", "", "Message"), spell(make("pre"), event.message));
  box.append(text);

  const left = make("div");
  left.append(make("h3", "", `As ${titles.get(event.provider) || event.provider} sees it`));
  const seen = make("dl");
  const from = (name) => {
    const attribute = (event.remapped || {})[name];
    const late = ((event.shadowed || {})[name] || []).join(", ");
    return [attribute && `from ${attribute}`, late && `takes the place of ${late}`].filter(Boolean).join("; ");
  };
  pair(seen, "time", isoLocal(event.time_ms), from("date"));
  pair(seen, "level", event.level, from("status"));
  pair(seen, "host", event.host, from("host"));
  pair(seen, "source", event.source);
  pair(seen, "service", event.service, from("service"));
  pair(seen, "trace", event.trace_id, from("trace_id"));
  for (const [name, value] of Object.entries(event.place || {})) pair(seen, name, value);
  pair(seen, "stream", event.stream);
  pair(seen, "run", event.run);
  pair(seen, "seq", event.seq);
  pair(seen, "lines", event.lines);
  pair(seen, "part", event.part);
  pair(seen, "skipped", event.skipped);
  pair(seen, "tags", event.tags.join(", "));
  pair(seen, "arrived", isoLocal(event.received_ms));
  pair(seen, "request", `#${event.request}`, event.request_id);
  left.append(seen);

  const right = make("div");
  right.append(make("h3", "", "Attributes"));
  const names = Object.keys(event.attributes || {});
  if (names.length) {
    const pre = make("pre");
    structure(pre, event.attributes, 0);
    right.append(pre);
  } else {
    right.append(make("p", "none", "None besides those."));
  }
  box.append(left, right);
  return box;
}

// JSON with colours, built of text nodes.
function structure(into, value, depth) {
  const pad = "  ".repeat(depth);
  if (Array.isArray(value) || (value && typeof value === "object")) {
    const list = Array.isArray(value);
    const entries = Object.entries(value);
    if (!entries.length) return into.append(list ? "[]" : "{}");
    if (depth >= 12) return into.append(list ? "[…]" : "{…}");
    into.append(list ? "[\n" : "{\n");
    entries.forEach(([key, inner], index) => {
      into.append(pad + "  ");
      if (!list) into.append(make("span", "k", JSON.stringify(key)), ": ");
      structure(into, inner, depth + 1);
      into.append(index + 1 < entries.length ? ",\n" : "\n");
    });
    return into.append(pad + (list ? "]" : "}"));
  }
  return into.append(make("span", typeof value === "string" ? "s" : "n", JSON.stringify(value)));
}

// --- counters

// Name, and whether a phone shows it beside the provider or only once the provider is opened.
const COLUMNS = [["lines", false], ["refused", false], ["missing", false], ["repeats", true], ["not kept", true], ["requests", true], ["on the wire", true]];

const ranges = (list) => list.slice(0, 8).map(([a, b]) => (a === b ? `${a}` : `${a}–${b}`)).join(", ") + (list.length > 8 ? ", …" : "");
const some = (n, one, many) => `${count(n)} ${n === 1 ? one : many}`;

let opened = new Set();    // providers whose runs and refusals are shown

// What stands in each column: [text, kind, note].
function counted(name, p) {
  const rate = rateOf(name, p);
  const gone = p.too_old + p.dropped;
  const lost = [p.too_old && `${count(p.too_old)} too old`, p.cut && `${count(p.cut)} cut`].filter(Boolean).join(", ");
  return {
    lines: [count(p.lines), "", rate >= 1 ? `${count(Math.round(rate))}/s` : ""],
    refused: [count(p.refused), p.refused > p.mended ? "wrong" : "", p.mended ? `${count(p.mended)} mended` : ""],
    missing: [count(p.missing), p.missing ? "wrong" : "", ""],
    repeats: [count(p.repeats), p.repeats ? "odd" : "", ""],
    "not kept": [count(gone), gone ? "wrong" : p.cut ? "odd" : "", lost],
    requests: [count(p.requests), "", ""],
    "on the wire": [bytes(p.wire_bytes), "", p.bytes > p.wire_bytes * 1.05 ? `of ${bytes(p.bytes)}` : ""],
  };
}

function table(name, p, fault, refusals) {
  const body = make("tbody", p.requests ? "" : "idle");
  body.dataset.provider = name;
  const row = make("tr");
  const head = make("th");
  head.scope = "row";
  const runs = new Set(p.streams.map((s) => s.run)).size;
  const about = make("small");
  if (p.requests) {
    about.append(runs ? some(runs, "run", "runs") : "no run");
    const more = [p.key && `key ${p.key}`, p.last_ms && `last ${clock(p.last_ms)}`].filter(Boolean);
    if (more.length) about.append(make("span", "minor", ` · ${more.join(" · ")}`));
    const odd = [p.repeats && some(p.repeats, "repeat", "repeats"), p.too_old + p.dropped && `${count(p.too_old + p.dropped)} not kept`, p.cut && `${count(p.cut)} cut`].filter(Boolean);
    if (odd.length) about.append(make("span", "phone odd", ` · ${odd.join(" · ")}`));
    const button = make("button", "more");
    button.type = "button";
    button.dataset.key = name;
    button.setAttribute("aria-expanded", String(opened.has(name)));
    button.append(make("span", "name", p.title), about);
    button.addEventListener("click", () => {
      if (!opened.delete(name)) opened.add(name);
      if (last) cards(last);
    });
    head.append(button);
  } else {
    about.textContent = "nothing yet";
    head.append(make("span", "name", p.title), about);
  }
  row.append(head);
  const cells = counted(name, p);
  for (const [column, minor] of COLUMNS) {
    const [value, kind, note] = cells[column];
    const td = make("td", `${kind} ${minor ? "minor" : ""}`.trim());
    td.append(make("strong", "", value));
    if (note) td.append(" ", make("small", "", note));
    row.append(td);
  }
  body.append(row);
  const wide = () => {
    const line = make("tr", "wide");
    const td = make("td");
    td.colSpan = COLUMNS.length + 1;
    line.append(td);
    body.append(line);
    return td;
  };
  if (fault) wide().append(make("p", "fault", describe(fault)));
  if (p.requests && opened.has(name)) wide().append(rest(p, cells), story(p, refusals.filter((r) => r.provider === name)));
  return body;
}

// What a phone has no column for.
function rest(p, cells) {
  const list = make("dl", "phone");
  for (const [column, minor] of COLUMNS) {
    const [value, kind, note] = cells[column];
    if (minor) list.append(make("dt", "", column), make("dd", kind, note ? `${value} (${note})` : value));
  }
  for (const [name, value] of [["key", p.key], ["last", p.last_ms ? clock(p.last_ms) : ""]]) {
    if (value) list.append(make("dt", "", name), make("dd", "", value));
  }
  return list;
}

// Runs and streams, newest first, and the last refusals.
function story(p, refusals) {
  const ul = make("ul", "story");
  for (const s of p.streams.slice().reverse().slice(0, 20)) {
    // Every number up to the last stands for a line that arrived, is missing, or was left out before it was sent.
    const empty = s.last_seq === null || s.repeats ? 0 : Math.max(0, s.last_seq - s.missing - s.lines);
    const arrived = some(s.lines, "line", "lines") + (empty ? ` and ${count(empty)} left out as empty` : "");
    const parts = [`${s.run} ${s.stream || "–"}: ${arrived}${s.last_seq === null ? "" : `, up to number ${count(s.last_seq)}`}`];
    if (s.missing) parts.push(`${count(s.missing)} missing (${ranges(s.gaps)})`);
    if (s.missing && s.missing !== s.unexplained) parts.push(`${count(s.missing - s.unexplained)} of them announced`);
    if (s.repeats) parts.push(`${count(s.repeats)} repeated (${ranges(s.repeated)})`);
    if (!s.missing && !s.repeats) parts.push("no gap, no repeat");
    ul.append(make("li", s.missing ? "wrong" : "", parts.join("; ")));
  }
  for (const r of refusals.slice().reverse().slice(0, 20)) {
    const end = r.mended ? " It was made since." : "";
    ul.append(make("li", r.mended ? "" : "wrong", `${clock(r.received_ms)} refused: ${r.status || "no answer"} ${r.reason}${end}`));
  }
  if (!ul.children.length) ul.append(make("li", "", "No run and no refusal."));
  return ul;
}

function describe(fault) {
  const parts = [];
  if (fault.delay) parts.push(`waits ${fault.delay} s`);
  if (fault.down) parts.push("breaks the connection off");
  else if (fault.status) parts.push(`answers ${fault.status}`);
  if (fault.retry_after) parts.push(`Retry-After ${fault.retry_after}`);
  if (fault.rate_limits) parts.push(`X-Sentry-Rate-Limits ${fault.rate_limits}`);
  for (const [why, n] of Object.entries(fault.reject || {})) parts.push(`rejects ${count(n)} as ${why.replace("_", " ")}`);
  if (fault.operation) parts.push(`to ${fault.operation}`);
  if (fault.containing) parts.push(`where the body holds ${fault.containing}`);
  if (fault.count !== null) parts.push(`for ${count(fault.count)} more requests`);
  return `On request: ${parts.join(", ")}`;
}

function snippet(settings) {
  const own = (value) => value.replace(/\/\/([0-9a-f]*@)?[^/]*/, (_, key) => `//${key || ""}${location.host}`);
  const lines = Object.values(settings).map((one) =>
    "export " + Object.entries(one).map(([name, value]) => `${name}=${value.includes("://") ? own(value) : value}`).join(" \\\n       "));
  const text = lines.concat("shipper run -- python agent.py start").join("\n");
  if ($("snippet").textContent !== text) $("snippet").textContent = text;
}

function rateOf(name, p) {
  const now = performance.now();
  const before = rates.get(name);
  rates.set(name, { ms: now, lines: p.lines });
  if (!before || p.lines < before.lines) return 0;
  return ((p.lines - before.lines) * 1000) / Math.max(1, now - before.ms);
}

function cards(summary) {
  last = summary;
  const focused = document.activeElement && document.activeElement.closest(".more");
  titles = new Map(Object.entries(summary.providers).map(([name, p]) => [name, p.title]));
  const nodes = Object.entries(summary.providers).map(([name, p]) => table(name, p, summary.faults[name], summary.refusals));
  const heads = make("thead");
  const line = make("tr");
  for (const [name, minor] of [["provider", false], ...COLUMNS]) {
    const th = make("th", minor ? "minor" : "", name);
    th.scope = "col";
    line.append(th);
  }
  heads.append(line);
  $("providers").replaceChildren(heads, ...nodes);
  snippet(summary.settings);
  for (const more of document.querySelectorAll(".more")) {
    if (focused && focused.dataset.key === more.dataset.key) more.focus();
  }
  const select = $("provider");
  const names = Object.entries(summary.providers);
  if (select.options.length !== names.length + 1) {
    for (const [name, p] of names) {
      const option = make("option", "", p.title);
      option.value = name;
      select.append(option);
    }
    $("provider-choice").hidden = names.length < 2;
  }
}

// --- the loop

function state(kind, text) {
  $("state").className = `state ${kind}`;
  if ($("state-text").textContent !== text) $("state-text").textContent = text;
}

async function get(path) {
  const response = await fetch(path, { cache: "no-store" });
  if (!response.ok) throw new Error(`${response.status}`);
  return response.json();
}

async function look() {
  if (busy) return;
  busy = true;
  try {
    const summary = await get("/sandbox/summary");
    const stamp = `${summary.epoch} ${summary.started_ms}`;
    if (epoch !== null && stamp !== epoch) forget();
    epoch = stamp;
    cards(summary);
    if (!paused) {
      const found = await get(`/sandbox/events?after=${after}&limit=${ROWS}&newest=1`);
      const first = found.events.length ? found.events[0].id : found.last + 1;
      if (after) unseen += Math.max(0, first - 1 - after);
      after = found.last;
      add(found.events);
    }
    state(paused ? "paused" : "live", paused ? "paused" : `live on ${location.host}`);
  } catch {
    state("lost", "The sandbox does not answer; trying again");
  } finally {
    busy = false;
  }
}

function forget() {
  after = 0;
  unseen = 0;
  rows = [];
  rates.clear();
  lines.replaceChildren();
  settle();
}

function pause(on) {
  paused = on;
  $("pause").setAttribute("aria-pressed", String(on));
  $("pause-text").textContent = on ? "Resume" : "Pause";
  look();
}

function filter() {
  tests = parseFilter($("filter").value);
  for (const record of rows) record.item.hidden = !matches(record);
  settle();
}

// --- keys

function move(step) {
  const shown = rows.filter((r) => !r.item.hidden);
  if (!shown.length) return;
  const at = shown.findIndex((r) => r.button === document.activeElement);
  const next = step === Infinity ? shown.length - 1 : step === -Infinity ? 0 : Math.min(shown.length - 1, Math.max(0, at + step));
  for (const r of shown) r.button.tabIndex = -1;
  shown[next].button.tabIndex = 0;
  shown[next].button.focus();
}

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const typing = event.target instanceof HTMLInputElement || event.target instanceof HTMLSelectElement;
  const inLines = lines.contains(document.activeElement);
  if (event.key === "Escape" && typing) {
    $("filter").value = "";
    filter();
    event.target.blur();
  } else if (typing) {
    return;
  } else if (event.key === "/") {
    event.preventDefault();
    $("filter").focus();
  } else if (event.key === "p") {
    pause(!paused);
  } else if (event.key === "ArrowDown" || event.key === "j") {
    if (event.key === "ArrowDown" && !inLines) return;
    event.preventDefault();
    move(1);
  } else if (event.key === "ArrowUp" || event.key === "k") {
    if (event.key === "ArrowUp" && !inLines) return;
    event.preventDefault();
    move(-1);
  } else if (inLines && (event.key === "Home" || event.key === "End")) {
    event.preventDefault();
    move(event.key === "Home" ? -Infinity : Infinity);
  }
});

$("filter").addEventListener("input", filter);
$("provider").addEventListener("change", filter);
$("pause").addEventListener("click", () => pause(!paused));
$("clear").addEventListener("click", async () => {
  try {
    await fetch("/sandbox/reset", { method: "POST" });
  } finally {
    look();
  }
});
$("copy").addEventListener("click", async () => {
  await navigator.clipboard.writeText($("snippet").textContent);
  $("copy").textContent = "Copied";
});

look();
setInterval(look, INTERVAL);

// The expression page: one query, its table and its graph. The address bar holds the whole view.
"use strict";
const $ = (id) => document.getElementById(id);
const base = document.body.dataset.prefix || "";
const COLOURS = ["#2f7ed8", "#e4572e", "#2a9d55", "#a55eea", "#c99700", "#00a3a3", "#d6336c", "#7a7a7a"];
const ROWS_MAX = 500, LINES_MAX = 60;
let view = "graph", run = 0;

const labels = (metric) => {
  const { __name__: name = "", ...rest } = metric;
  const pairs = Object.entries(rest).map(([k, v]) => `${k}=${JSON.stringify(v)}`);
  return name + (pairs.length || !name ? `{${pairs.join(", ")}}` : "");
};
const short = (v) => {
  const a = Math.abs(v);
  for (const [limit, unit] of [[1e12, "T"], [1e9, "G"], [1e6, "M"], [1e3, "k"]]) if (a >= limit) return +(v / limit).toPrecision(4) + unit;
  return String(+v.toPrecision(4));
};
const el = (name, attributes = {}, text) => {
  const node = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [k, v] of Object.entries(attributes)) node.setAttribute(k, v);
  if (text !== undefined) node.textContent = text;
  return node;
};
const say = (text, error = false) => { $("status").textContent = text; $("status").className = error ? "error" : ""; };

async function ask(path, parameters) {
  const response = await fetch(`${base}/api/v1/${path}`, { method: "POST", body: new URLSearchParams(parameters) });
  const answer = await response.json().catch(() => ({ error: `status ${response.status}` }));
  if (answer.status !== "success") throw new Error(answer.error || "no answer");
  return answer;
}

function graph(series, start, end) {
  const shown = series.slice(0, LINES_MAX), W = 960, H = 320, L = 56, B = 24, T = 8;
  const values = shown.flatMap((s) => s.values.map(([, v]) => Number(v))).filter(Number.isFinite);
  let low = Math.min(...values), high = Math.max(...values);
  if (!values.length) { low = 0; high = 1; }
  if (low === high) { low -= Math.abs(low) / 2 || 1; high += Math.abs(high) / 2 || 1; }
  const x = (t) => L + (t - start) / (end - start) * (W - L - 8), y = (v) => T + (high - v) / (high - low) * (H - T - B);
  const svg = el("svg", { viewBox: `0 0 ${W} ${H}`, role: "img", "aria-label": `line graph of ${series.length} series` });
  for (let i = 0; i <= 4; i++) {
    const v = low + (high - low) * i / 4, t = start + (end - start) * i / 4;
    svg.append(el("line", { class: "axis", x1: L, x2: W - 8, y1: y(v), y2: y(v) }));
    svg.append(el("text", { x: L - 6, y: y(v) + 4, "text-anchor": "end" }, short(v)));
    svg.append(el("text", { x: x(t), y: H - 6, "text-anchor": i === 4 ? "end" : "middle" }, new Date(t * 1000).toLocaleTimeString()));
  }
  const step = (end - start) / 240;
  $("legend").replaceChildren();
  shown.forEach((s, i) => {
    let d = "", last = null;
    for (const [t, raw] of s.values) {
      const v = Number(raw);
      if (!Number.isFinite(v)) { last = null; continue; }
      d += `${last !== null && t - last < step * 1.5 ? "L" : "M"}${x(t).toFixed(1)} ${y(v).toFixed(1)}`;
      if (last === null) d += "h.1";
      last = t;
    }
    svg.append(el("path", { d, stroke: COLOURS[i % COLOURS.length] }));
    const item = document.createElement("li"), mark = document.createElement("i");
    mark.style.background = COLOURS[i % COLOURS.length];
    item.append(mark, labels(s.metric));
    $("legend").append(item);
  });
  $("graph").replaceChildren(svg);
  return shown.length;
}

function table(data) {
  const rows = data.resultType === "scalar" || data.resultType === "string" ? [["", data.result[1]]]
    : data.result.map((s) => [labels(s.metric), s.value ? s.value[1] : (s.values || []).map(([t, v]) => `${v} @${t}`).join("\n")]);
  const node = document.createElement("table"), head = node.createTHead().insertRow();
  for (const text of ["Series", "Value"]) { const th = document.createElement("th"); th.textContent = text; head.append(th); }
  const body = node.createTBody();
  for (const row of rows.slice(0, ROWS_MAX)) for (const [i, text] of row.entries()) (i ? body.rows[body.rows.length - 1] : body.insertRow()).insertCell().textContent = text;
  $("table").replaceChildren(node);
  return [Math.min(rows.length, ROWS_MAX), rows.length];
}

async function go() {
  const query = $("expr").value.trim(), range = Number($("range").value), mine = ++run;
  if (!query) return say("Type an expression and press Enter.");
  history.replaceState(null, "", "?" + new URLSearchParams({ "g0.expr": query, "g0.tab": view, "g0.range_input": range + "s" }));
  say("…");
  const began = performance.now();
  try {
    const end = Date.now() / 1000, start = end - range;
    const answer = view === "graph" ? await ask("query_range", { query, start, end, step: Math.max(range / 240, 1) }) : await ask("query", { query, time: end });
    if (mine !== run) return;
    const ms = Math.round(performance.now() - began), notes = [...(answer.warnings || []), ...(answer.infos || [])].join("; ");
    $("graph").hidden = $("legend").hidden = view !== "graph";
    $("table").hidden = view === "graph";
    let [shown, all] = [0, answer.data.result.length];
    if (view === "graph") shown = all ? graph(answer.data.result, start, end) : ($("graph").replaceChildren(), $("legend").replaceChildren(), 0);
    else [shown, all] = table(answer.data);
    say(all ? `${all} series in ${ms} ms${shown < all ? `, the first ${shown} shown` : ""}${notes ? " — " + notes : ""}` : `No data: nothing matches in this range. ${notes}`);
  } catch (error) { if (mine === run) say(error.message, true); }
}

function show(next) {
  view = next;
  for (const name of ["graph", "table"]) $(`show-${name}`).setAttribute("aria-pressed", String(name === view));
  go();
}

$("form").addEventListener("submit", (event) => { event.preventDefault(); go(); });
$("expr").addEventListener("keydown", (event) => { if (event.key === "Enter" && !event.shiftKey) { event.preventDefault(); go(); } });
$("range").addEventListener("change", go);
for (const name of ["graph", "table"]) $(`show-${name}`).addEventListener("click", () => show(name));
for (const node of document.querySelectorAll(".examples button")) node.addEventListener("click", () => { $("expr").value = node.textContent; go(); });
const given = new URLSearchParams(location.search);
$("expr").value = given.get("g0.expr") || "node_load1";
const seconds = Number.parseInt(given.get("g0.range_input") || "", 10);
if ([...$("range").options].some((option) => Number(option.value) === seconds)) $("range").value = String(seconds);
setInterval(() => { if ($("live").checked && !document.hidden) go(); }, 10_000);
show(["table", "1"].includes(given.get("g0.tab")) ? "table" : "graph");

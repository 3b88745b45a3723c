// The live view: reads this exporter's own metrics every few seconds and draws what changed. Only text is ever put into
// the page, never markup, because label values come from the machine.
"use strict";

const PERIOD_MS = 5000;
const HISTORY = 60;
const view = document.getElementById("live");
const metricsPath = view.dataset.metrics;
const collectorsPath = view.dataset.collectors;
const history = [];
let last = null;

/** Text format 0.0.4 as a map from name to samples. */
function parse(text) {
  const families = new Map();
  const line = /^([a-zA-Z_:][\w:]*)(?:\{(.*)\})? (\S+)$/;
  for (const row of text.split("\n")) {
    const match = row.startsWith("#") ? null : line.exec(row);
    if (!match) continue;
    const labels = {};
    for (const [, name, value] of (match[2] || "").matchAll(/([a-zA-Z_]\w*)="((?:[^"\\]|\\.)*)"/g)) {
      labels[name] = value.replace(/\\(.)/g, (_, c) => (c === "n" ? "\n" : c));
    }
    const value = match[3] === "+Inf" ? Infinity : match[3] === "-Inf" ? -Infinity : Number(match[3]);
    if (!families.has(match[1])) families.set(match[1], []);
    families.get(match[1]).push({ labels, value });
  }
  return families;
}

const all = (families, name) => families.get(name) || [];
const one = (families, name) => all(families, name)[0]?.value;

/** Sum of the samples that `keep` accepts. */
const sum = (families, name, keep = () => true) =>
  all(families, name).filter((sample) => keep(sample.labels)).reduce((total, sample) => total + sample.value, 0);

/** By how much a sum grew in a second since the last reading; null at the first one. */
function rate(now, name, keep) {
  if (!last) return null;
  const seconds = (now.at - last.at) / 1000;
  return Math.max(0, sum(now.families, name, keep) - sum(last.families, name, keep)) / seconds;
}

function bytes(value, unit = "B") {
  if (value === null || value === undefined || Number.isNaN(value)) return "–";
  const steps = ["", "Ki", "Mi", "Gi", "Ti", "Pi"];
  let step = 0;
  while (value >= 1024 && step < steps.length - 1) {
    value /= 1024;
    step += 1;
  }
  return `${value >= 100 || step === 0 ? value.toFixed(0) : value.toFixed(1)} ${steps[step]}${unit}`;
}

const percent = (value) => (value === null || !Number.isFinite(value) ? "–" : `${(value * 100).toFixed(1)} %`);
const duration = (seconds) => (seconds >= 1 ? `${seconds.toFixed(2)} s` : `${(seconds * 1000).toFixed(2)} ms`);

function span(seconds) {
  const days = Math.floor(seconds / 86400);
  const hours = Math.floor((seconds % 86400) / 3600);
  const minutes = Math.floor((seconds % 3600) / 60);
  return days > 0 ? `${days} d ${hours} h` : hours > 0 ? `${hours} h ${minutes} min` : `${minutes} min`;
}

function element(tag, text, attributes = {}) {
  const node = document.createElement(tag);
  if (text !== undefined) node.textContent = text;
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  return node;
}

function bar(share, label) {
  const node = element("span", undefined, { class: "bar", role: "img", "aria-label": label });
  const fill = element("i");
  const width = Math.min(100, Math.max(0, share * 100));
  fill.style.width = `${width}%`;
  if (width >= 90) fill.className = "high";
  node.append(fill);
  return node;
}

/** A table; a cell is text or a node. */
function table(caption, heads, rows) {
  const node = element("table");
  node.append(element("caption", caption));
  const head = node.createTHead().insertRow();
  for (const text of heads) head.append(element("th", text, { scope: "col" }));
  const body = node.createTBody();
  for (const row of rows) {
    const line = body.insertRow();
    for (const cell of row) line.insertCell().append(cell);
  }
  return node;
}

function section(title, ...nodes) {
  const node = element("section");
  node.append(element("h2", title), ...nodes);
  return node;
}

function facts(pairs) {
  const list = element("dl");
  for (const [name, value] of pairs) list.append(element("dt", name), element("dd", value));
  return list;
}

function hostSection({ families }) {
  const uname = all(families, "node_uname_info")[0]?.labels || {};
  const system = all(families, "node_os_info")[0]?.labels.pretty_name;
  const up = one(families, "node_time_seconds") - one(families, "node_boot_time_seconds");
  const pairs = [["name", uname.nodename], ["system", system], ["kernel", uname.release], ["machine", uname.machine]];
  if (Number.isFinite(up)) pairs.push(["up for", span(up)]);
  return section("Host", facts(pairs.filter(([, value]) => value)));
}

/** Shares of the processors' time by mode since the last reading. */
function shares(now) {
  const modes = new Map();
  for (const { labels } of all(now.families, "node_cpu_seconds_total")) modes.set(labels.mode, 0);
  let total = 0;
  for (const mode of modes.keys()) {
    const spent = rate(now, "node_cpu_seconds_total", (labels) => labels.mode === mode) || 0;
    modes.set(mode, spent);
    total += spent;
  }
  return total > 0 ? [...modes].map(([mode, spent]) => [mode, spent / total]) : [];
}

function spark(values) {
  const box = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  box.setAttribute("viewBox", `0 0 ${HISTORY} 20`);
  box.setAttribute("preserveAspectRatio", "none");
  box.setAttribute("role", "img");
  box.setAttribute("aria-label", "busy share over the last minutes");
  const path = document.createElementNS("http://www.w3.org/2000/svg", "polyline");
  const start = HISTORY - values.length;
  path.setAttribute("points", values.map((value, index) => `${start + index + 0.5},${20 - value * 20}`).join(" "));
  box.append(path);
  return box;
}

function cpuSection(now) {
  const { families } = now;
  const cpus = new Set(all(families, "node_cpu_seconds_total").map(({ labels }) => labels.cpu)).size;
  const load = ["node_load1", "node_load5", "node_load15"].map((name) => one(families, name));
  const pairs = [];
  if (load[0] !== undefined) pairs.push(["load 1, 5, 15 min", load.map((value) => value.toFixed(2)).join("  ")]);
  if (cpus > 0) pairs.push(["processors", String(cpus)]);
  const nodes = [facts(pairs)];
  const modes = shares(now);
  if (modes.length > 0) {
    const idle = modes.filter(([mode]) => mode === "idle" || mode === "iowait").reduce((all, [, part]) => all + part, 0);
    history.push(1 - idle);
    if (history.length > HISTORY) history.shift();
    nodes.push(spark(history));
    const shown = modes.filter(([, part]) => part >= 0.0005).sort((a, b) => b[1] - a[1]);
    nodes.push(table("Time by mode", ["mode", "share", ""], shown.map(([mode, part]) => [mode, percent(part), bar(part, mode)])));
  } else {
    nodes.push(element("p", "Rates appear with the second reading.", { class: "quiet" }));
  }
  return section("Load and processors", ...nodes);
}

function memorySection({ families }) {
  const field = (name) => one(families, `node_memory_${name}_bytes`);
  const rows = [];
  const add = (name, used, total) => {
    if (total > 0) rows.push([name, `${bytes(used)} of ${bytes(total)}`, bar(used / total, name)]);
  };
  add("in use", field("MemTotal") - field("MemAvailable"), field("MemTotal"));
  add("page cache", field("Cached") + field("Buffers"), field("MemTotal"));
  add("swap", field("SwapTotal") - field("SwapFree"), field("SwapTotal"));
  return section("Memory", table("What it is used for", ["what", "size", ""], rows));
}

function disksSection(now) {
  const { families } = now;
  const free = new Map(all(families, "node_filesystem_avail_bytes").map(({ labels, value }) => [labels.mountpoint, value]));
  const systems = all(families, "node_filesystem_size_bytes")
    .filter(({ value }) => value > 0)
    .map(({ labels, value }) => {
      const used = value - (free.get(labels.mountpoint) ?? value);
      return [labels.mountpoint, labels.fstype, `${bytes(used)} of ${bytes(value)}`, bar(used / value, labels.mountpoint)];
    });
  for (const { labels, value } of all(families, "node_filesystem_device_error")) {
    if (value === 1) systems.push([labels.mountpoint, labels.fstype, labels.device_error || "does not answer", ""]);
  }
  const devices = all(families, "node_disk_io_time_seconds_total").map(({ labels: { device } }) => {
    const of = (name) => rate(now, `node_disk_${name}`, (labels) => labels.device === device);
    const busy = of("io_time_seconds_total");
    return [device, bytes(of("read_bytes_total"), "B/s"), bytes(of("written_bytes_total"), "B/s"), percent(busy)];
  });
  const mounts = table("File systems", ["mount point", "type", "used", ""], systems);
  mounts.className = "paths";
  return section(
    "Disks",
    mounts,
    table("Devices", ["device", "reads", "writes", "busy"], devices),
  );
}

function networkSection(now) {
  const rows = all(now.families, "node_network_receive_bytes_total").map(({ labels: { device } }) => {
    const of = (name) => rate(now, `node_network_${name}_total`, (labels) => labels.device === device);
    const errors = ["receive_errs", "transmit_errs", "receive_drop", "transmit_drop"].map(of);
    const bad = errors.includes(null) ? "–" : errors.reduce((all, value) => all + value, 0).toFixed(1);
    return [device, bytes(of("receive_bytes"), "B/s"), bytes(of("transmit_bytes"), "B/s"), bad];
  });
  return section("Network", table("Devices", ["device", "received", "sent", "errors, drops/s"], rows));
}

function collectorsSection({ families, reports }) {
  const errors = new Map(reports.map(({ name, error }) => [name, error]));
  const failing = all(families, "node_scrape_collector_success")
    .filter(({ value }) => value === 0)
    .map(({ labels: { collector } }) => [collector, errors.get(collector) || "failed, see the log"]);
  const absent = failing.filter(([, error]) => error.startsWith("no data: "));
  const broken = failing.filter(([, error]) => !error.startsWith("no data: "));
  const slowest = all(families, "node_scrape_collector_duration_seconds")
    .map(({ labels: { collector }, value }) => [collector, value])
    .sort((a, b) => b[1] - a[1])
    .slice(0, 8)
    .map(([collector, value]) => [collector, duration(value)]);
  const nodes = [table("Slowest collectors", ["collector", "took"], slowest)];
  if (broken.length > 0) nodes.unshift(table("Failing collectors", ["collector", "why"], broken));
  else nodes.unshift(element("p", "No collector fails.", { class: "quiet" }));
  if (absent.length > 0) {
    const details = element("details");
    const rows = absent.map(([collector, error]) => [collector, error.slice("no data: ".length)]);
    details.append(element("summary", `Collectors that find nothing on this host: ${absent.length}`));
    details.append(table("Collectors without data", ["collector", "why"], rows));
    details.open = view.querySelector("details")?.open || false;
    nodes.push(details);
  }
  return section("Collectors", ...nodes);
}

async function read() {
  const [text, reports] = await Promise.all([
    fetch(metricsPath, { headers: { Accept: "text/plain;version=0.0.4" } }).then(async (answer) => {
      if (!answer.ok) throw new Error(`${answer.status}: ${await answer.text()}`);
      return answer.text();
    }),
    fetch(collectorsPath).then((answer) => (answer.ok ? answer.json() : [])).catch(() => []),
  ]);
  return { at: performance.now(), families: parse(text), reports };
}

async function turn() {
  const state = document.getElementById("state");
  try {
    const now = await read();
    view.replaceChildren(
      hostSection(now), cpuSection(now), memorySection(now), disksSection(now), networkSection(now), collectorsSection(now),
    );
    last = now;
    state.textContent = `Updated ${new Date().toLocaleTimeString()}, every ${PERIOD_MS / 1000} s`;
  } catch (error) {
    state.textContent = `Cannot read ${metricsPath}: ${error.message}`;
  }
  // A page nobody looks at asks nothing.
  if (document.hidden) document.addEventListener("visibilitychange", turn, { once: true });
  else setTimeout(turn, PERIOD_MS);
}

turn();

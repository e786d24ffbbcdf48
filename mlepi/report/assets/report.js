"use strict";
/* The figures, choices and downloads of a report. All data stand in the page itself. */
const DATA = JSON.parse(document.getElementById("figures").textContent);
const byId = (id) => document.getElementById(id);
const make = (tag, attributes = {}, ...children) => {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (value !== false && value !== null) made.setAttribute(name, value);
  }
  made.append(...children);
  return made;
};
const copy = (value) => JSON.parse(JSON.stringify(value));

/* ---- colours of light and dark ---- */
const THEMES = {
  light: { text: "#18212d", soft: "#4d5a6a", line: "#aab5c2", grid: "#e6ebf1", card: "#ffffff" },
  dark: { text: "#e7ecf3", soft: "#a9b6c5", line: "#4a586a", grid: "#253040", card: "#161d26" },
};
const SHADES = {
  light: ["#ffffff", "#e3edf9", "#b9d2f0", "#84b0e4", "#4f89d2", "#2b62b4", "#1e4389", "#162a5a", "#0b1430"],
  dark: ["#161d26", "#1f2f4d", "#2b4a83", "#3f6cbd", "#6a96e0", "#9cbdf0", "#c9dcf8", "#e9f1fd", "#ffffff"],
};
const theme = () => document.documentElement.dataset.theme || "light";
function setTheme(name, keep) {
  document.documentElement.dataset.theme = name;
  if (keep) try { localStorage.setItem("mlepi-theme", name); } catch { /* pages from disk may not */ }
}
function firstTheme() {
  let kept = null;
  try { kept = localStorage.getItem("mlepi-theme"); } catch { /* as above */ }
  return kept || (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light");
}
function channels(colour) {
  const found = /^#(..)(..)(..)/.exec(colour);
  return found ? found.slice(1, 4).map((part) => parseInt(part, 16)) : null;
}
function luminance(rgb) {
  const [r, g, b] = rgb.map((c) => (c / 255 <= 0.04045 ? c / 255 / 12.92 : ((c / 255 + 0.055) / 1.055) ** 2.4));
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
}
function contrast(one, other) {
  const [a, b] = [luminance(one), luminance(other)].sort((x, y) => y - x);
  return (a + 0.05) / (b + 0.05);
}
/* Move a colour towards black or white until it stands out from the page. */
function readable(colour, name) {
  let rgb = typeof colour === "string" ? channels(colour) : null;
  if (!rgb) return colour;
  const back = channels(THEMES[name].card), goal = name === "dark" ? 255 : 0;
  for (let step = 0; step < 12 && contrast(rgb, back) < 3.2; step++) rgb = rgb.map((c) => Math.round(c + 0.15 * (goal - c)));
  return "#" + rgb.map((c) => c.toString(16).padStart(2, "0")).join("");
}
function recolour(trace, name) {
  for (const part of [trace.line, trace.marker, trace.error_y, trace.error_x]) if (part && part.color) part.color = readable(part.color, name);
  return trace;
}

/* ---- plots ---- */
const CONFIG = { responsive: false, displayModeBar: false, displaylogo: false };
const touch = matchMedia("(pointer: coarse)").matches;
function baseLayout(name) {
  const c = THEMES[name];
  return {
    paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", showlegend: false, hovermode: "closest",
    font: { family: "system-ui, 'Segoe UI', Roboto, sans-serif", size: 12.5, color: c.text },
    hoverlabel: { bgcolor: c.card, bordercolor: c.line, font: { color: c.text } },
    margin: { l: 62, r: 14, t: 10, b: 46 }, dragmode: touch ? false : "zoom",
  };
}
function axisStyle(axis, name) {
  const c = THEMES[name];
  const title = { standoff: 8, ...(typeof axis.title === "object" ? axis.title : { text: axis.title }) };
  return { gridcolor: c.grid, linecolor: c.line, tickcolor: c.line, ticks: "outside", ticklen: 4, showline: true, zeroline: false,
    zerolinecolor: c.line, automargin: false, ...logTicks(axis), tickfont: { color: c.soft }, nticks: 8, ...axis, title };
}
/* Few decades: 1, 2 and 5 of each. */
function logTicks(axis) {
  if (axis.type !== "log" || !axis.range || axis.tickvals || axis.range[1] - axis.range[0] > 2) return {};
  const values = [];
  for (let power = Math.floor(axis.range[0]); power <= axis.range[1]; power++) for (const digit of [1, 2, 5]) values.push(digit * 10 ** power);
  return { tickvals: values, ticktext: values.map((value) => String(Number(value.toPrecision(2)))) };
}
/* Lay out rows and columns for a width: one below the other where it is narrow. */
function arrange(layout, grid, width, name, rowHeight, words) {
  const margin = layout.margin;
  const stacked = width < 560 && grid.columns > 1;
  const across = stacked ? (grid.cells.length > 4 && grid.cells.every((cell) => layout["yaxis" + cell.axes].scaleanchor || layout.coloraxis) ? 2 : 1) : grid.columns;
  const places = grid.cells.map((cell, number) => stacked ? { row: Math.floor(number / across), column: number % across, span: 1 } : { row: cell.row, column: cell.column, span: cell.columns });
  const rows = Math.max(...places.map((place) => place.row)) + 1;
  const inner = (cell) => layout["yaxis" + cell.axes].inner && !stacked;
  const sharedY = grid.cells.filter((cell, n) => places[n].column > 0).every(inner);
  const titled = grid.cells.some((cell) => cell.title);
  margin.t = titled ? 28 : 10;
  if (layout.coloraxis) margin.r = 86;
  const under = (cell, n) => grid.cells.some((other, m) => places[m].column === places[n].column && places[m].row > places[n].row);
  const sharedX = !stacked && rows > 1 && grid.cells.some((cell) => layout["xaxis" + cell.axes].inner);
  const gapX = (sharedY ? 20 : grid.gap || 74) / Math.max(1, width - margin.l - margin.r);
  const height = rows * rowHeight + (rows - 1) * (sharedX ? 34 : 66 + (titled ? 18 : 0));
  const gapY = (sharedX ? 34 : 66 + (titled ? 18 : 0)) / height;
  const shares = stacked ? Array(across).fill(1) : grid.widths;
  const total = shares.reduce((a, b) => a + b, 0), room = 1 - gapX * (across - 1);
  const starts = shares.map((_, n) => (room * shares.slice(0, n).reduce((a, b) => a + b, 0)) / total + n * gapX);
  grid.cells.forEach((cell, n) => {
    const place = places[n], x = layout["xaxis" + cell.axes], y = layout["yaxis" + cell.axes];
    const last = place.column + place.span - 1;
    x.domain = [starts[place.column], starts[last] + (room * shares[last]) / total];
    const tall = (1 - gapY * (rows - 1)) / rows;
    y.domain = [1 - (place.row + 1) * tall - place.row * gapY, 1 - place.row * (tall + gapY)].map((v) => Math.min(1, Math.max(0, v)));
    if (sharedX && under(cell, n)) { x.showticklabels = false; x.title = { text: "" }; }
    if (stacked && y.automargin) {  /* room for its own long labels, not for those of all panels */
      const longest = Math.max(0, ...words(cell.axes).map((word) => word.length));
      y.automargin = false;
      x.domain[0] = Math.max(x.domain[0], (6.8 * longest + 10 - margin.l) / (width - margin.l - margin.r));
    }
    if (inner(cell)) { y.showticklabels = false; y.title = { text: "" }; }
    if (stacked && !y.title.text && y.matches) y.title = copy(layout["yaxis" + y.matches.slice(1)].title);
    if (cell.title) layout.annotations.push({ text: cell.title, x: 0.5, y: 1, yshift: 20, xref: `x${cell.axes} domain`, yref: `y${cell.axes} domain`, showarrow: false, yanchor: "top", font: { size: 12.5, color: THEMES[name].soft } });
    delete x.inner; delete y.inner;
  });
  layout.height = height + margin.t + margin.b;
  layout.width = width;
}
const STATES = new Map();
function visibleTraces(figure, state) {
  return figure.data.filter((trace) => !state.hidden.has(trace.legendgroup) &&
    Object.entries(trace.choose || {}).every(([choice, option]) => !(choice in state.chosen) || state.chosen[choice] === option));
}
function prepare(figure, state, width, name, legend) {
  const layout = { ...baseLayout(name), ...copy(figure.layout) };
  const rowHeight = figure.height || 300;
  for (const key of Object.keys(layout)) if (/^[xy]axis\d*$/.test(key)) layout[key] = axisStyle(layout[key], name);
  if (width < 560) for (const key of Object.keys(layout)) if (/^xaxis\d*$/.test(key)) layout[key].nticks = Math.min(layout[key].nticks, 5);
  const words = (axes) => figure.data.filter((trace) => (trace.yaxis || "y") === "y" + axes).flatMap((trace) => Array.isArray(trace.y) ? trace.y : []).filter((y) => typeof y === "string");
  arrange(layout, figure.grid, width, name, rowHeight, words);
  if (layout.coloraxis) layout.coloraxis.colorbar = { ...layout.coloraxis.colorbar, lenmode: "pixels", len: Math.min(280, rowHeight), tickfont: { color: THEMES[name].soft }, outlinewidth: 0 };
  layout.shapes.forEach((shape) => { if (shape.line && shape.line.color) shape.line.color = readable(shape.line.color, name); });
  layout.annotations.forEach((each) => { each.font = { size: 12, color: THEMES[name].soft, ...each.font }; });
  const seen = new Set();
  const data = copy(visibleTraces(figure, state)).map((trace) => {
    delete trace.choose; delete trace.band;
    if (legend) { trace.showlegend = Boolean(trace.name) && !seen.has(trace.name); seen.add(trace.name); }
    return recolour(trace, name);
  });
  if (legend) { layout.showlegend = true; layout.legend = { orientation: "h", y: -0.16, yanchor: "top" }; layout.margin.b += 40; layout.height += 40; layout.paper_bgcolor = layout.plot_bgcolor = "#ffffff"; }
  return { data, layout };
}
function drawPlot(id) {
  const figure = DATA[id], state = STATES.get(id), target = state.canvas;
  const made = prepare(figure, state, target.clientWidth, theme(), false);
  Plotly.react(target, made.data, made.layout, CONFIG);
}
function pressed(row, chosen) { for (const button of row.querySelectorAll("button")) button.setAttribute("aria-pressed", String(button === chosen)); }
function buildControls(id, host) {
  const figure = DATA[id], state = STATES.get(id);
  for (const choice of figure.choices || []) {
    state.chosen[choice.name] = choice.options[0];
    const row = make("div", { class: "row", role: "group", "aria-label": choice.name }, make("span", { class: "name" }, choice.name));
    choice.options.forEach((option, n) => row.append(make("button", { type: "button", "aria-pressed": String(n === 0), "data-choice": choice.name, onclick: (event) => {
      state.chosen[choice.name] = option; pressed(row, event.currentTarget); drawPlot(id); } }, option)));
    host.append(row);
  }
  const groups = new Map();
  for (const trace of figure.data || []) if (trace.legendgroup && !groups.has(trace.legendgroup)) {
    const colour = (trace.line && trace.line.color) || (trace.marker && trace.marker.color) || trace.band || "#888888";
    groups.set(trace.legendgroup, colour);
  }
  if (groups.size > 1) {
    const row = make("div", { class: "row", role: "group", "aria-label": "shown" }, ...(figure.choices || []).length ? [make("span", { class: "name" }, "shown")] : []);
    for (const [group, colour] of groups) {
      const swatch = make("span", { class: "swatch", "aria-hidden": "true" });
      swatch.style.background = colour;
      const label = make("span"); label.innerHTML = group;  /* escaped by the program that wrote the page */
      row.append(make("button", { type: "button", class: "series", "aria-pressed": "true", onclick: (event) => {
        const on = event.currentTarget.getAttribute("aria-pressed") !== "true";
        event.currentTarget.setAttribute("aria-pressed", String(on));
        if (on) state.hidden.delete(group); else state.hidden.add(group);
        drawPlot(id);
      } }, swatch, label));
    }
    host.append(row);
  }
}

/* ---- a map with a slider, and a cut that follows the cursor ---- */
function unpack(packed) {
  if (Array.isArray(packed)) return packed;
  const bytes = Uint8Array.from(atob(packed.bdata), (c) => c.charCodeAt(0));
  const values = new Float32Array(bytes.buffer);
  if (!packed.shape) return values;
  const [rows, columns] = packed.shape.split(",").map(Number);
  return Array.from({ length: rows }, (_, n) => values.subarray(n * columns, (n + 1) * columns));
}
function mapColours(name) { return SHADES[name].map((c, n) => [n / 8, c]); }
function cutOf(figure, frame, place) { return Array.from(unpack(figure.frames[frame].z), (row) => row[place]); }
function mapFigure(figure, state, width, name) {
  const c = THEMES[name], frame = figure.frames[state.frame], narrow = width < 560;
  const layout = { ...baseLayout(name), width, height: narrow ? 660 : 430, shapes: cursorShape(figure, state, name), annotations: [] };
  layout.margin.r = 14;
  const ticks = figure.ticks.length ? { tickvals: figure.ticks.map((t) => t.at), ticktext: figure.ticks.map((t) => t.name) } : {};
  layout.xaxis = axisStyle({ domain: narrow ? [0, 1] : [0, 0.6], title: { text: figure.labels[0] }, range: [figure.x[0], figure.x.at(-1)], ...ticks }, name);
  layout.yaxis = axisStyle({ domain: narrow ? [0.47, 1] : [0, 1], title: { text: figure.labels[1] }, range: [figure.y[0], figure.y.at(-1)], anchor: "x" }, name);
  layout.xaxis2 = axisStyle({ domain: narrow ? [0, 1] : [0.68, 1], title: { text: narrow ? figure.labels[1] : figure.labels[2] }, anchor: "y2" }, name);
  layout.yaxis2 = axisStyle(narrow ? { domain: [0, 0.33], title: { text: figure.labels[2] }, anchor: "x2" } : { domain: [0, 1], matches: "y", showticklabels: false, anchor: "x2" }, name);
  const data = [
    { type: "heatmap", x: figure.x, y: figure.y, z: frame.z, zsmooth: "best", colorscale: mapColours(name), zmin: 0, zmax: figure.top, showscale: false,
      hovertemplate: "%{x:.3f}, %{y:.3f}<br>A = %{z:.2f}<extra></extra>" },
    { type: "scatter", mode: "markers", x: (frame.points || { x: [] }).x, y: (frame.points || { y: [] }).y, marker: { symbol: "x-thin-open", size: 7, color: readable("#c05621", name), line: { width: 1.8 } }, hoverinfo: "skip" },
  ];
  const cuts = state.frame === 0 ? [0] : [0, state.frame];
  cuts.forEach((n, place) => {
    const cut = cutOf(figure, n, state.place);
    const style = { color: place === cuts.length - 1 ? (name === "dark" ? "#8ab8ff" : "#1f5fbf") : c.soft, width: place === cuts.length - 1 ? 2 : 1.2, dash: n === 0 && cuts.length > 1 ? "dash" : "solid" };
    data.push({ type: "scatter", mode: "lines", x: narrow ? figure.y : cut, y: narrow ? cut : figure.y, line: style, name: figure.frames[n].name, xaxis: "x2", yaxis: "y2" });
  });
  return { data, layout };
}
function cursorShape(figure, state, name) {
  const at = figure.x[state.place];
  return [{ type: "line", x0: at, x1: at, xref: "x", y0: 0, y1: 1, yref: "y domain", line: { color: name === "dark" ? "#8ab8ff" : "#1f5fbf", width: 1.2, dash: "dot" } }];
}
function drawMap(id) {
  const figure = DATA[id], state = STATES.get(id);
  const made = mapFigure(figure, state, state.canvas.clientWidth, theme());
  Plotly.react(state.canvas, made.data, made.layout, CONFIG);
  state.slider.value = state.frame; state.shown.textContent = figure.frames[state.frame].name;
  state.cursor.value = state.place; state.where.textContent = `k − K = ${figure.x[state.place].toFixed(3)} Å⁻¹`;
  if (!state.listening) {
    state.listening = true;
    state.canvas.on("plotly_hover", (event) => {
      const point = event.points.find((each) => each.curveNumber === 0);
      const place = point ? figure.x.findIndex((x) => Math.abs(x - point.x) < 1e-9) : -1;
      if (place < 0 || place === state.place) return;
      state.place = place;
      moveCursor(id);
    });
  }
}
function moveCursor(id) {
  const figure = DATA[id], state = STATES.get(id), narrow = state.canvas.clientWidth < 560;
  const cuts = (state.frame === 0 ? [0] : [0, state.frame]).map((n) => cutOf(figure, n, state.place));
  Plotly.update(state.canvas, narrow ? { y: cuts } : { x: cuts }, { shapes: cursorShape(figure, state, theme()) }, cuts.map((_, n) => n + 2));
  state.cursor.value = state.place; state.where.textContent = `k − K = ${figure.x[state.place].toFixed(3)} Å⁻¹`;
}
function buildMap(id, host) {
  const figure = DATA[id], state = STATES.get(id);
  Object.assign(state, { frame: figure.frames.length - 1, place: Math.floor(figure.x.length / 2) });
  state.slider = make("input", { type: "range", min: 0, max: figure.frames.length - 1, step: 1, "aria-label": "temperature", "data-slider": "frame", oninput: (e) => { state.frame = Number(e.target.value); drawMap(id); } });
  state.cursor = make("input", { type: "range", min: 0, max: figure.x.length - 1, step: 1, "aria-label": "wave vector of the cut", oninput: (e) => { state.place = Number(e.target.value); moveCursor(id); } });
  state.shown = make("output"); state.where = make("output");
  host.append(make("div", { class: "row" }, make("span", { class: "name" }, "temperature"), state.slider, state.shown),
    make("div", { class: "row" }, make("span", { class: "name" }, "cut at"), state.cursor, state.where));
}

/* ---- vibrations that move ---- */
function modesFigure(figure, state, width, name) {
  const c = THEMES[name], blue = readable("#2b6cb0", name);
  const layout = { ...baseLayout(name), width, height: 400, shapes: figure.ticks.slice(1, -1).map((t) => ({ type: "line", x0: t.at, x1: t.at, y0: 0, y1: 1, yref: "y domain", line: { color: c.line, width: 1 }, layer: "below" })) };
  layout.xaxis = axisStyle({ domain: [0, 0.76], tickvals: figure.ticks.map((t) => t.at), ticktext: figure.ticks.map((t) => t.name), range: [figure.distances[0], figure.distances.at(-1)], showgrid: false }, name);
  layout.yaxis = axisStyle({ title: { text: figure.labels[0] }, zeroline: true }, name);
  layout.xaxis2 = axisStyle({ domain: [0.8, 1], title: { text: width < 560 ? figure.labels[1].replace(" (", "<br>(") : figure.labels[1] }, rangemode: "tozero", anchor: "y2", nticks: 3 }, name);
  layout.yaxis2 = axisStyle({ matches: "y", showticklabels: false, anchor: "x2" }, name);
  const data = figure.frequencies.map((y, n) => ({ type: "scatter", mode: "lines", x: figure.distances, y, line: { color: blue, width: 1.6 }, hovertemplate: `mode ${n + 1}: %{y:.1f}<extra></extra>` }));
  data.push({ type: "scatter", mode: "lines", x: figure.dos.x, y: figure.dos.y, fill: "tozerox", line: { color: blue, width: 1.4 }, fillcolor: "rgba(64,128,208,.22)", xaxis: "x2", yaxis: "y2", hoverinfo: "skip" });
  const at = figure.kept[state.q];
  data.push({ type: "scatter", mode: "markers", x: [figure.distances[at]], y: [unpack(figure.frequencies[state.mode])[at]], marker: { size: 12, color: readable("#c05621", name), line: { color: c.card, width: 2 } }, hoverinfo: "skip" });
  return { data, layout };
}
function drawModes(id) {
  const figure = DATA[id], state = STATES.get(id);
  const made = modesFigure(figure, state, state.canvas.clientWidth, theme());
  Plotly.react(state.canvas, made.data, made.layout, CONFIG);
  const at = figure.kept[state.q], frequency = unpack(figure.frequencies[state.mode])[at];
  const name = (figure.ticks.find((t) => Math.abs(t.at - figure.distances[at]) < 1e-6) || {}).name;
  const q = name || `q = (${figure.qpoints[state.q].slice(0, 2).map((x) => x.toFixed(2)).join(", ")})`;
  state.told.textContent = `mode ${state.mode + 1} at ${q}: ${frequency.toFixed(1)} cm⁻¹`;
  state.qs.value = state.q; state.modes.value = state.mode;
  if (!state.listening) {
    state.listening = true;
    state.canvas.on("plotly_click", (event) => {
      const point = event.points.find((each) => each.curveNumber < figure.frequencies.length);
      if (!point) return;
      state.mode = point.curveNumber;
      state.q = figure.kept.reduce((best, index, n) => Math.abs(index - point.pointNumber) < Math.abs(figure.kept[best] - point.pointNumber) ? n : best, 0);
      drawModes(id);
    });
    state.playing = !matchMedia("(prefers-reduced-motion: reduce)").matches;
    requestAnimationFrame((time) => moveAtoms(id, time));
  }
  state.play.textContent = state.playing ? "Pause" : "Play";
}
function replicate(figure) {
  const [a, b] = figure.cell, size = (v) => Math.hypot(...v);
  const most = Math.max(1, Math.floor(Math.sqrt(420 / figure.positions.length)));
  const counts = [a, b].map((v) => Math.min(most, Math.max(1, Math.ceil(15 / size(v)))));
  const atoms = [];
  for (let i = 0; i < counts[0]; i++) for (let j = 0; j < counts[1]; j++) figure.positions.forEach((p, k) =>
    atoms.push({ k, cell: [i, j], at: [0, 1, 2].map((d) => p[d] + i * a[d] + j * b[d]) }));
  const bonds = [];
  for (let m = 0; m < atoms.length; m++) for (let n = m + 1; n < atoms.length; n++) {
    const far = Math.hypot(...[0, 1, 2].map((d) => atoms[m].at[d] - atoms[n].at[d]));
    if (far < 1.2 * (figure.radii[atoms[m].k] + figure.radii[atoms[n].k])) bonds.push([m, n]);
  }
  return { atoms, bonds };
}
function moveAtoms(id, time) {
  const figure = DATA[id], state = STATES.get(id), board = state.board;
  if (state.playing) requestAnimationFrame((t) => moveAtoms(id, t));
  else state.asleep = true;
  if (!board.clientWidth) return;
  state.copies = state.copies || replicate(figure);
  state.moves = state.moves || unpack(figure.moves);
  const { atoms, bonds } = state.copies, [, nBands, nAtoms] = figure.sizes;
  const ratio = devicePixelRatio || 1, width = board.clientWidth, height = board.clientHeight;
  if (board.width !== Math.round(width * ratio)) { board.width = Math.round(width * ratio); board.height = Math.round(height * ratio); }
  const pen = board.getContext("2d");
  pen.setTransform(ratio, 0, 0, ratio, 0, 0); pen.clearRect(0, 0, width, height);
  const row = state.moves[state.q * nBands + state.mode], q = figure.qpoints[state.q], turn = (time / 1600) * 2 * Math.PI;
  const places = atoms.map((atom) => {
    const phase = 2 * Math.PI * (q[0] * atom.cell[0] + q[1] * atom.cell[1]) - turn, base = atom.k * 6;
    return [0, 1, 2].map((d) => atom.at[d] + 0.42 * (row[base + 2 * d] * Math.cos(phase) - row[base + 2 * d + 1] * Math.sin(phase)));
  });
  const rest = atoms.map((atom) => atom.at), low = [0, 1, 2].map((d) => Math.min(...rest.map((p) => p[d])) - 1.2), high = [0, 1, 2].map((d) => Math.max(...rest.map((p) => p[d])) + 1.2);
  const tall = (high[1] - low[1]), thick = Math.max(high[2] - low[2], 3.4), scale = Math.min(width / (high[0] - low[0]), height / (tall + thick + 0.6));
  const left = (width - scale * (high[0] - low[0])) / 2, c = THEMES[theme()];
  for (const [axis, top] of [[1, 0], [2, scale * (tall + 0.6)]]) {
    const end = axis === 1 ? high[1] : (high[2] + low[2]) / 2 + thick / 2;
    const spot = (p) => [left + scale * (p[0] - low[0]), top + scale * (end - p[axis])];
    pen.strokeStyle = c.line; pen.lineWidth = 1.4; pen.beginPath();
    for (const [m, n] of bonds) { pen.moveTo(...spot(places[m])); pen.lineTo(...spot(places[n])); }
    pen.stroke();
    const order = axis === 1 ? places.map((_, n) => n).sort((m, n) => rest[m][2] - rest[n][2]) : places.keys();
    for (const n of order) {
      pen.fillStyle = readable(figure.colours[atoms[n].k], theme()); pen.beginPath();
      pen.arc(...spot(places[n]), scale * 0.42 * figure.radii[atoms[n].k], 0, 2 * Math.PI); pen.fill();
    }
  }
}
function buildModes(id, host) {
  const figure = DATA[id], state = STATES.get(id);
  Object.assign(state, { q: 0, mode: figure.frequencies.length - 1 });
  const nudge = () => { drawModes(id); if (!state.playing) moveAtoms(id, state.still || 400); };
  state.qs = make("input", { type: "range", min: 0, max: figure.kept.length - 1, step: 1, "aria-label": "wave vector", oninput: (e) => { state.q = Number(e.target.value); nudge(); } });
  state.modes = make("input", { type: "range", min: 0, max: figure.frequencies.length - 1, step: 1, "aria-label": "mode", oninput: (e) => { state.mode = Number(e.target.value); nudge(); } });
  state.told = make("output"); state.board = make("canvas", { role: "img", "aria-label": "atoms moving in the chosen mode, from above and from the side" });
  state.play = make("button", { type: "button", onclick: () => {
    state.playing = !state.playing; state.play.textContent = state.playing ? "Pause" : "Play";
    if (state.playing && state.asleep) { state.asleep = false; requestAnimationFrame((t) => moveAtoms(id, t)); } } }, "Play");
  const motion = make("div", { class: "motion" }, make("div", { class: "row" }, state.play, state.told),
    state.board, make("div", { class: "row" }, make("span", { class: "name" }, "wave vector"), state.qs), make("div", { class: "row" }, make("span", { class: "name" }, "mode"), state.modes));
  const two = make("div", { class: "two" });
  state.canvas.replaceWith(two); two.append(state.canvas, motion);
}

/* ---- when and where ---- */
const DRAW = { plot: drawPlot, map: drawMap, modes: drawModes };
function show(id) {
  const place = byId("figure-" + id);
  if (!place || !(id in DATA) || DATA[id].kind === "picture") return;
  if (!STATES.has(id)) {
    const state = { hidden: new Set(), chosen: {}, canvas: place.querySelector(".canvas") };
    STATES.set(id, state);
    const host = place.querySelector(".controls");
    if (DATA[id].kind === "plot") buildControls(id, host);
    if (DATA[id].kind === "map") buildMap(id, host);
    if (DATA[id].kind === "modes") buildModes(id, host);
  }
  if (STATES.get(id).canvas.clientWidth) DRAW[DATA[id].kind](id);
}
/* What is in sight first, the rest one by one when there is time. */
function showAll(within) {
  const places = [...within.querySelectorAll("figure[data-figure]")].filter((place) => place.offsetParent);
  const seen = places.filter((place) => place.getBoundingClientRect().top < innerHeight);
  seen.forEach((place) => show(place.dataset.figure));
  const rest = places.filter((place) => !seen.includes(place));
  const next = () => { const place = rest.shift(); if (place) { if (place.offsetParent) show(place.dataset.figure); setTimeout(next, 20); } };
  setTimeout(next, 20);
}
function openTab(name, focus) {
  const tabs = [...document.querySelectorAll("[role=tab]")];
  const chosen = tabs.find((tab) => tab.dataset.tab === name) || tabs[0];
  for (const tab of tabs) {
    const on = tab === chosen;
    tab.setAttribute("aria-selected", String(on)); tab.tabIndex = on ? 0 : -1;
    byId("part-" + tab.dataset.tab).hidden = !on;
  }
  if (focus) chosen.focus();
  const bar = chosen.parentElement;
  bar.scrollLeft = chosen.offsetLeft - bar.offsetLeft - (bar.clientWidth - chosen.offsetWidth) / 2;
  if (location.hash.slice(1) !== chosen.dataset.tab) history.replaceState(null, "", "#" + chosen.dataset.tab);
  if (window.Plotly) showAll(byId("part-" + chosen.dataset.tab));
}
function buildTabs() {
  const tabs = [...document.querySelectorAll("[role=tab]")];
  tabs.forEach((tab, n) => {
    tab.addEventListener("click", () => openTab(tab.dataset.tab));
    tab.addEventListener("keydown", (event) => {
      const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
      if (step) openTab(tabs[(n + step + tabs.length) % tabs.length].dataset.tab, true);
      if (event.key === "Home") openTab(tabs[0].dataset.tab, true);
      if (event.key === "End") openTab(tabs.at(-1).dataset.tab, true);
    });
  });
  for (const link of document.querySelectorAll("a[data-tab]")) link.addEventListener("click", (event) => { event.preventDefault(); openTab(link.dataset.tab, true); scrollTo(0, 0); });
  addEventListener("hashchange", () => openTab(location.hash.slice(1)));
  const answers = [...document.querySelectorAll("[data-answer]")];
  answers.forEach((button) => button.addEventListener("click", () => {
    answers.forEach((other) => { other.setAttribute("aria-pressed", String(other === button)); byId(other.dataset.answer).hidden = other !== button; });
    showAll(byId(button.dataset.answer));
  }));
}

/* ---- files ---- */
function save(name, content, type) {
  const link = make("a", { href: URL.createObjectURL(new Blob([content], { type })), download: name });
  link.click(); setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}
const quote = (text) => (/[",\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text);
const csv = (rows) => "\ufeff" + rows.map((row) => row.map((cell) => quote(String(cell ?? ""))).join(",")).join("\n") + "\n";
function saveTable(table, name) { save(`${name}.csv`, csv([...table.rows].map((row) => [...row.cells].map((cell) => cell.textContent.trim()))), "text/csv"); }
const plain = (text) => { const box = make("div"); box.innerHTML = text || ""; return box.textContent; };
function figureRows(id) {
  const figure = DATA[id];
  if (figure.kind === "map") return [["frame", "x", "y", "value"], ...figure.frames.flatMap((frame) => [...unpack(frame.z)].flatMap((row, j) => Array.from(row, (v, i) => [frame.name, figure.x[i], figure.y[j], v])))];
  if (figure.kind === "modes") return [["mode", "distance", "frequency"], ...figure.frequencies.flatMap((band, n) => Array.from(unpack(band), (v, i) => [n + 1, figure.distances[i], v]))];
  return [["series", "choices", "x", "y", "error below", "error above"], ...figure.data.filter((t) => t.hoverinfo !== "skip").flatMap((trace) => {
    const chosen = Object.values(trace.choose || {}).join("; ");
    if (trace.type === "heatmap") { const [x, y] = [unpack(trace.x), unpack(trace.y)]; return [...unpack(trace.z)].flatMap((row, j) => Array.from(row, (v, i) => [plain(trace.name) || "map", x[i], y[j], v])); }
    const [x, y] = [unpack(trace.x), unpack(trace.y)], bars = trace.error_y || {};
    return Array.from(x, (v, i) => [plain(trace.name), chosen, v, y[i], (bars.arrayminus || bars.array || [])[i], (bars.array || [])[i]]);
  })];
}
function saveFigure(id, format) {
  if (format === "csv") return save(`${id}.csv`, csv(figureRows(id)), "text/csv");
  show(id);
  const figure = DATA[id], width = 860;
  const state = STATES.get(id) || { hidden: new Set(), chosen: Object.fromEntries((figure.choices || []).map((c) => [c.name, c.options[0]])), frame: (figure.frames || []).length - 1, place: 0, q: 0, mode: 0 };
  const made = figure.kind === "map" ? mapFigure(figure, state, width, "light") : figure.kind === "modes" ? modesFigure(figure, state, width, "light") : prepare(figure, state, width, "light", true);
  made.layout.paper_bgcolor = "#ffffff";
  return Plotly.downloadImage(made, { format, filename: id, width, height: made.layout.height, scale: format === "png" ? 3 : 1 });
}
function buildFiles() {
  for (const place of document.querySelectorAll("[data-save]")) place.addEventListener("click", () => {
    const [kind, name] = [place.dataset.save, place.dataset.of];
    if (kind === "table") saveTable(byId(name).querySelector("table"), name); else saveFigure(name, kind);
  });
}

/* ---- start ---- */
async function loadPlotly() {
  const packed = Uint8Array.from(atob(byId("plotly").textContent.trim()), (c) => c.charCodeAt(0));
  const code = await new Response(new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"))).text();
  const script = document.createElement("script");
  script.textContent = code;
  document.head.append(script);
}
async function start() {
  buildTabs(); buildFiles();
  byId("theme").addEventListener("click", () => { setTheme(theme() === "dark" ? "light" : "dark", true); redraw(); });
  const redraw = () => { for (const id of STATES.keys()) if (STATES.get(id).canvas.clientWidth) DRAW[DATA[id].kind](id); };
  let later = 0;
  addEventListener("resize", () => { clearTimeout(later); later = setTimeout(redraw, 120); });
  addEventListener("beforeprint", () => { setTheme("light"); for (const place of document.querySelectorAll("figure[data-figure]")) show(place.dataset.figure); });
  openTab(location.hash.slice(1));
  try { await loadPlotly(); } catch (error) {
    for (const place of document.querySelectorAll(".canvas")) place.textContent = "This figure needs a browser of 2023 or later; figures/ beside this page has it as PNG and PDF.";
    throw error;
  }
  openTab(location.hash.slice(1));
  document.documentElement.dataset.ready = "yes";
  const wait = Number(document.body.dataset.reload || 0);
  if (wait) setTimeout(() => location.reload(), 1000 * wait);
}
setTheme(firstTheme());
start();

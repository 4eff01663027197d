(() => {
  "use strict";
  const all = (selector, root = document) => [...root.querySelectorAll(selector)];
  const make = (tag, attributes = {}, ...inside) => {
    const made = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) {
      if (name === "on") for (const [event, then] of Object.entries(value)) made.addEventListener(event, then);
      else if (value !== null && value !== false) made.setAttribute(name, value === true ? "" : value);
    }
    made.append(...inside); // text from records goes in as text, never as markup
    return made;
  };
  const number = (value, digits = 5) => {
    if (value === null || value === undefined) return "–";
    const text = typeof value === "number" ? String(+value.toPrecision(digits)) : String(value);
    return text.replace("-", "−");
  };
  const boards = JSON.parse(document.getElementById("data").textContent);

  // ---- tables: sorted, filtered by words and ranges, rows to choose -------------------------
  class Table {
    constructor(table, ids, changed) {
      Object.assign(this, { table, ids, changed, words: [], ranges: new Map(), picked: new Set() });
      this.tools = document.querySelector(`.tools[data-for="${table.id}"]`);
      this.heads = [...table.tHead.rows[0].cells];
      this.rows = all("tbody tr[data-s]", table);
      this.cache = new Map();
      this.said = this.tools.querySelector(".shown");
      for (const head of this.heads) {
        head.querySelector("button.sort")?.addEventListener("click", () => this.sort(this.heads.indexOf(head)));
      }
      this.wire();
      this.show();
    }
    name(head) { return head.querySelector("button.sort")?.textContent ?? head.textContent; }
    values(column) {
      if (!this.cache.has(column)) {
        const isNumber = this.heads[column].dataset.kind === "number";
        const found = new Map();
        for (const row of this.rows) {
          const cell = row.cells[column];
          const said = cell?.dataset.v ?? cell?.textContent.trim() ?? "";
          const value = isNumber ? parseFloat(said.replace("−", "-")) : said;
          found.set(row, value === "" || Number.isNaN(value) ? null : value);
        }
        this.cache.set(column, found);
      }
      return this.cache.get(column);
    }
    sort(column, order) {
      const head = this.heads[column], first = head.dataset.first;
      const other = first === "ascending" ? "descending" : "ascending";
      const now = order ?? (head.getAttribute("aria-sort") === first ? other : first);
      this.mark(column, now);
      const sign = now === "ascending" ? 1 : -1, values = this.values(column);
      const words = new Intl.Collator(undefined, { numeric: true });
      for (const body of this.table.tBodies) {
        const rows = [...body.rows].filter((row) => row.dataset.s);
        rows.sort((a, b) => {
          const x = values.get(a), y = values.get(b);
          if (x === null || y === null) return (x === null) - (y === null); // nothing to sort by: last
          return sign * (typeof x === "number" ? x - y : words.compare(x, y));
        });
        body.prepend(...rows);
      }
    }
    mark(column, order) {
      for (const cell of this.heads) cell.removeAttribute("aria-sort");
      this.heads[column].setAttribute("aria-sort", order);
      this.by.value = column;
      this.order.textContent = order === "ascending" ? "↑" : "↓";
    }
    wire() {
      const field = this.tools.querySelector("input[type=search]");
      field.addEventListener("input", () => {
        this.words = field.value.toLowerCase().split(/\s+/).filter(Boolean);
        this.apply();
      });
      this.by = this.tools.querySelector(".by");
      this.order = this.tools.querySelector(".order");
      this.heads.forEach((head, at) => {
        if (head.dataset.kind) this.by.append(make("option", { value: at }, this.name(head)));
      });
      this.by.addEventListener("change", () => this.sort(+this.by.value, this.heads[+this.by.value].dataset.first));
      this.order.addEventListener("click", () => this.sort(+this.by.value));
      const ranges = this.tools.querySelector(".ranges");
      ranges.addEventListener("toggle", () => this.fill(ranges.querySelector("div")), { once: true });
      this.tools.querySelector(".clear").addEventListener("click", () => {
        field.value = "";
        this.words = [];
        this.ranges.clear();
        this.picked.clear();
        for (const box of all(".pick input", this.table)) box.checked = false;
        for (const input of all("input[type=number]", ranges)) input.value = "";
        for (const input of all("input[type=checkbox]", ranges)) input.checked = true;
        this.apply(true);
      });
      this.table.addEventListener("change", (event) => {
        const row = event.target.closest(".pick") && event.target.closest("tr");
        if (!row) return;
        this.picked[event.target.checked ? "add" : "delete"](+row.dataset.s);
        this.changed();
      });
    }
    fill(into) { // built when first asked for: a board may have many columns
      if (into.childElementCount) return;
      this.heads.forEach((head, at) => {
        if (!head.dataset.kind || head.classList.contains("rank")) return;
        const values = [...this.values(at).values()].filter((value) => value !== null);
        const legend = make("legend", {}, this.name(head));
        if (head.dataset.kind === "number") {
          if (new Set(values).size < 2) return;
          const low = Math.min(...values), high = Math.max(...values);
          const ends = ["from", "to"].map((word, end) => make("input", {
            type: "number", step: "any", placeholder: number(end ? high : low, 4).replace("−", "-"),
            "aria-label": `${this.name(head)} ${word}`,
          }));
          const set = () => {
            const [from, to] = ends.map((input) => (input.value === "" ? null : +input.value));
            if (from === null && to === null) this.ranges.delete(at);
            else this.ranges.set(at, (value) => value !== null && value >= (from ?? -Infinity) && value <= (to ?? Infinity));
            this.apply();
          };
          ends.forEach((input) => input.addEventListener("input", set));
          into.append(make("fieldset", {}, legend, ends[0], "to", ends[1]));
        } else {
          const kinds = [...new Set(values)].sort();
          if (kinds.length < 2 || kinds.length > 20) return;
          const boxes = kinds.map((kind) => make("input", { type: "checkbox", value: kind, checked: true }));
          const set = () => {
            const kept = new Set(boxes.filter((box) => box.checked).map((box) => box.value));
            if (kept.size === kinds.length) this.ranges.delete(at);
            else this.ranges.set(at, (value) => kept.has(value));
            this.apply();
          };
          boxes.forEach((box) => box.addEventListener("change", set));
          into.append(make("fieldset", {}, legend, ...boxes.map((box) => make("label", {}, box, box.value))));
        }
      });
    }
    apply(force) {
      let changed = force;
      for (const row of this.rows) {
        const kept = [...this.ranges].every(([column, keeps]) => keeps(this.values(column).get(row)))
          && this.words.every((word) => this.text(row).includes(word));
        if (row.hidden === kept) changed = true;
        row.hidden = !kept;
      }
      this.show();
      if (changed) this.changed();
    }
    text(row) {
      if (row.found === undefined) row.found = `${row.textContent} ${this.ids(+row.dataset.s)}`.toLowerCase();
      return row.found;
    }
    show() {
      const count = this.rows.filter((row) => !row.hidden).length, noun = this.table.dataset.table.slice(0, -1);
      this.said.textContent = `${count} of ${this.rows.length} ${noun}${this.rows.length === 1 ? "" : "s"}`;
    }
    visible() { return this.rows.filter((row) => !row.hidden).map((row) => +row.dataset.s); }
    fit() { // a table that is wider than its place is laid out as cards
      const { table } = this, place = table.parentElement;
      if (!place.clientWidth || place.clientWidth === this.fitted) return;
      this.fitted = place.clientWidth;
      table.classList.remove("cards");
      const wide = table.scrollWidth > place.clientWidth + 1;
      table.classList.toggle("cards", wide);
      const roles = wide
        ? { thead: "rowgroup", tbody: "rowgroup", tfoot: "rowgroup", tr: "row", td: "cell", "thead th": "columnheader", "tbody th, tfoot th": "rowheader" } : null;
      if (roles && !table.hasAttribute("role")) { // other displays make browsers forget the table
        table.setAttribute("role", "table");
        for (const [which, role] of Object.entries(roles)) for (const one of all(which, table)) one.setAttribute("role", role);
      }
    }
  }

  // ---- charts -------------------------------------------------------------------------------
  const DASHES = ["solid", "dashed", "dotted", [10, 3, 2, 3], [5, 3], [12, 4], [2, 4]];
  const SHAPES = ["circle", "rect", "triangle", "diamond", "pin", "roundRect", "arrow"];
  const MOST_LINES = 7, MOST_ROWS = 30;
  let ink = {};
  const read = () => {
    const style = getComputedStyle(document.documentElement);
    const of = (name) => style.getPropertyValue(`--${name}`).trim();
    ink = { ink: of("ink"), muted: of("muted"), line: of("line"), card: of("card"), accent: of("accent"), second: of("second") };
    ink.colours = [0, 1, 2, 3, 4, 5, 6].map((at) => of(`c${at}`));
    ink.ramp = [0, 1, 2, 3].map((at) => of(`r${at}`));
  };
  const mixed = (share) => { // a colour of the ramp, dark for good
    const at = Math.min(Math.max(share, 0), 1) * 3, low = Math.min(Math.floor(at), 2), part = at - low;
    const parts = (text) => [1, 3, 5].map((from) => parseInt(text.slice(from, from + 2), 16));
    const [a, b] = [parts(ink.ramp[low]), parts(ink.ramp[low + 1])];
    return `rgb(${a.map((value, place) => Math.round(value + (b[place] - value) * part)).join(",")})`;
  };
  // A range that a few wild values do not stretch; the good end (1: the upper, −1: the lower) is whole.
  const robust = (values, good = 0) => {
    const ordered = values.filter(Number.isFinite).sort((a, b) => a - b);
    if (!ordered.length) return [0, 1];
    const first = ordered[ordered.length >> 2], third = ordered[(3 * ordered.length) >> 2];
    const middle = ordered[good > 0 ? (ordered.length - 1) >> 1 : ordered.length >> 1], best = good > 0 ? ordered.at(-1) : ordered[0];
    const reach = good ? 3 * Math.abs(best - middle) : 3 * (third - first);
    const least = good > 0 ? middle - reach : good < 0 ? -Infinity : first - reach;
    const most = good < 0 ? middle + reach : good > 0 ? Infinity : third + reach;
    const few = Math.ceil(ordered.length / 20); // however wild, these do not decide whether they are shown
    const kept = reach > (good ? 0.001 : 0.02) * (ordered.at(-1 - few) - ordered[few]) ? ordered.filter((value) => value >= least && value <= most) : ordered;
    const low = kept[0], high = kept.at(-1), air = (high - low) * 0.06 || Math.abs(high) * 0.05 || 1;
    return [low - air, high + air];
  };
  const nice = ([low, high]) => { // ends at round numbers
    if (!(high > low)) [low, high] = [low - (Math.abs(low) / 20 || 1), low + (Math.abs(low) / 20 || 1)];
    const rough = (high - low) / 5, power = 10 ** Math.floor(Math.log10(rough));
    const step = [1, 2, 2.5, 5, 10].map((one) => one * power).find((one) => one >= rough * 0.999);
    return { min: +(Math.floor(low / step + 1e-9) * step).toPrecision(12), max: +(Math.ceil(high / step - 1e-9) * step).toPrecision(12), interval: step };
  };
  const axis = (name, more = {}) => ({
    type: "value", name, nameLocation: "middle", nameGap: 30, scale: true,
    nameTextStyle: { color: ink.muted, fontSize: 12 }, nameTruncate: { maxWidth: 300 },
    axisLabel: { color: ink.muted, fontSize: 12, hideOverlap: true, formatter: (value) => number(value) },
    axisLine: { show: true, onZero: false, lineStyle: { color: ink.muted } }, axisTick: { show: false },
    splitLine: { lineStyle: { color: ink.line } }, ...more,
  });
  const upright = (name, more = {}) => axis(name, { nameGap: 46, axisLine: { show: false }, ...more });
  const tip = (lines) => make("div", { class: "tip" }, lines.join("\n")); // an element, so nothing in it is markup
  const option = (more) => ({
    animation: false, backgroundColor: "transparent",
    textStyle: { fontFamily: "system-ui, sans-serif", fontSize: 12, color: ink.ink },
    grid: { left: 68, right: 22, top: 16, bottom: 50, outerBoundsMode: "none" },
    tooltip: {
      confine: true, backgroundColor: ink.card, borderColor: ink.line, padding: [6, 10],
      textStyle: { color: ink.ink, fontSize: 13 },
      formatter: (one) => (one.data?.said ? tip(one.data.said) : null), ...more.tooltip,
    },
    ...Object.fromEntries(Object.entries(more).filter(([name]) => name !== "tooltip")),
  });
  const whisker = (colour) => (params, api) => { // [x, low, high] level, for rows one below the other
    const [low, y] = api.coord([api.value(1), api.value(0)]), [high] = api.coord([api.value(2), api.value(0)]);
    const line = (x1, y1, x2, y2) => ({ type: "line", shape: { x1, y1, x2, y2 }, style: { stroke: colour, lineWidth: 1.6 } });
    return { type: "group", children: [line(low, y, high, y), line(low, y - 4, low, y + 4), line(high, y - 4, high, y + 4)] };
  };

  class Board {
    constructor(section, data) {
      Object.assign(this, { section, data, hidden: new Set(), charts: new Map(), brushed: null });
      const tables = (name, ids) => {
        const table = section.querySelector(`table[data-table=${name}]`);
        return table && new Table(table, ids, () => this.refresh());
      };
      this.table = tables("settings", (at) => [...(data.settings[at].ids ?? []), ...(data.settings[at].seeds ?? []).map((one) => one[2])].join(" "));
      this.trials = tables("trials", () => "");
      this.table?.mark(this.table.heads.findIndex((one) => one.classList.contains("rank")), "ascending"); // as it was written
      for (const card of all("[data-chart]", section)) {
        const plot = card.querySelector(".plot");
        const chart = { card, plot, name: card.dataset.chart, seen: false };
        this.charts.set(chart.name, chart);
        for (const control of all("select, input", card)) control.addEventListener("change", () => this.draw(chart));
        watch.observe(card);
        card.board = this;
      }
      const b = section.querySelector("[data-chart=examples] .b");
      if (b) b.selectedIndex = 1;
      for (const [at, { name }] of data.settings.entries()) { // said here once instead of in every row
        const row = this.table.rows[at];
        row.querySelector(".pick input").ariaLabel = `Compare ${name}`;
        const copy = row.querySelector("button.copy");
        if (copy) copy.ariaLabel = `Copy the command of ${name}`;
      }
      this.zoom();
      this.differ();
      this.say();
    }
    refresh() {
      if (this.waiting) return;
      this.waiting = requestAnimationFrame(() => {
        this.waiting = null;
        this.redraw();
      });
    }
    redraw() {
      for (const chart of this.charts.values()) if (chart.seen) this.draw(chart);
      this.differ();
      this.say();
    }
    // What the charts show: the rows that are ticked, or else the first that the filters leave.
    chosen(most = MOST_ROWS, has = () => true) {
      if (!this.table) return [];
      const visible = new Set(this.table.visible()), picked = this.table.picked;
      const shown = this.data.settings.map((one, at) => at).filter((at) => visible.has(at) && has(this.data.settings[at]));
      const kept = picked.size ? shown.filter((at) => picked.has(at)) : shown;
      return kept.slice(0, most);
    }
    say() {
      const line = this.section.querySelector(".chosen");
      if (!line || !this.table) return;
      const picked = this.table.picked.size;
      line.textContent = picked
        ? `The charts show the ${picked} ticked row${picked === 1 ? "" : "s"}, as far as the filters leave them.`
        : `The charts show the first rows that the filters leave, up to ${MOST_LINES} as lines and ${MOST_ROWS} as intervals; tick rows of the table to choose others.`;
    }
    style(at) {
      const place = at % 7;
      return { colour: ink.colours[place], dash: DASHES[place], shape: SHAPES[place] };
    }
    keys(chart, places) {
      const keys = chart.card.querySelector(".keys");
      keys.replaceChildren(...places.map((at) => {
        const { colour, dash } = this.style(at), svg = "http://www.w3.org/2000/svg";
        const sign = document.createElementNS(svg, "svg"), line = document.createElementNS(svg, "line");
        for (const [name, value] of Object.entries({ width: 30, height: 12, viewBox: "0 0 30 12", "aria-hidden": "true" })) sign.setAttribute(name, value);
        for (const [name, value] of Object.entries({ x1: 1, x2: 29, y1: 6, y2: 6, stroke: colour, "stroke-width": 2.5, "stroke-dasharray": Array.isArray(dash) ? dash.join(" ") : { solid: "none", dashed: "6 3", dotted: "2 3" }[dash] })) line.setAttribute(name, value);
        sign.append(line);
        return make("button", {
          type: "button", "aria-pressed": String(!this.hidden.has(at)), "data-s": at,
          on: { click: () => { this.hidden[this.hidden.has(at) ? "delete" : "add"](at); this.redraw(); keys.querySelector(`[data-s="${at}"]`)?.focus(); } },
        }, sign, `${this.label(at)}`);
      }));
    }
    label(at) { return `${at + 1}. ${this.data.settings[at].name}`; }
    draw(chart) {
      chart.seen = true;
      const made = this[chart.name](chart);
      if (!made) return;
      const height = made.height ?? 330;
      chart.plot.style.height = `${height}px`;
      if (!chart.at) {
        chart.at = echarts.init(chart.plot, null, { renderer: "svg" });
        this.once?.[chart.name]?.call(this, chart);
        if (chart.name === "parallel") this.brush(chart);
      }
      chart.at.resize();
      chart.at.setOption(option(made.option), { notMerge: true });
      const line = chart.card.querySelector(".beyond");
      line.textContent = made.beyond ?? "";
      line.hidden = !made.beyond;
      chart.plot.setAttribute("aria-label", made.said);
    }
    // Rows that give a chart its scale: none that is far behind the others, as in the table's plot.
    near(places) {
      const kept = places.filter((at) => !this.data.settings[at].far);
      return kept.length ? kept : places;
    }
    // Says whose numbers, or how many, lie where the scale has ended.
    beyond(places, values, ...scales) {
      const out = places.filter((at) => values(at).some((value, axis) => value !== null && (value < (scales[axis] ?? scales[0]).min || value > (scales[axis] ?? scales[0]).max)));
      const names = out.slice(0, 4).map((at) => this.label(at)).join(", "), more = out.length > 4 ? ` and ${out.length - 4} more` : "";
      return out.length ? `Beyond the scale, at least in part: ${names}${more}.` : "";
    }
    left(points, noun, ends, ...keys) {
      const count = points.filter((one) => keys.some((key) => one[key] < ends.min || one[key] > ends.max)).length;
      return count ? `${count} ${noun}${count === 1 ? " lies" : "s lie"} beyond the scale.` : "";
    }
    score(value) { return value === null || value === undefined ? "–" : value.toFixed(this.data.metric.digits).replace("-", "−"); }

    seeds(chart) {
      const { settings, metric } = this.data, places = this.chosen(MOST_LINES, (one) => one.score && one.seeds.length);
      this.keys(chart, places);
      const shown = places.filter((at) => !this.hidden.has(at));
      const seeds = [...new Set(shown.flatMap((at) => settings[at].seeds.map(([seed]) => seed)))].sort((a, b) => a - b).map(String);
      const values = (at) => settings[at].seeds.map((one) => one[1]), ends = nice(robust(this.near(shown).flatMap(values)));
      return {
        said: `${metric.label} of ${shown.length} settings over ${seeds.length} seeds`,
        beyond: this.beyond(shown, values, ends),
        option: {
          xAxis: axis("seed", { type: "category", data: seeds, boundaryGap: true, axisLabel: { color: ink.muted, fontSize: 12 }, splitLine: { show: false } }),
          yAxis: upright(metric.label, ends),
          series: shown.map((at) => {
            const { colour, dash, shape } = this.style(at);
            return {
              type: "line", name: settings[at].name, color: colour, symbol: shape, symbolSize: 8, showSymbol: true, clip: true, lineStyle: { type: dash, width: 2 },
              data: settings[at].seeds.map(([seed, value, run]) => ({ value: [String(seed), value], said: [this.label(at), `seed ${seed}: ${this.score(value)} ${metric.unit}`, `run ${run}`] })),
            };
          }),
        },
      };
    }
    differences() {
      const { settings, metric } = this.data, places = this.chosen(MOST_ROWS, (one) => one.difference);
      const narrow = this.section.clientWidth < 600;
      const rows = places.map((at, row) => ({ at, row, mean: settings[at].difference[0], low: settings[at].difference[1], high: settings[at].difference[2] }));
      const [lowest, highest] = robust(rows.map((one) => one.mean), metric.higher ? 1 : -1); // without what collapsed
      const near = rows.map((one) => one.mean).filter((mean) => mean >= lowest && mean <= highest);
      const [least, most] = [Math.min(...near, 0), Math.max(...near, 0)];
      const halves = rows.filter((one) => one.low !== null).map((one) => (one.high - one.low) / 2).sort((a, b) => a - b);
      const span = Math.max(most - least, 1.5 * (halves[halves.length >> 1] ?? 0)) || 1; // a wild row does not press the others
      const ends = rows.flatMap(({ low, high }) => (low === null ? [] : [Math.max(low, least - span), Math.min(high, most + span)])).filter((end) => end >= least - span && end <= most + span);
      const scale = nice([Math.min(least, ...ends, 0), Math.max(most, ...ends, 0)]);
      const at = (mean) => Math.min(Math.max(mean, scale.min), scale.max); // beyond the scale: an arrow at its edge
      const said = ({ at, mean, low, high }) => [this.label(at), `${this.score(mean)} ${metric.unit}`, low === null ? "no interval" : `${this.score(low)} to ${this.score(high)}`];
      return {
        height: Math.max(330, 74 + 26 * rows.length),
        said: `Difference to the best of ${rows.length} settings`,
        beyond: this.beyond(places, (at) => [settings[at].difference[0]], scale),
        option: {
          grid: { left: narrow ? 34 : 190, right: 22, top: 8, bottom: 50, outerBoundsMode: "none" },
          xAxis: axis(`difference${metric.unit ? ` (${metric.unit})` : ""}, ${metric.higher ? "left is worse" : "right is worse"}`, scale),
          yAxis: { type: "category", inverse: true, data: rows.map(({ at }) => at), axisTick: { show: false }, axisLine: { show: false }, axisLabel: { color: ink.ink, fontSize: 12, interval: 0, width: narrow ? 30 : 180, overflow: "truncate", formatter: (at) => (narrow ? `${+at + 1}.` : this.label(+at)) } },
          series: [
            { type: "custom", clip: true, encode: { x: [1, 2], y: 0 }, renderItem: whisker(ink.accent), data: rows.filter((one) => one.low !== null).map((one) => ({ value: [one.row, one.low, one.high], said: said(one) })) },
            {
              type: "scatter", clip: true, symbolSize: 9, color: ink.accent, data: rows.map((one) => ({ value: [at(one.mean), one.row], said: said(one), ...(at(one.mean) === one.mean ? {} : { symbol: "triangle", symbolRotate: one.mean < scale.min ? 90 : -90 }), itemStyle: { color: settings[one.at].may ? ink.accent : ink.muted } })),
              markLine: { silent: true, symbol: "none", label: { show: false }, lineStyle: { color: ink.second, type: "dashed" }, data: [{ xAxis: 0 }] },
            },
          ],
        },
      };
    }
    curves(chart) {
      const metric = this.data.curves.metrics[+chart.card.querySelector(".metric").value];
      const every = chart.card.querySelector(".every").checked;
      const known = new Set(metric.lines.map(([at]) => at));
      const places = this.chosen(MOST_LINES).filter((at) => known.has(at));
      this.keys(chart, places);
      const shown = places.filter((at) => !this.hidden.has(at)), series = [], drawn = new Map(shown.map((at) => [at, []]));
      for (const at of shown) {
        const { colour, dash, shape } = this.style(at), runs = metric.lines.filter((one) => one[0] === at);
        if (every) {
          for (const [, seed, epochs, scores] of runs) {
            drawn.get(at).push(...scores);
            series.push({ type: "line", name: this.data.settings[at].name, color: colour, showSymbol: false, clip: true, lineStyle: { type: dash, width: 1.4 }, data: epochs.map((epoch, place) => ({ value: [epoch, scores[place]], said: [this.label(at), `seed ${seed}, epoch ${epoch}: ${number(scores[place])}`] })) });
          }
          continue;
        }
        const tables = runs.map(([, , epochs, scores]) => new Map(epochs.map((epoch, place) => [epoch, scores[place]])));
        const epochs = [...tables[0].keys()].filter((epoch) => tables.every((one) => one.get(epoch) !== undefined && one.get(epoch) !== null));
        const points = epochs.map((epoch) => {
          const column = tables.map((one) => one.get(epoch));
          return [epoch, column.reduce((sum, value) => sum + value, 0) / column.length, Math.min(...column), Math.max(...column)];
        });
        drawn.get(at).push(...points.flatMap((one) => one.slice(2)));
        series.push({
          type: "custom", name: "band", silent: true, clip: true, encode: { x: 0, y: [2, 3] }, data: points, tooltip: { show: false },
          renderItem: (params, api) => params.dataIndex ? null : {
            type: "polygon", style: { fill: colour, opacity: 0.14 },
            shape: { points: [...points.map((one) => api.coord([one[0], one[3]])), ...points.toReversed().map((one) => api.coord([one[0], one[2]]))] },
          },
        }, {
          type: "line", name: this.data.settings[at].name, color: colour, symbol: shape, symbolSize: 6, showSymbol: points.length < 30, clip: true, lineStyle: { type: dash, width: 2.2 },
          data: points.map(([epoch, mean, low, high]) => ({ value: [epoch, mean], said: [this.label(at), `epoch ${epoch}: ${number(mean)}`, `${number(low)} to ${number(high)} over ${runs.length} seeds`] })),
        });
      }
      const ends = nice(robust(this.near(shown).flatMap((at) => drawn.get(at))));
      return {
        said: `${metric.name} over epochs of ${shown.length} settings`,
        beyond: this.beyond(shown, (at) => drawn.get(at), ends),
        option: {
          xAxis: axis("epoch", { minInterval: 1, min: "dataMin", max: "dataMax", splitLine: { show: false } }),
          yAxis: upright(metric.label, ends),
          dataZoom: [{ type: "inside", xAxisIndex: 0, filterMode: "none", zoomOnMouseWheel: "ctrl", moveOnMouseMove: true, moveOnMouseWheel: false, preventDefaultMouseMove: false, start: chart.from ?? 0, end: chart.to ?? 100 }],
          series,
        },
      };
    }
    zoom() {
      const chart = this.charts.get("curves");
      if (!chart) return;
      const step = (share) => () => {
        const now = chart.at?.getOption().dataZoom[0] ?? { start: 0, end: 100 };
        const middle = (now.start + now.end) / 2, half = Math.min(50, ((now.end - now.start) / 2) * share);
        chart.from = Math.max(0, Math.min(middle - half, 100 - 2 * half));
        chart.to = chart.from + 2 * half;
        chart.at?.dispatchAction({ type: "dataZoom", start: chart.from, end: chart.to });
      };
      for (const [name, share] of [["in", 0.6], ["out", 1 / 0.6], ["whole", 100]]) chart.card.querySelector(`.${name}`).addEventListener("click", step(share));
    }
    pareto() {
      const { settings, metric, hard } = this.data, places = this.chosen(3000, (one) => one.hard);
      const points = places.map((at) => ({ at, x: settings[at].score, y: settings[at].hard }));
      const near = new Set(this.near(places)), kept = points.filter(({ at }) => near.has(at));
      const reach = (which) => {
        const means = kept.map((one) => one[which][0]), low = Math.min(...means), high = Math.max(...means);
        const halves = kept.filter((one) => one[which][1] !== null).map((one) => (one[which][2] - one[which][1]) / 2).sort((a, b) => a - b);
        const wide = 1.2 * (halves[halves.length >> 1] ?? 0);
        const span = Math.max(high - low, Math.min(wide, 3 * (high - low) || wide)) || 1; // the points stay apart
        const ends = kept.flatMap((one) => (one[which][1] === null ? [] : [Math.max(one[which][1], low - span), Math.min(one[which][2], high + span)]));
        return nice([Math.min(low, ...ends), Math.max(high, ...ends)]);
      };
      const across = reach("x"), up = reach("y"), at = (value, { min, max }) => Math.min(Math.max(value, min), max);
      const mark = ({ x: [x], y: [y] }) => { // beyond the scale: an arrow at its edge
        const turned = x < across.min ? 90 : x > across.max ? -90 : y < up.min ? 180 : y > up.max ? 0 : null;
        return { value: [at(x, across), at(y, up)], ...(turned === null ? {} : { symbol: "triangle", symbolRotate: turned }) };
      };
      const cross = (params, api) => {
        const [x, y] = api.coord([api.value(0), api.value(1)]), style = { stroke: ink.accent, lineWidth: 1, opacity: 0.45 };
        const [left] = api.coord([api.value(2), api.value(1)]), [right] = api.coord([api.value(3), api.value(1)]);
        const low = api.coord([api.value(0), api.value(4)])[1], high = api.coord([api.value(0), api.value(5)])[1];
        return { type: "group", children: [{ type: "line", style, shape: { x1: left, y1: y, x2: right, y2: y } }, { type: "line", style, shape: { x1: x, y1: low, x2: x, y2: high } }] };
      };
      const front = points.filter(({ at }) => settings[at].front).map(({ x, y }) => [x[0], y[0]]).sort((a, b) => a[0] - b[0]);
      const unit = metric.unit ? ` (${metric.unit})` : "";
      return {
        said: `Mean against the ${hard} % percentile of ${points.length} settings; ${front.length} on the line`,
        beyond: this.beyond(places, (at) => [settings[at].score[0], settings[at].hard[0]], across, up),
        option: {
          xAxis: axis(`mean${unit}`, { ...across, splitLine: { show: false } }),
          yAxis: upright(`${hard} % percentile${unit}`, up),
          series: [
            { type: "line", name: "front", data: front, color: ink.second, showSymbol: false, silent: true, lineStyle: { width: 2 }, clip: true },
            { type: "custom", name: "intervals", silent: true, clip: true, renderItem: cross, encode: { x: [0, 2, 3], y: [1, 4, 5] }, data: points.filter(({ x, y }) => x[1] !== null && y[1] !== null).map(({ x, y }) => [x[0], y[0], x[1], x[2], y[1], y[2]]) },
            {
              type: "scatter", name: "settings", symbolSize: 9, color: ink.accent, clip: true,
              label: { show: points.length <= 12, position: [10, -12], color: ink.ink, fontSize: 12, formatter: (one) => String(one.data.at + 1) },
              data: points.map(({ at, x, y }) => ({ ...mark({ x, y }), at, said: [this.label(at), `mean ${number(x[0])}${x[1] === null ? "" : ` (${number(x[1])} to ${number(x[2])})`}`, `${hard} % ${number(y[0])}${y[1] === null ? "" : ` (${number(y[1])} to ${number(y[2])})`}`] })),
            },
          ],
        },
      };
    }
    examples(chart) {
      const { names, scores } = this.data.examples, { metric } = this.data;
      const [a, b] = ["a", "b"].map((name) => scores[+chart.card.querySelector(`.${name}`).value]);
      const points = names.map((name, place) => [name, a[1][place], b[1][place]]).filter((one) => one[1] !== null && one[2] !== null);
      const better = points.filter(([, x, y]) => (metric.higher ? y > x : y < x)).length, same = points.filter(([, x, y]) => x === y).length;
      const whole = nice(robust(points.flatMap((one) => one.slice(1))));
      chart.card.querySelector(".tally").textContent = `B is better on ${better} of ${points.length}, A on ${points.length - better - same}${same ? `, equal on ${same}` : ""}.`;
      return {
        said: `${points.length} examples: ${this.label(a[0])} against ${this.label(b[0])}`,
        beyond: this.left(points, "example", whole, 1, 2),
        option: {
          xAxis: axis(`A: ${this.data.settings[a[0]].name}`, { ...whole, splitLine: { show: false }, nameTruncate: { maxWidth: Math.max(120, chart.plot.clientWidth - 90) } }),
          yAxis: upright(`B: ${this.data.settings[b[0]].name}`, { ...whole, nameTruncate: { maxWidth: 250 } }),
          series: [
            { type: "line", name: "equal", silent: true, showSymbol: false, color: ink.second, lineStyle: { type: "dashed", width: 1.5 }, data: [[whole.min, whole.min], [whole.max, whole.max]] },
            { type: "scatter", name: "examples", clip: true, symbolSize: points.length > 150 ? 5 : 7, color: ink.accent, itemStyle: { opacity: 0.6 }, data: points.map(([name, x, y]) => ({ value: [x, y], said: [`${metric.unitName} ${name}`, `A ${number(x)}`, `B ${number(y)}`] })) },
          ],
        },
      };
    }
    // Trials of the search, or settings where nothing was searched: [place, name, state, value, settings].
    points() {
      const { trials, settings } = this.data, searched = trials.some((one) => one[2] !== null);
      const table = searched ? this.trials : this.table, visible = new Set(table.visible()), picked = table.picked;
      const every = searched
        ? trials.map(([at, state, value, ...values], place) => ({ place, name: `trial ${at}`, at, state, value, values }))
        : settings.map((one, place) => ({ place, name: this.label(place), at: place, state: "finished", value: one.score?.[0] ?? null, values: one.values }));
      return { searched, picked, every, shown: every.filter((one) => one.value !== null && visible.has(one.place)) };
    }
    facts(one) {
      return [`${one.name}, ${one.state}: ${number(one.value)}`, ...this.data.axes.map((item, at) => [item.name, one.values[at]]).filter(([, value]) => value !== null).map(([name, value]) => `${name} = ${number(value)}`)];
    }
    states(points, place) {
      const look = { finished: { symbol: "circle", color: ink.accent }, pruned: { symbol: "emptyTriangle", color: ink.muted } };
      return Object.entries(look).map(([state, { symbol, color }]) => ({
        type: "scatter", name: state, symbol, color, symbolSize: points.length > 150 ? 6 : 8, itemStyle: { opacity: 0.8 }, clip: true,
        data: points.filter((one) => one.state === state).map((one) => ({ value: [place(one), one.value], said: this.facts(one) })),
      }));
    }
    get good() { return this.scores().higher ? 1 : -1; }
    scores() {
      const { searched } = this.points();
      return searched ? this.data.monitor : this.data.metric;
    }
    search() {
      const { trials } = this.data, { shown } = this.points(), visible = new Set(this.trials.visible());
      const higher = this.data.monitor.higher, steps = [];
      let best = null;
      for (const one of shown) {
        if (one.state === "finished" && (best === null || (higher ? one.value > best : one.value < best))) { best = one.value; steps.push([one.at, best]); }
      }
      if (shown.length && best !== null) steps.push([Math.max(...shown.map((one) => one.at)), best]);
      const ends = nice(robust(shown.map((one) => one.value), this.good));
      const failed = trials.filter((one, place) => one[2] === null && visible.has(place));
      return {
        beyond: this.left(shown, "trial", ends, "value"),
        said: `Validation score of ${shown.length} trials${best === null ? "" : `, best ${number(best)}`}`,
        option: {
          xAxis: axis("trial", { minInterval: 1, splitLine: { show: false } }),
          yAxis: upright(this.data.monitor.label, ends),
          series: [
            { type: "line", name: "best so far", step: "end", silent: true, showSymbol: false, color: ink.second, lineStyle: { width: 2 }, data: steps, clip: true },
            ...this.states(shown, (one) => one.at),
            { type: "scatter", name: "failed", symbol: "path://M0 1L1 0L5 4L9 0L10 1L6 5L10 9L9 10L5 6L1 10L0 9L4 5z", symbolSize: 10, color: ink.second, data: failed.map((one) => ({ value: [one[0], ends.min], said: [`trial ${one[0]}, ${one[1]}`] })) },
          ],
        },
      };
    }
    slice(chart) {
      const at = +chart.card.querySelector(".axis").value, { name, number: isNumber, log } = this.data.axes[at];
      const { shown, searched } = this.points(), kept = shown.filter((one) => one.values[at] !== null), label = this.scores().label;
      const ends = nice(robust(kept.map((one) => one.value), this.good));
      const kinds = isNumber ? null : [...new Set(kept.map((one) => one.values[at]))].sort();
      const room = isNumber ? 0 : (chart.plot.clientWidth - 90) / Math.max(1, kinds.length);
      const narrow = !isNumber && room < 7.5 * Math.max(...kinds.map((kind) => String(kind).length), 4);
      const below = isNumber ? axis(name, log ? { type: "log" } : { splitLine: { show: false } })
        : axis(name, { type: "category", data: kinds, nameGap: narrow ? 72 : 30, axisLabel: { color: ink.muted, fontSize: 12, interval: 0, width: narrow ? 90 : room, overflow: "truncate", rotate: narrow ? 40 : 0 }, splitLine: { show: false } });
      return {
        said: `Score of ${kept.length} against ${name}`,
        beyond: this.left(kept, searched ? "trial" : "setting", ends, "value"),
        option: {
          grid: { left: 68, right: 22, top: 16, bottom: narrow ? 92 : 50, outerBoundsMode: "none" },
          xAxis: below, yAxis: upright(label, ends), series: this.states(kept, (one) => one.values[at]),
        },
      };
    }
    parallel(chart) {
      const { axes } = this.data, { shown, picked } = this.points(), { label, higher } = this.scores();
      chart.shown = shown;
      const width = chart.plot.clientWidth, upright = width < 110 * (axes.length + 1);
      const scores = shown.map((one) => one.value), [low, high] = robust(scores, this.good), ends = nice([low, high]);
      const share = (value) => (higher ? value - low : high - value) / (high - low || 1);
      const kinds = axes.map((one, at) => {
        const values = [...new Set(shown.map((row) => row.values[at]).filter((value) => value !== null))];
        return one.number && values.length > 4 ? null : values.sort((a, b) => (one.number ? a - b : a < b ? -1 : 1));
      });
      const place = (value, at, row) => value === null ? null : kinds[at] ? kinds[at].indexOf(value) + (((row.place * 0.618034) % 1) - 0.5) * 0.5 : value; // lines of one choice lie beside each other
      const short = (text, most = room) => (text.length > most ? `…${text.slice(1 - most)}` : text);
      const room = Math.floor((upright ? width - 80 : Math.min(180, (width - 160) / axes.length)) / 8);
      const common = { nameLocation: "start", inverse: false, nameTextStyle: { color: ink.ink, fontSize: 12, fontWeight: 600, align: upright ? "left" : undefined }, nameGap: 14, axisLine: { lineStyle: { color: ink.muted } }, axisTick: { show: false } };
      const text = { color: ink.ink, fontSize: 12, textBorderColor: ink.card, textBorderWidth: 3, hideOverlap: true };
      const dims = axes.map((one, at) => {
        const values = shown.map((row) => row.values[at]).filter((value) => value !== null);
        return {
          dim: at, name: short(one.name), ...common,
          ...(kinds[at]
            ? { type: "value", min: -0.5, max: Math.max(0.5, kinds[at].length - 0.5), interval: 0.5, axisLabel: { ...text, width: upright ? width / Math.max(1, kinds[at].length) - 8 : 140, overflow: "truncate", formatter: (value) => (Number.isInteger(value) ? number(kinds[at][value]) : "") } }
            : { type: one.log ? "log" : "value", scale: true, ...(one.log || new Set(values).size < 2 ? {} : { min: Math.min(...values), max: Math.max(...values) }), axisLabel: { ...text, formatter: (value) => number(value, 3) } }),
        };
      });
      dims.push({ dim: axes.length, name: `${short(label.replace(/^val\//, ""), room - 3)}${higher ? " ↑" : " ↓"}`, ...common, type: "value", ...ends, axisLabel: { ...text, formatter: (value) => number(value, 4) } });
      const best = new Set([...shown].sort((a, b) => share(b.value) - share(a.value)).slice(0, Math.max(1, Math.min(12, shown.length >> 2))));
      const ramp = chart.card.querySelector(".ramp");
      ramp.replaceChildren(number(higher ? low : high, 3), make("i"), number(higher ? high : low, 3));
      this.tally(chart);
      return {
        height: upright ? 70 * dims.length + 40 : 380,
        beyond: this.left(shown, this.points().searched ? "trial" : "setting", ends, "value"),
        said: `${shown.length} lines across ${axes.map((one) => one.name).join(", ")} and ${label}`,
        option: {
          parallel: { layout: upright ? "vertical" : "horizontal", left: upright ? 30 : 70, right: upright ? 30 : 90, top: upright ? 34 : 22, bottom: upright ? 34 : 42, parallelAxisDefault: { areaSelectStyle: { width: 22, color: ink.second, borderColor: ink.second, opacity: 0.3 } } },
          parallelAxis: dims,
          series: [{
            type: "parallel", name: "points", smooth: false, progressive: 0, inactiveOpacity: 0.04, activeOpacity: 0.95, emphasis: { lineStyle: { width: 4, opacity: 1 } },
            data: [...shown].sort((a, b) => share(a.value) - share(b.value)).map((one) => ({
              value: [...one.values.map((value, at) => place(value, at, one)), Math.min(Math.max(one.value, ends.min), ends.max)], said: this.facts(one), place: one.place,
              lineStyle: { color: mixed(share(one.value)), width: picked.has(one.place) ? 4 : best.has(one) ? 2.4 : 1.3, opacity: shown.length > 400 && !best.has(one) ? 0.35 : 0.9, type: one.state === "pruned" ? "dashed" : "solid" },
            })),
          }],
        },
      };
    }
    brush(chart) {
      chart.at.on("axisareaselected", () => {
        const series = chart.at.getModel().getSeries()[0];
        chart.kept = series.getRawIndicesByActiveState("active");
        if (chart.kept.length === 0 && !series.coordinateSystem.hasAxisBrushed()) chart.kept = null;
        this.tally(chart);
      });
      chart.card.querySelector(".whole").addEventListener("click", () => { chart.kept = null; this.draw(chart); });
    }
    tally(chart) {
      const count = chart.kept ? chart.kept.length : chart.shown.length;
      chart.card.querySelector(".tally").textContent = `${count} of ${this.points().every.filter((one) => one.value !== null).length} shown`;
    }
    timeline() {
      const { runs } = this.data, lanes = [], colours = { finished: ink.accent, pruned: "transparent", failed: ink.second };
      const rows = runs.map(([setting, trial, seed, purpose, state, from, took]) => {
        const to = from + took, name = setting === null ? `trial ${trial}` : `${this.label(setting)}, seed ${seed}`;
        let lane = lanes.findIndex((end) => end <= from);
        if (lane < 0) lane = lanes.push(0) - 1;
        lanes[lane] = to;
        return { value: [lane, from * 1000, to * 1000], state, said: [`${name} (${purpose})`, `${state}, ${number(took, 3)} s`, new Date(from * 1000).toISOString().replace("T", " ").slice(0, 19)], final: purpose === "final" };
      });
      const height = Math.min(420, 90 + 26 * lanes.length);
      return {
        height,
        said: `${runs.length} runs side by side in ${lanes.length} lanes`,
        option: {
          grid: { left: 36, right: 36, top: 12, bottom: 46, outerBoundsMode: "none" },
          xAxis: axis("time (UTC)", { type: "time", min: "dataMin", max: "dataMax", splitLine: { show: false }, axisLabel: { color: ink.muted, fontSize: 12, hideOverlap: true, formatter: (value) => new Date(value).toISOString().slice(...(rows.at(-1).value[2] - rows[0].value[1] > 86400e3 ? [5, 10] : [11, 19])) } }),
          yAxis: { type: "category", data: lanes.map((_, at) => at), show: false },
          series: [{
            type: "custom", clip: true, encode: { x: [1, 2], y: 0 }, data: rows,
            renderItem: (params, api) => {
              const [left, y] = api.coord([api.value(1), api.value(0)]), [right] = api.coord([api.value(2), api.value(0)]);
              const one = rows[params.dataIndex], tall = Math.max(4, Math.min(20, api.size([0, 1])[1] * 0.7));
              return { type: "rect", shape: { x: left, y: y - tall / 2, width: Math.max(1.5, right - left - 0.5), height: tall }, style: { fill: colours[one.state] ?? ink.muted, stroke: one.state === "pruned" ? ink.muted : ink.card, lineWidth: one.state === "pruned" ? 1.5 : 0.5, opacity: one.final ? 1 : 0.55 } };
            },
          }],
        },
      };
    }
    differ() {
      const card = this.section.querySelector("[data-part=differ]");
      if (!card || !this.table) return;
      const picked = this.table.picked.size > 1, places = this.chosen(picked ? 8 : this.section.clientWidth < 600 ? 2 : 3), { words, names, values } = this.data.differ;
      const rows = names.map((name, at) => [name, places.map((place) => words[values[at][place]])]).filter(([, own]) => new Set(own).size > 1);
      card.querySelector(".said").textContent = `${picked ? "The ticked rows" : "The first rows of the table; tick two or more to compare others"}: ${rows.length} of ${names.length} settings that differ on this board.`;
      const { settings, metric } = this.data;
      const facts = [["place", places.map((at) => `${at + 1}.`)], [metric.label, places.map((at) => this.score(settings[at].score?.[0]))]];
      const cells = (tag, name, own) => make("tr", {}, make("th", { scope: "row" }, name), ...own.map((value) => make(tag, tag === "th" ? { scope: "col" } : {}, value ?? "not set")));
      card.querySelector(".scroll").replaceChildren(make("table", { class: "differ" }, make("thead", {}, cells("th", "setting", facts[0][1])), make("tbody", {}, cells("td", ...facts[1]), ...rows.map(([name, own]) => cells("td", name, own)))));
    }
  }

  const watch = new IntersectionObserver((entries) => {
    for (const { isIntersecting, target } of entries) {
      if (!isIntersecting) continue;
      watch.unobserve(target);
      const chart = target.board.charts.get(target.dataset.chart);
      if (!chart.seen) target.board.draw(chart);
    }
  }, { rootMargin: "300px" });
  read();
  const found = boards.map((data, place) => new Board(document.getElementById(`board-${place}`), data));
  const fit = () => { for (const board of found) for (const one of [board.table, board.trials]) one?.fit(); };
  const again = () => { for (const board of found) for (const chart of board.charts.values()) if (chart.seen) board.draw(chart); };
  fit();
  let width = innerWidth, resized;
  addEventListener("resize", () => {
    if (innerWidth === width) return;
    width = innerWidth;
    clearTimeout(resized);
    resized = setTimeout(() => { fit(); again(); }, 60);
  });
  for (const one of all("details.trials")) one.addEventListener("toggle", fit);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => { read(); again(); });

  // ---- sounds: one at a time, the others of an example go on from the same place ------------
  let playing = null;
  for (const example of all(".example")) {
    const players = all("audio", example).map((audio) => {
      audio.controls = false;
      const label = audio.getAttribute("aria-label");
      const button = make("button", { type: "button", class: "play", "aria-pressed": "false", "aria-label": label });
      const show = () => {
        const on = !audio.paused, of = audio.duration;
        button.textContent = `${on ? "❚❚" : "▶"} ${label.split(",")[0]}`;
        button.setAttribute("aria-pressed", String(on));
        button.style.setProperty("--done", of ? `${(100 * audio.currentTime) / of}%` : "0%");
      };
      audio.after(button);
      for (const event of ["play", "pause", "timeupdate", "ended", "loadedmetadata"]) audio.addEventListener(event, show);
      show();
      const start = async () => {
        const other = playing;
        if (other && other !== audio) {
          other.pause();
          if (example.contains(other)) {
            if (audio.readyState < 1) await new Promise((then) => { audio.addEventListener("loadedmetadata", then, { once: true }); audio.preload = "auto"; audio.load(); });
            audio.currentTime = Math.min(other.currentTime, audio.duration);
          }
        }
        playing = audio;
        await audio.play().catch(() => show());
      };
      button.addEventListener("click", () => (audio.paused ? start() : audio.pause()));
      return { button, audio, start };
    });
    example.addEventListener("keydown", (event) => {
      const now = players.findIndex((one) => one.button === document.activeElement);
      const row = (at) => players[at].button.closest("tr"), cell = (at) => players[at].button.closest("td").cellIndex;
      const step = { ArrowRight: (at) => at + 1, ArrowLeft: (at) => at - 1, ArrowDown: (at) => players.findIndex((one, to) => to > at && row(to) !== row(at) && cell(to) >= cell(at)), ArrowUp: (at) => players.findLastIndex((one, to) => to < at && row(to) !== row(at) && cell(to) <= cell(at)) }[event.key];
      const next = now >= 0 && step ? players[step(now)] : null;
      if (!next) return;
      event.preventDefault();
      next.button.focus();
      if (!players[now].audio.paused) next.start();
    });
  }

  // ---- copying a command; pages opened from a disk may have no clipboard, then it is selected --
  for (const button of all("button.copy")) {
    const label = button.textContent;
    button.addEventListener("click", async () => {
      const command = (button.dataset.copy ? document.getElementById(`command-${button.dataset.copy}`) : button.previousElementSibling).textContent;
      let done = false;
      try {
        await navigator.clipboard.writeText(command);
        done = true;
      } catch {
        const field = make("textarea");
        field.value = command;
        document.body.append(field);
        field.select();
        done = document.execCommand("copy");
        field.remove();
        button.focus();
      }
      button.textContent = done ? "Copied" : "Copy failed";
      setTimeout(() => (button.textContent = label), 1500);
    });
  }
})();

(() => {
  "use strict";
  const all = (selector, root = document) => [...root.querySelectorAll(selector)];

  // Sorting: a button in the header, so that a click, Enter and Space all do it.
  const value = (row, column) => row.cells[column].dataset.v ?? row.cells[column].textContent.trim();
  const compare = (a, b) => {
    const x = parseFloat(a), y = parseFloat(b);
    return Number.isNaN(x) || Number.isNaN(y) ? a.localeCompare(b) : x - y;
  };
  for (const button of all("button.sort")) {
    button.addEventListener("click", () => {
      const head = button.closest("th"), table = head.closest("table"), body = table.tBodies[0];
      const column = head.cellIndex;
      const before = head.getAttribute("aria-sort");
      const first = head.dataset.first || "ascending";
      const other = first === "ascending" ? "descending" : "ascending";
      const order = before === first ? other : first;
      for (const cell of head.parentElement.cells) cell.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", order);
      const sign = order === "ascending" ? 1 : -1;
      const rows = [...body.rows];
      rows.sort((a, b) => {
        const x = value(a, column), y = value(b, column);
        if (x === "" || y === "") return (x === "") - (y === ""); // nothing to sort by: last
        return sign * compare(x, y);
      });
      body.append(...rows);
    });
  }

  // Filter: every word must occur in a row's setting, run ids or device.
  for (const field of all("input[type=search]")) {
    const board = field.closest(".board"), rows = all("table.ranked tbody tr", board);
    const said = board.querySelector(".shown");
    const apply = () => {
      const words = field.value.toLowerCase().split(/\s+/).filter(Boolean);
      let count = 0;
      for (const row of rows) {
        const text = (row.textContent + " " + row.dataset.text).toLowerCase();
        row.hidden = !words.every((word) => text.includes(word));
        count += !row.hidden;
      }
      said.textContent = count + " of " + rows.length + (rows.length === 1 ? " setting" : " settings");
    };
    field.addEventListener("input", apply);
    apply();
  }

  // Copying a command; pages opened from a disk may have no clipboard, then it is selected.
  for (const button of all("button.copy[data-copy]")) {
    const label = button.textContent;
    button.addEventListener("click", async () => {
      let done = false;
      try {
        await navigator.clipboard.writeText(button.dataset.copy);
        done = true;
      } catch {
        const field = document.createElement("textarea");
        field.value = button.dataset.copy;
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

  // Brushing: drag along an axis, or focus it and use the arrow keys; several axes combine.
  for (const plot of all("svg.parallel")) {
    const top = +plot.dataset.top, bottom = +plot.dataset.bottom;
    const lines = all(".trial", plot).map((line) => [line, line.dataset.y.split(" ").map(Number)]);
    const said = plot.closest("figure").querySelector(".shown");
    const ranges = new Map();
    const apply = () => {
      let count = 0;
      for (const [line, heights] of lines) {
        const out = [...ranges].some(([axis, [low, high]]) => heights[axis] < low || heights[axis] > high);
        line.classList.toggle("out", out);
        count += !out;
      }
      for (const brush of all(".brush", plot)) {
        const range = ranges.get(+brush.dataset.axis);
        brush.toggleAttribute("hidden", !range);
        brush.setAttribute("y", range ? range[0] : top);
        brush.setAttribute("height", range ? range[1] - range[0] : 0);
      }
      said.textContent = count + " of " + lines.length + " trials shown";
    };
    const height = (event) => {
      const point = new DOMPoint(event.clientX, event.clientY);
      const y = point.matrixTransform(plot.getScreenCTM().inverse()).y;
      return Math.min(bottom + 6, Math.max(top - 6, y));
    };
    for (const grip of all(".grip", plot)) {
      const axis = +grip.dataset.axis;
      let from = null;
      grip.addEventListener("pointerdown", (event) => {
        from = height(event);
        grip.setPointerCapture(event.pointerId);
      });
      grip.addEventListener("pointermove", (event) => {
        if (from === null) return;
        const to = height(event);
        ranges.set(axis, [Math.min(from, to), Math.max(from, to)]);
        apply();
      });
      const end = (event) => {
        if (from === null) return;
        if (Math.abs(height(event) - from) < 4) ranges.delete(axis); // a click removes the range
        from = null;
        apply();
      };
      grip.addEventListener("pointerup", end);
      grip.addEventListener("pointercancel", end);
      grip.addEventListener("keydown", (event) => {
        const step = (bottom - top) / 12, range = ranges.get(axis);
        if (event.key === "Escape") {
          ranges.delete(axis);
        } else if (event.key === "ArrowUp" || event.key === "ArrowDown") {
          const size = range ? range[1] - range[0] : (bottom - top) / 4 + 6;
          const low = range ? range[0] + (event.key === "ArrowUp" ? -step : step)
            : event.key === "ArrowUp" ? bottom + 6 - size : top - 6;
          const kept = Math.max(top - 6, Math.min(bottom + 6 - size, low));
          ranges.set(axis, [kept, kept + size]);
        } else {
          return;
        }
        event.preventDefault();
        apply();
      });
    }
    for (const button of all(".reset", plot.closest("figure"))) {
      button.addEventListener("click", () => { ranges.clear(); apply(); });
    }
    apply();
  }
})();

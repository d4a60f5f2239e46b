"use strict";
(() => {
  const PAGE = 50;
  const WIDE = new Set(["message", "what", "kernels", "mended"]);
  const three = (x) => String(Number(x.toPrecision(3)));
  const scaled = (x, units, least = 1) => {
    for (const [unit, factor] of units) if (x >= least * factor) return three(x / factor) + " " + unit;
    return three(x) + " " + units[units.length - 1][2];
  };
  const show = (kind, v) => {
    if (v === null || v === undefined) return "–";
    if (kind === "size") return scaled(v, [["TiB", 2 ** 40], ["GiB", 2 ** 30], ["MiB", 2 ** 20], ["KiB", 1024, "B"]]);
    if (kind === "time") return scaled(v, [["s", 1e9], ["ms", 1e6], ["µs", 1e3, "ns"]], 0.9995);
    if (kind === "share") return three(v * 100) + " %";
    if (kind === "number") return Number.isInteger(v) ? v.toLocaleString("en") : String(Number(v.toPrecision(4)));
    return String(v);
  };
  const isNumber = (kind) => kind !== "text" && kind !== "id";

  function setUp(section) {
    const data = JSON.parse(section.querySelector("script[type='application/json']").textContent);
    const columns = data.columns;
    const at = (c, row) => (c.dict ? c.dict[c.values[row]] : c.values[row]);
    const table = section.querySelector("table");
    const body = table.tBodies[0];
    const state = { sort: -1, down: false, page: 0, filters: new Map(), rows: [] };

    const compare = (c) => (a, b) => {
      const x = at(c, a), y = at(c, b);
      if (x === null || y === null) return (x === null) - (y === null);
      const order = isNumber(c.kind) || (typeof x === "number" && typeof y === "number") ? x - y : String(x) < String(y) ? -1 : x === y ? 0 : 1;
      return state.down ? -order : order;
    };
    const select = () => {
      const rows = [];
      for (let row = 0; row < data.rows; row++) {
        let wanted = true;
        for (const [c, value] of state.filters) wanted = wanted && c.values[row] === value;
        if (wanted) rows.push(row);
      }
      if (state.sort >= 0) rows.sort(compare(columns[state.sort]));
      state.rows = rows;
      state.page = 0;
    };
    const draw = () => {
      const first = state.page * PAGE, shown = state.rows.slice(first, first + PAGE);
      body.replaceChildren(...shown.map((row) => {
        const tr = document.createElement("tr");
        for (const c of columns) {
          const td = document.createElement("td"), v = at(c, row);
          td.textContent = show(c.kind, v);
          td.className = isNumber(c.kind) ? "num" : c.kind === "id" ? "id" : WIDE.has(c.name) ? "wide" : "";
          tr.append(td);
        }
        return tr;
      }));
      const total = state.rows.length;
      section.dataset.shown = String(total);
      count.textContent = total === 0 ? "no row matches these filters"
        : `${(first + 1).toLocaleString("en")} to ${(first + shown.length).toLocaleString("en")} of ${total.toLocaleString("en")}` +
          (total < data.rows ? ` (filtered from ${data.rows.toLocaleString("en")})` : "");
      back.disabled = state.page === 0;
      next.disabled = first + PAGE >= total;
      pager.hidden = data.rows <= PAGE && total === data.rows;
    };
    const pager = document.createElement("div"), count = document.createElement("span");
    const button = (text, act) => {
      const b = document.createElement("button");
      b.type = "button"; b.textContent = text; b.addEventListener("click", act);
      return b;
    };
    const back = button("← back", () => { state.page--; draw(); });
    const next = button("next →", () => { state.page++; draw(); });
    pager.className = "pager";
    count.setAttribute("role", "status");
    pager.append(back, count, next);
    section.querySelector(".scroll").after(pager);

    [...table.tHead.rows[0].cells].forEach((th, index) => {
      const b = button(th.textContent, () => {
        state.down = state.sort === index ? !state.down : false;
        state.sort = index;
        for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
        th.setAttribute("aria-sort", state.down ? "descending" : "ascending");
        select(); draw();
      });
      th.replaceChildren(b);
    });
    const filters = document.createElement("div");
    filters.className = "filters";
    for (const c of columns) {
      if (!c.axis || !c.dict || c.dict.length < 2) continue;
      const label = document.createElement("label"), choice = document.createElement("select");
      label.textContent = c.title;
      choice.dataset.axis = c.name;
      choice.add(new Option("all", ""));
      c.dict.map((v, i) => [v, i])
        .sort(([x], [y]) => (typeof x === "number" && typeof y === "number" ? x - y : String(x) < String(y) ? -1 : 1))
        .forEach(([v, i]) => choice.add(new Option(show(c.kind, v), String(i))));
      choice.addEventListener("change", () => {
        if (choice.value === "") state.filters.delete(c); else state.filters.set(c, Number(choice.value));
        select(); draw();
      });
      label.append(choice);
      filters.append(label);
    }
    if (filters.childElementCount) {
      filters.append(button("clear", () => {
        filters.querySelectorAll("select").forEach((s) => { s.value = ""; });
        state.filters.clear(); select(); draw();
      }));
      section.querySelector(".scroll").before(filters);
    }
    select(); draw();
    section.dataset.ready = "yes";
  }
  document.querySelectorAll("section.table").forEach(setUp);
})();

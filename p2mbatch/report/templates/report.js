"use strict";
(() => {
  const PAGE = 50, MAX_CHOICES = 60;
  const WIDE = new Set(["message", "what", "kernels", "mended"]);
  const SIZES = [["TiB", 2 ** 40], ["GiB", 2 ** 30], ["MiB", 2 ** 20], ["KiB", 1024, "B"]];
  const TIMES = [["s", 1e9], ["ms", 1e6], ["µs", 1e3, "ns"]];
  // As `digits` of plots/style.py has it: all digits before the point, else so many.
  const digits = (x, most = 3) => {
    if (Math.abs(x) >= 10 ** most - 0.5) return String(Math.sign(x) * Math.round(Math.abs(x)));
    return String(Number(x.toPrecision(most)));
  };
  const scaled = (x, units, least = 1) => {
    for (const [unit, factor] of units) if (x >= least * factor) return digits(x / factor) + " " + unit;
    return digits(x) + " " + units[units.length - 1][2];
  };
  const show = (kind, v) => {
    if (v === null || v === undefined) return "–";
    // Whole numbers beyond what is exact here come as text.
    if (typeof v === "string") return kind === "number" && /^-?\d+$/.test(v) ? BigInt(v).toLocaleString("en") : v;
    if (kind === "size") return scaled(v, SIZES);
    if (kind === "time") return scaled(v, TIMES, 0.9995);
    if (kind === "share") return digits(v * 100) + " %";
    if (kind === "number") return Number.isInteger(v) ? v.toLocaleString("en") : digits(v, 4);
    return String(v);
  };
  // What a person writes into a filter's field: a number, with a unit as the column shows it.
  const parse = (kind, text) => {
    const found = /^\s*([\d.,]+(?:e[+-]?\d+)?)\s*([a-zµ%]*)\s*$/i.exec(text);
    if (!found) return NaN;
    const number = Number(found[1].replaceAll(",", "")), unit = found[2].toLowerCase();
    if (!unit) return number;
    if (kind === "share") return unit === "%" ? number / 100 : NaN;
    const units = kind === "size" ? [...SIZES, ["B", 1]] : kind === "time" ? [...TIMES, ["ns", 1]] : [];
    const known = units.find(([name]) => name.toLowerCase() === unit);
    return known ? number * known[1] : NaN;
  };
  // Addresses are written by others too: of a number the value counts, not how it is written.
  const same = (v, wanted) => String(v) === wanted || (typeof v === "number" && wanted !== "" && Number(wanted) === v);
  const isNumber = (kind) => kind !== "text" && kind !== "id";
  const make = (name, className, text) => {
    const made = document.createElement(name);
    if (className) made.className = className;
    if (text !== undefined) made.textContent = text;
    return made;
  };
  const button = (text, act) => {
    const b = make("button", "", text);
    b.type = "button";
    b.addEventListener("click", act);
    return b;
  };
  const ways = JSON.parse((document.getElementById("ways") || { textContent: "{}" }).textContent);
  const tables = new Map();

  // --- the address: "#place?table.column=value&…", so that what is shown can be sent to somebody

  const parts = () => {
    const [place, query = ""] = location.hash.slice(1).split("?");
    return [decodeURIComponent(place), new URLSearchParams(query)];
  };
  const write = (place) => {
    const query = new URLSearchParams();
    for (const [name, table] of tables) for (const [key, value] of table.told()) query.append(name + "." + key, value);
    const text = "#" + place + (query.size ? "?" + query : "");
    if (text !== location.hash) history.replaceState(null, "", text === "#" ? location.pathname + location.search : text);
  };
  const open = (place) => {
    const found = place && document.getElementById(place);
    if (!found) return;
    for (let e = found; e; e = e.parentElement) if (e.tagName === "DETAILS") e.open = true;
    found.scrollIntoView();
  };
  const follow = () => {
    const [place, query] = parts();
    const own = new Map();
    for (const [key, value] of query) {
      const dot = key.indexOf("."), name = key.slice(0, dot);
      if (!own.has(name)) own.set(name, new Map());
      own.get(name).set(key.slice(dot + 1), value);
    }
    for (const [name, given] of own) if (tables.has(name)) tables.get(name).take(given);
    open(place);
  };

  // --- a table

  function setUp(section) {
    const data = JSON.parse(section.querySelector("script[type='application/json']").textContent);
    const columns = data.columns, name = section.id.replace(/^table-/, "");
    const at = (c, row) => (c.dict ? c.dict[c.values[row]] : c.values[row]);
    const column = (wanted) => columns.find((c) => c.name === wanted);
    const table = section.querySelector("table"), body = table.tBodies[0], heads = [...table.tHead.rows[0].cells];
    const state = { sort: -1, down: false, page: 0, q: "", filters: new Map(), rows: [] };
    let texts = null;

    for (const c of columns) c.labels = new Map(c.labels);
    const upper = (c, v) => c.edges[c.edges.indexOf(v) + 1];
    const word = (c, v) => c.labels.get(v) ?? show(c.kind, v) + (c.edges ? " to " + show(c.kind, upper(c, v)) : "");

    const compare = (c) => (a, b) => {
      const x = at(c, a), y = at(c, b);
      if (x === null || y === null) return (x === null) - (y === null);
      const order = isNumber(c.kind) || (typeof x === "number" && typeof y === "number") ? x - y : String(x) < String(y) ? -1 : x === y ? 0 : 1;
      return state.down ? -order : order;
    };
    const text = (row) => {
      texts ||= new Array(data.rows);
      return (texts[row] ??= columns.map((c) => word(c, at(c, row))).join("\t").toLowerCase());
    };
    const passes = (c, wanted, row) => {
      const v = at(c, row);
      if (Array.isArray(wanted)) return v !== null && v >= wanted[0] && (wanted[2] ? v < wanted[1] : v <= wanted[1]);
      return same(v, wanted);
    };
    const select = (page = 0) => {
      const words = state.q.toLowerCase().split(/\s+/).filter(Boolean), rows = [];
      for (let row = 0; row < data.rows; row++) {
        let wanted = true;
        for (const [c, value] of state.filters) wanted = wanted && passes(c, value, row);
        if (wanted && words.every((word) => text(row).includes(word))) rows.push(row);
      }
      if (state.sort >= 0) rows.sort(compare(columns[state.sort]));
      state.rows = rows;
      state.page = Math.min(page, Math.max(0, Math.ceil(rows.length / PAGE) - 1));
    };

    // A value as an address has it; of a range its ends, of which the upper one is in the last alone.
    const ends = (c, v) => !c.edges ? String(v)
      : v + (upper(c, v) === c.edges.at(-1) ? ".." : "..<") + upper(c, v);
    // Which way leads on from a value: a fate to its story, a count to the cells that it counts.
    const way = (c, row) => {
      const policy = column("policy") && at(column("policy"), row);
      const story = (fate) => (ways.stories?.[policy] || {})[fate] || (ways.fates || {})[fate];
      if (c.name === "fate" && name === "cells") return story(at(c, row));
      if (!c.counts || !at(c, row)) return undefined;
      if (name !== "scenarios") return story(c.counts);
      const query = new URLSearchParams([["cells.fate", c.counts]]);
      for (const axis of columns) if (axis.axis) query.append("cells." + axis.name, ends(axis, at(axis, row)));
      return "#table-cells?" + query;
    };
    const cell = (c, row) => {
      const v = at(c, row), shown = word(c, v);
      const td = make("td", isNumber(c.kind) ? "num" : c.kind === "id" ? "id" : WIDE.has(c.name) ? "wide" : "");
      if (c === kept) td.classList.add("kept");
      const to = way(c, row);
      if (to) {
        const a = make("a", "", shown);
        a.href = to;
        td.append(a);
      } else if (c.kind === "id" && ways.explain && name === "cells") {
        const b = make("button", "copy", shown);
        b.type = "button";
        b.dataset.copy = ways.explain + " " + v;
        b.title = "Copy: " + b.dataset.copy;
        td.append(b);
      } else td.textContent = shown;
      return td;
    };
    const draw = () => {
      const first = state.page * PAGE, shown = state.rows.slice(first, first + PAGE);
      body.replaceChildren(...shown.map((row) => {
        const tr = make("tr");
        tr.append(...columns.map((c) => cell(c, row)));
        return tr;
      }));
      heads.forEach((th, index) => {
        if (index === state.sort) th.setAttribute("aria-sort", state.down ? "descending" : "ascending");
        else th.removeAttribute("aria-sort");
      });
      const total = state.rows.length;
      section.dataset.shown = String(total);
      count.textContent = total === 0 ? "no row matches"
        : `${(first + 1).toLocaleString("en")} to ${(first + shown.length).toLocaleString("en")} of ${total.toLocaleString("en")}` +
          (total < data.rows ? ` (filtered from ${data.rows.toLocaleString("en")})` : "");
      back.disabled = state.page === 0;
      next.disabled = first + PAGE >= total;
      for (const b of [back, next]) b.hidden = data.rows <= PAGE;
    };
    const changed = () => {
      select(); draw(); write(section.id);
    };

    // What is told of a table in the address, and taken from there. "a..<b" is without b.
    const written = ([low, high, under]) => (isFinite(low) ? low : "") + (under ? "..<" : "..") + (isFinite(high) ? high : "");
    const told = () => {
      const found = [...state.filters].map(([c, v]) => [c.name, Array.isArray(v) ? written(v) : v]);
      if (state.q) found.push(["q", state.q]);
      if (state.sort >= 0) found.push(["sort", (state.down ? "-" : "") + columns[state.sort].name]);
      if (state.page) found.push(["page", String(state.page + 1)]);
      return found;
    };
    const take = (given) => {
      state.filters.clear();
      for (const [key, value] of given) {
        const c = column(key);
        if (!c) continue;
        const span = isNumber(c.kind) && /^(.*)\.\.(<?)(.*)$/.exec(value);
        const isChoice = !isNumber(c.kind) || (c.dict && c.dict.length <= MAX_CHOICES);
        if (span) state.filters.set(c, [span[1] === "" ? -Infinity : Number(span[1]), span[3] === "" ? Infinity : Number(span[3]), span[2] === "<"]);
        else state.filters.set(c, isChoice || Math.abs(Number(value)) > Number.MAX_SAFE_INTEGER ? value : [Number(value), Number(value)]);
      }
      state.q = given.get("q") || "";
      const sort = given.get("sort") || "";
      state.down = sort.startsWith("-");
      state.sort = columns.findIndex((c) => c.name === sort.replace(/^-/, ""));
      fields.forEach((fill) => fill());
      box.open ||= state.filters.size > 0;
      select(Math.max(0, Number(given.get("page") || 1) - 1) || 0);
      draw();
    };

    const fields = [];
    const labelled = (title, field, into) => {
      const label = make("label", "", title);
      label.append(field);
      into.append(label);
    };
    const choice = (c) => {
      const field = make("select");
      field.dataset.axis = c.name;
      field.add(new Option("all", ""));
      // A value may be the empty text, so an option stands for its place.
      const sorted = c.dict.map((v, i) => [v, i])
        .sort(([x], [y]) => (typeof x === "number" && typeof y === "number" ? x - y : String(x) < String(y) ? -1 : 1));
      for (const [v, i] of sorted) field.add(new Option(word(c, v), String(i)));
      field.addEventListener("change", () => {
        if (field.value === "") state.filters.delete(c); else state.filters.set(c, String(c.dict[Number(field.value)]));
        changed();
      });
      fields.push(() => {
        field.value = state.filters.has(c) ? String(c.dict.findIndex((v) => same(v, state.filters.get(c)))) : "";
      });
      labelled(c.title, field, chosen);
    };
    const between = (c) => {
      const both = make("span", "ends"), inputs = ["from", "to"].map((end) => {
        const input = make("input");
        input.size = 7; input.placeholder = end;
        input.setAttribute("aria-label", c.title + " " + end);
        input.dataset.axis = c.name;
        both.append(input);
        return input;
      });
      const read = () => {
        const [low, high] = inputs.map((i) => (i.value.trim() ? parse(c.kind, i.value) : null));
        inputs.forEach((i, at) => i.setAttribute("aria-invalid", String(Number.isNaN([low, high][at]))));
        if (Number.isNaN(low) || Number.isNaN(high)) return;
        if (low === null && high === null) state.filters.delete(c);
        else state.filters.set(c, [low ?? -Infinity, high ?? Infinity]);
        changed();
      };
      inputs.forEach((i) => i.addEventListener("change", read));
      fields.push(() => {
        const range = state.filters.get(c);
        inputs.forEach((i, at) => { i.value = Array.isArray(range) && isFinite(range[at]) ? show(c.kind, range[at]) : ""; });
      });
      const named = make("div", "label", c.title);
      named.append(both);
      chosen.append(named);
    };

    const filters = make("div", "filters"), box = make("details"), chosen = make("div", "filters"), pager = make("div", "pager"), count = make("span");
    const kept = name === "cells" ? column("fate") : columns[0];
    heads[columns.indexOf(kept)].classList.add("kept");
    const find = make("input");
    find.type = "search"; find.placeholder = "text in any column";
    find.addEventListener("input", () => { state.q = find.value; changed(); });
    fields.push(() => { find.value = state.q; });
    if (data.rows > 8) labelled("search", find, filters);
    for (const c of columns) {
      if (!c.axis || (c.dict && c.dict.length < 2)) continue;
      if (c.dict && c.dict.length <= MAX_CHOICES) choice(c);
      else if (isNumber(c.kind)) between(c);
    }
    if (chosen.childElementCount) {
      box.append(make("summary", "", "filters"), chosen);
      box.open = chosen.childElementCount <= (innerWidth < 820 ? 2 : 8);
      filters.append(box);
    }
    if (filters.childElementCount) {
      filters.append(button("clear", () => { take(new Map()); write(section.id); }));
      section.querySelector(".scroll").before(filters);
    }
    const back = button("← back", () => { state.page--; draw(); write(section.id); });
    const next = button("next →", () => { state.page++; draw(); write(section.id); });
    pager.className = "pager";
    count.setAttribute("role", "status");
    pager.append(back, count, next, button("CSV of what is shown", () => save(name + ".csv", csv(columns, state.rows, at))));
    section.querySelector(".scroll").after(pager);
    heads.forEach((th, index) => {
      th.replaceChildren(button(th.textContent, () => {
        state.down = state.sort === index ? !state.down : false;
        state.sort = index;
        changed();
      }));
    });
    tables.set(name, { told, take });
    select(); draw();
    section.dataset.ready = "yes";
  }

  // --- as a file

  const csv = (columns, rows, at) => {
    const quoted = (v) => {
      if (v === null || v === undefined) return "";
      // A spreadsheet takes text that begins so for a formula.
      const written = typeof v === "string" && /^[=+\-@\t\r]/.test(v) ? "'" + v : String(v);
      return /[",\r\n]/.test(written) ? '"' + written.replaceAll('"', '""') + '"' : written;
    };
    // Of a range both ends.
    const heads = columns.flatMap((c) => (c.edges ? [c.name + "_from", c.name + "_to"] : [c.name]));
    const values = (row) => columns.flatMap((c) => (c.edges ? [at(c, row), c.edges[c.edges.indexOf(at(c, row)) + 1]] : [at(c, row)]));
    const lines = [heads, ...rows.map(values)].map((line) => line.map(quoted));
    return lines.map((line) => line.join(",") + "\r\n").join("");
  };
  const save = (name, text) => {
    const a = make("a");
    a.href = URL.createObjectURL(new Blob([text], { type: "text/csv" }));
    a.download = name;
    a.click();
    setTimeout(() => URL.revokeObjectURL(a.href), 1000);
  };

  document.querySelectorAll("section.table").forEach(setUp);
  addEventListener("hashchange", follow);
  // A link to where one is already changes no address.
  document.addEventListener("click", (event) => {
    const a = event.target.closest("a[href^='#']");
    if (a && a.getAttribute("href") === location.hash) follow();
  });
  if (location.hash) follow();
})();

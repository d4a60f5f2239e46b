"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const items = [...document.querySelectorAll("ol.steps li")];
  if (!items.length) return;
  const get = (id) => document.getElementById(id);
  const make = (name, className, text) => {
    const made = document.createElement(name);
    if (className) made.className = className;
    if (text !== undefined) made.textContent = text;
    return made;
  };
  const STATES = { true: "listed truly", stale: "not listed truly", unreadable: "the list can't be read", none: "no list" };
  const KINDS = { leaf: "leaf", missing: "hole", identity: "identity leaf", wild: "leaf behind a wild pointer" };
  const plural = (n, one, many) => n + " " + (n === 1 ? one : many);
  let at = -1;

  function strip(runs, first) {
    const out = make("div", "strip");
    const words = [];
    let x = first;
    for (const [count, kind, state] of runs) {
      const cell = make("i", kind + " " + state);
      cell.style.flex = String(count);
      const what = plural(count, KINDS[kind], kind === "leaf" ? "leaves" : KINDS[kind] + "s");
      cell.title = "from leaf " + x + ": " + what + ", " + STATES[state];
      words.push(what + " " + STATES[state]);
      x += count;
      out.append(cell);
    }
    out.setAttribute("role", "img");
    out.setAttribute("aria-label", words.slice(0, 6).join("; ") + (words.length > 6 ? "; and more" : ""));
    return out;
  }

  function draw(target, picture, when) {
    target.replaceChildren();
    if (!picture || !picture.rows.length) {
      target.append(make("p", "note", picture ? "No tree of three levels with a list here: see the steps." : "Nothing to draw yet."));
      return;
    }
    const box = make("div", "scroll"), table = make("table"), head = make("tr"), body = make("tbody");
    box.tabIndex = 0; box.setAttribute("role", "region"); box.setAttribute("aria-label", "tree and list " + when);
    for (const name of ["top", "list list", "leaves and list"]) {
      const th = make("th", "", name);
      th.scope = "col";
      head.append(th);
    }
    let x = 0;
    for (const row of picture.rows) {
      const tr = make("tr"), [a, b] = row.top, cells = make("td", "cells");
      tr.append(make("td", "", a === b ? String(a) : a + "–" + b), make("td", "", row.list));
      cells.append(strip(row.runs, x));
      x += row.runs.reduce((sum, [count]) => sum + count, 0) * (b - a + 1);
      tr.append(cells);
      body.append(tr);
    }
    const thead = make("thead");
    thead.append(head);
    table.append(thead, body);
    box.append(table);
    target.append(box);
    if (picture.num_more) target.append(make("p", "note", picture.num_more + " more rows are not drawn."));
  }

  function drawMemory(picture) {
    const target = get("memory");
    target.replaceChildren();
    if (!picture) return;
    const band = make("div", "band"), list = make("ul"), end = Math.max(picture.end_pfn, 1);
    for (const place of picture.map) {
      const bar = make("i", place.name === "hit" ? "hit" : "");
      bar.style.left = Math.min(99.6, (100 * place.pfn) / end) + "%";
      bar.style.width = (100 * place.count) / end + "%";
      const said = (place.name === "hit" ? "hit by a stray write" : place.name) + ": PFN 0x" + place.pfn.toString(16) + (place.count > 1 ? ", " + place.count + " pages" : "");
      bar.title = said;
      band.append(bar);
      list.append(make("li", "", said));
    }
    band.setAttribute("role", "img");
    band.setAttribute("aria-label", "PFN 0 to 0x" + (end - 1).toString(16) + ", with the places that are listed below");
    target.append(band, list);
  }

  function drawStored(changes) {
    const target = get("stored");
    target.replaceChildren();
    get("stored-part").hidden = !changes.length;
    if (!changes.length) return;
    const box = make("div", "scroll"), table = make("table"), head = make("tr"), body = make("tbody"), thead = make("thead");
    box.tabIndex = 0; box.setAttribute("role", "region"); box.setAttribute("aria-label", "words stored");
    for (const name of ["page", "PFN", "words", "changed", "first word before", "after"]) {
      const th = make("th", "", name);
      th.scope = "col";
      head.append(th);
    }
    for (const [page, pfn, index, count, changed, before, after] of changes) {
      const tr = make("tr"), words = count > 1 ? index + "–" + (index + count - 1) : String(index);
      for (const value of [page, "0x" + pfn.toString(16), words, changed, before, after]) tr.append(make("td", "", String(value)));
      body.append(tr);
    }
    thead.append(head);
    table.append(thead, body);
    box.append(table);
    target.append(box);
  }

  function show(step, scroll) {
    if (step < 0 || step >= items.length || step === at) return;
    if (at >= 0) items[at].removeAttribute("aria-current");
    at = step;
    const item = items[at], [before, after, changes] = data.steps[item.id];
    item.setAttribute("aria-current", "step");
    get("where").textContent = "step " + (at + 1) + " of " + items.length;
    get("said").textContent = item.textContent;
    draw(get("before"), data.pictures[before], "before");
    draw(get("after"), data.pictures[after], "after");
    drawMemory(data.pictures[after]);
    drawStored(changes);
    for (const id of ["first", "back"]) get(id).disabled = at === 0;
    for (const id of ["next", "last"]) get(id).disabled = at === items.length - 1;
    if (scroll) item.scrollIntoView({ block: "nearest" });
  }

  const indexOf = () => items.findIndex((item) => "#" + item.id === location.hash);
  const go = (step) => {
    const to = Math.min(Math.max(step, 0), items.length - 1);
    if (to === at) return;
    history.replaceState(null, "", "#" + items[to].id);
    show(to, true);
  };
  addEventListener("hashchange", () => show(indexOf(), false));
  addEventListener("keydown", (event) => {
    if (event.altKey || event.ctrlKey || event.metaKey) return;
    const to = { ArrowLeft: at - 1, ArrowRight: at + 1, Home: 0, End: items.length - 1 }[event.key];
    if (to === undefined) return;
    event.preventDefault();
    go(to);
  });
  get("first").addEventListener("click", () => go(0));
  get("back").addEventListener("click", () => go(at - 1));
  get("next").addEventListener("click", () => go(at + 1));
  get("last").addEventListener("click", () => go(items.length - 1));
  get("panel").hidden = false;
  const named = indexOf();
  // Without a step named the first that went wrong is what is asked for.
  const wrong = items.findIndex((item) => item.classList.contains("failed"));
  show(named >= 0 ? named : Math.max(wrong, 0), named >= 0);
  document.body.dataset.ready = "yes";
})();

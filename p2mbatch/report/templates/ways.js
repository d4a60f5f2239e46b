(() => {
  // What is copied: through the browser where it lets us, else as selected text.
  const note = document.createElement("p");
  note.id = "copied";
  note.setAttribute("role", "status");
  document.body.append(note);
  let timer = 0;
  const say = (done, text) => {
    note.replaceChildren(done ? "copied: " : "copy this: ");
    const code = document.createElement("code");
    code.textContent = text;
    note.append(code);
    note.classList.add("shown");
    if (!done) getSelection().selectAllChildren(code);
    clearTimeout(timer);
    timer = setTimeout(() => note.classList.remove("shown"), done ? 4000 : 15000);
  };
  document.addEventListener("click", (event) => {
    const button = event.target.closest("button.copy");
    if (!button) return;
    copy(button.dataset.copy);
  });
  // A mark of a figure leads to its cells, as the counts of the table by scenario do. Where the page
  // lists none of them, one is told by a command.
  const ways = JSON.parse((document.getElementById("ways") || { textContent: "{}" }).textContent);
  const copy = (text) => {
    if (!navigator.clipboard) say(false, text);
    else navigator.clipboard.writeText(text).then(() => say(true, text), () => say(false, text));
  };
  const lead = (mark) => {
    const asked = new URLSearchParams(mark.dataset.cells), cell = asked.get("_cell");
    asked.delete("_cell");
    const query = [...asked].map(([name, value]) => ["cells." + name, value]), before = location.hash;
    const listed = () => {
      const table = document.getElementById("table-cells");
      if (cell && ways.explain && table && table.dataset.shown === "0") copy(ways.explain + " " + cell);
    };
    addEventListener("hashchange", () => setTimeout(listed), { once: true });
    location.hash = "#table-cells?" + new URLSearchParams(query);
    // Where one is already no address changes, and still one is to be led there.
    if (location.hash === before) dispatchEvent(new Event("hashchange"));
  };
  document.addEventListener("click", (event) => {
    const mark = event.target.closest("g[data-cells]");
    if (mark) lead(mark);
  });
  // By keys a figure is one stop, and arrows go from mark to mark in it.
  document.querySelectorAll("figure .art").forEach((art) => {
    const marks = [...art.querySelectorAll("g[data-cells]")];
    marks.forEach((mark, index) => {
      mark.setAttribute("role", "link");
      mark.setAttribute("aria-label", mark.querySelector("title").textContent);
      mark.setAttribute("tabindex", index ? "-1" : "0");
    });
    const next = (from, [x, y]) => {
      const middle = (mark) => {
        const box = mark.getBoundingClientRect();
        return [box.x + box.width / 2, box.y + box.height / 2];
      };
      const [left, top] = middle(from);
      let best = null, least = Infinity;
      for (const mark of marks) {
        const [right, bottom] = middle(mark), along = (right - left) * x + (bottom - top) * y;
        const far = along + 4 * Math.abs((right - left) * y + (bottom - top) * x);
        if (mark !== from && along > 1 && far < least) [best, least] = [mark, far];
      }
      return best;
    };
    const ARROWS = { ArrowRight: [1, 0], ArrowLeft: [-1, 0], ArrowDown: [0, 1], ArrowUp: [0, -1] };
    art.addEventListener("keydown", (event) => {
      const mark = event.target.closest("g[data-cells]");
      if (!mark) return;
      if (event.key === "Enter" || event.key === " ") lead(mark);
      else if (event.key in ARROWS) {
        const to = next(mark, ARROWS[event.key]);
        if (to) {
          mark.setAttribute("tabindex", "-1");
          to.setAttribute("tabindex", "0");
          to.focus();
        }
      } else return;
      event.preventDefault();
    });
  });
  // Where a figure is wider than the screen it can be moved by keys.
  const reach = () => document.querySelectorAll(".art").forEach((art) => {
    if (art.scrollWidth > art.clientWidth) art.tabIndex = 0; else art.removeAttribute("tabindex");
  });
  addEventListener("resize", reach);
  reach();
  document.querySelectorAll("button.copy[hidden]").forEach((b) => { b.hidden = false; });
})();

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
    const text = button.dataset.copy;
    if (!navigator.clipboard) say(false, text);
    else navigator.clipboard.writeText(text).then(() => say(true, text), () => say(false, text));
  });
  // A tile leads to its cells, as the counts of the table by scenario do.
  document.addEventListener("click", (event) => {
    const tile = event.target.closest("g[data-cells]");
    if (!tile) return;
    const query = [...new URLSearchParams(tile.dataset.cells)].map(([name, value]) => ["cells." + name, value]);
    location.hash = "#table-cells?" + new URLSearchParams(query);
  });
  // Where a figure is wider than the screen it can be moved by keys.
  const reach = () => document.querySelectorAll(".art").forEach((art) => {
    if (art.scrollWidth > art.clientWidth) art.tabIndex = 0; else art.removeAttribute("tabindex");
  });
  addEventListener("resize", reach);
  reach();
  document.querySelectorAll("button.copy[hidden]").forEach((b) => { b.hidden = false; });
})();

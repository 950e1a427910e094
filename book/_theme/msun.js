// The slider of ipywidgets speaks the number of a stop ("12") and has no name. Give it its label, and the stop's text.
(() => {
  const put = (element, name, value) => {
    if (element.getAttribute(name) !== value) element.setAttribute(name, value);
  };
  const dress = () => {
    for (const widget of document.querySelectorAll(".widget-hslider")) {
      const handle = widget.querySelector(".noUi-handle");
      const label = widget.querySelector(".widget-label");
      const readout = widget.querySelector(".widget-readout");
      if (!handle || !label || !readout) continue;
      put(handle, "aria-label", label.textContent);
      put(handle, "aria-valuetext", readout.textContent);
    }
  };
  new MutationObserver(dress).observe(document.documentElement, {
    subtree: true, childList: true, characterData: true, attributeFilter: ["aria-valuetext"],
  });
})();

// The widgets ask for a queue that MathJax 2 had. MathJax 3 has none, and typesets the page by itself.
(() => {
  const queued = (mathjax) => {
    if (mathjax && !mathjax.Hub) mathjax.Hub = { Queue() {} };
    return mathjax;
  };
  let held = queued(window.MathJax);
  Object.defineProperty(window, "MathJax", {
    configurable: true, get: () => held, set: (mathjax) => { held = queued(mathjax); },
  });
})();

// A table that is wider than the page scrolls in itself: let the keyboard reach it. Sphinx gives citations a role that their
// element may not have.
window.addEventListener("load", () => {
  for (const table of document.querySelectorAll("table.table")) {
    if (table.scrollWidth > table.clientWidth) table.tabIndex = 0;
  }
  for (const entry of document.querySelectorAll(".citation[role], .citation-list[role]")) entry.removeAttribute("role");
});

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

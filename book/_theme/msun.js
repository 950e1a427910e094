// A slider shows the stop that it stands at, and says it. All stops are in the page.
for (const slider of document.querySelectorAll(".msun-slider")) {
  const input = slider.querySelector("input");
  const stops = slider.querySelectorAll(".msun-stop");
  const show = () => {
    stops.forEach((stop, number) => stop.classList.toggle("msun-shown", number === input.valueAsNumber));
    const said = stops[input.valueAsNumber].dataset.stop;
    slider.querySelector("output").textContent = said;
    input.setAttribute("aria-valuetext", said);
  };
  input.addEventListener("input", show);
  show();
}

// What is wider than the page scrolls in itself: wide tables, and pictures on a phone. The keyboard can reach it, and its
// right edge fades as long as there is more. Code has its place in the order of the keys from the theme.
(() => {
  const scrollers = "table.table, .msun-scroll, div.highlight pre";
  const mark = (element) => {
    const hidden = element.scrollWidth - element.clientWidth;
    element.classList.toggle("msun-more", hidden - element.scrollLeft > 2);
    if (element.matches("pre")) return;
    if (hidden > 0) element.tabIndex = 0;
    else element.removeAttribute("tabindex");
    if (element.matches(".msun-scroll")) element.role = hidden > 0 ? "group" : null;
    if (element.matches(".msun-scroll")) element.ariaLabel = hidden > 0 ? "picture, scrolls sideways" : null;
  };
  const frame = (picture) => {
    const whole = picture.closest("a") ?? picture;
    const around = document.createElement("div");
    around.className = "msun-scroll";
    picture.style.setProperty("--drawn", `${picture.naturalWidth}px`);
    whole.replaceWith(around);
    around.append(whole);
  };
  const seen = new WeakSet();
  // The next picture of a slider is shown from where the last one was scrolled to.
  const lefts = new WeakMap();
  const scrolled = (element) => {
    const slider = element.closest(".msun-slider");
    if (slider && element.clientWidth) lefts.set(slider, element.scrollLeft);
    mark(element);
  };
  const shown = (element) => {
    const left = lefts.get(element.closest(".msun-slider"));
    if (left) element.scrollLeft = left;
    mark(element);
  };
  const sizes = new ResizeObserver((entries) => entries.forEach((entry) => shown(entry.target)));
  const watch = () => {
    for (const element of document.querySelectorAll(scrollers)) {
      if (seen.has(element)) continue;
      seen.add(element);
      element.addEventListener("scroll", () => scrolled(element), { passive: true });
      sizes.observe(element);
      shown(element);
    }
  };
  window.addEventListener("load", () => {
    for (const picture of document.querySelectorAll(".cell_output img:not(.msun-frame)")) {
      if (picture.naturalWidth > 720) frame(picture); // as `WIDE` in widgets.py
    }
    watch();
    new MutationObserver(watch).observe(document.body, { subtree: true, childList: true });
  });
})();

// Sphinx gives citations a role that their element may not have.
window.addEventListener("load", () => {
  for (const entry of document.querySelectorAll(".citation[role], .citation-list[role]")) entry.removeAttribute("role");
});

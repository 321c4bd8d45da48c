// Draws the figures, copies lines, fades masks and prepares for print. Reads data only as JSON, writes no markup.
(function () {
  "use strict";
  const root = document.documentElement;
  root.classList.add("js");
  const boxes = Array.from(document.querySelectorAll("[data-figure]"));

  function draw(box) {
    const figure = JSON.parse(document.getElementById(box.dataset.figure + "-data").textContent);
    return Plotly.newPlot(box, figure.data, figure.layout, {
      responsive: true,
      displaylogo: false,
      scrollZoom: false,
      doubleClick: false,
      modeBarButtons: [["toImage"]],
      toImageButtonOptions: { format: "svg", filename: box.dataset.figure, height: null, width: null },
    });
  }
  Promise.all(boxes.map(draw)).then(function () {
    root.dataset.drawn = String(boxes.length);
  });

  function select(element) {
    const range = document.createRange();
    range.selectNodeContents(element);
    const selection = window.getSelection();
    selection.removeAllRanges();
    selection.addRange(range);
  }
  for (const button of document.querySelectorAll("[data-copy]")) {
    button.hidden = false;
    button.addEventListener("click", function () {
      const source = document.getElementById(button.dataset.copy);
      const done = function (words) {
        button.textContent = words;
        setTimeout(function () { button.textContent = "Copy"; }, 2000);
      };
      const fallback = function () { select(source); done("Selected: press Ctrl+C"); };
      if (!navigator.clipboard) { fallback(); return; }
      navigator.clipboard.writeText(source.textContent).then(function () { done("Copied"); }, fallback);
    });
  }

  for (const slider of document.querySelectorAll("[data-opacity]")) {
    slider.closest("label").hidden = false;
    slider.addEventListener("input", function () {
      document.getElementById(slider.dataset.opacity).style.setProperty("--mask", slider.value / 100);
    });
  }

  const PRINT_WIDTH_PX = 640;
  let opened = [];
  window.addEventListener("beforeprint", function () {
    opened = Array.from(document.querySelectorAll("details:not([open])"));
    for (const part of opened) { part.open = true; }
    for (const box of boxes) {
      Plotly.relayout(box, { width: PRINT_WIDTH_PX, autosize: false });
      Plotly.redraw(box); // places the legend for the new width
    }
  });
  window.addEventListener("afterprint", function () {
    for (const part of opened) { part.open = false; }
    for (const box of boxes) { Plotly.relayout(box, { width: null, autosize: true }); }
  });
})();

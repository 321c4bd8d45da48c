// Draws the figures one after the other, saves them, copies lines, moves sliders and prepares for print.
// Reads data only as JSON, writes no markup.
(function () {
  "use strict";
  const root = document.documentElement;
  root.classList.add("js");
  const isShown = function (box) { return !box.closest("details:not([open])"); };
  const boxes = Array.from(document.querySelectorAll("[data-figure]"));
  let waiting = boxes.filter(isShown);

  function data(id) {
    return JSON.parse(document.getElementById(id).textContent);
  }
  let library = null;
  function unpack() {
    const packed = atob(document.getElementById("library").textContent);
    const bytes = new Uint8Array(packed.length);
    for (let at = 0; at < packed.length; at += 1) { bytes[at] = packed.charCodeAt(at); }
    return new Response(new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"))).text();
  }
  function load() {
    // the plotting library is packed text until the page is shown, so that nothing waits for it
    library = library || unpack().then(function (text) {
      performance.mark("drawing");
      const script = document.createElement("script");
      script.textContent = text;
      document.head.append(script);
    });
    return library;
  }
  function draw(box) {
    const figure = data(box.dataset.figure + "-data");
    Plotly.newPlot(box, figure.data, figure.layout, {
      responsive: true, displayModeBar: false, scrollZoom: false, doubleClick: false,
    });
    box.dataset.done = "";
  }
  function drawNext() {
    if (waiting.length) { draw(waiting.shift()); setTimeout(drawNext, 0); return; }
    root.dataset.drawn = String(document.querySelectorAll("[data-done]").length);
  }
  window.addEventListener("load", function () { setTimeout(function () { load().then(drawNext); }, 0); });
  for (const part of document.querySelectorAll("details")) {
    part.addEventListener("toggle", function () {
      if (!part.open) { return; }
      const inside = Array.from(part.querySelectorAll("[data-figure]:not([data-done])")).filter(isShown);
      load().then(function () { inside.filter(function (box) { return !("done" in box.dataset); }).forEach(draw); });
    });
  }

  const links = new Map();
  for (const link of document.querySelectorAll("nav a")) { links.set(link.hash.slice(1), link); }
  const places = Array.from(links.keys(), function (id) { return document.getElementById(id); });
  function mark() {
    // the last part whose top is above a third of the window
    const line = window.innerHeight / 3;
    let here = places.filter(function (part) { return part.getBoundingClientRect().top < line; }).pop() || places[0];
    const end = document.documentElement.scrollHeight - 2;
    if (window.scrollY > 0 && window.scrollY + window.innerHeight >= end) { here = places[places.length - 1]; }
    for (const pair of links) {
      if (pair[0] !== here.id) { pair[1].removeAttribute("aria-current"); continue; }
      if (pair[1].getAttribute("aria-current")) { continue; }
      pair[1].setAttribute("aria-current", "true");
      const list = pair[1].closest("ul");
      list.scrollLeft = pair[1].offsetLeft - list.clientWidth / 3;
    }
  }
  if (places.length) { window.addEventListener("scroll", mark, { passive: true }); mark(); }
  function openTo() {
    // a link into a folded part opens it
    const target = document.getElementById(location.hash.slice(1));
    for (let part = target; part; part = part.parentElement) { if (part.tagName === "DETAILS") { part.open = true; } }
  }
  window.addEventListener("hashchange", openTo);
  openTo();

  function save(name, kind, text) {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([text], { type: kind }));
    link.download = name;
    link.click();
    setTimeout(function () { URL.revokeObjectURL(link.href); }, 10000);
  }
  const INK = "#22262b";
  const PAPER = "#ffffff";
  function svgOfPlot(box) {
    const figure = data(box.dataset.figure + "-data");
    const layout = Object.assign({}, figure.layout, { paper_bgcolor: PAPER, plot_bgcolor: PAPER });
    layout.font = Object.assign({}, layout.font, { color: INK });
    const size = { format: "svg", width: Math.max(box.clientWidth, 480), height: figure.layout.height };
    return load().then(function () {
      return Plotly.toImage({ data: figure.data, layout: layout }, size);
    }).then(function (uri) {
      return decodeURIComponent(uri.slice(uri.indexOf(",") + 1));
    });
  }
  function svgOfPictures(group) {
    // small pictures in rows, each under its name
    const columns = 4;
    const space = "http://www.w3.org/2000/svg";
    const whole = document.createElementNS(space, "svg");
    const parts = Array.from(group.children);
    const first = parts[0].querySelector("svg").viewBox.baseVal;
    const height = first.height + 24;
    parts.forEach(function (part, index) {
      const x = (index % columns) * first.width;
      const y = Math.floor(index / columns) * height;
      const name = document.createElementNS(space, "text");
      name.textContent = part.querySelector("p").textContent;
      const small = part.querySelector("svg").cloneNode(true);
      const places = { x: x, y: y + 20, width: first.width, height: first.height };
      for (const key of Object.keys(places)) { small.setAttribute(key, places[key]); }
      for (const pair of [["x", x + 8], ["y", y + 15], ["font-family", "sans-serif"], ["font-size", 12], ["fill", INK]]) {
        name.setAttribute(pair[0], pair[1]);
      }
      whole.append(name, small);
    });
    const size = [columns * first.width, Math.ceil(parts.length / columns) * height];
    whole.setAttribute("viewBox", "0 0 " + size.join(" "));
    whole.setAttribute("style", "background:" + PAPER);
    return Promise.resolve(new XMLSerializer().serializeToString(whole));
  }
  for (const bar of document.querySelectorAll(".exports")) { bar.hidden = false; }
  for (const button of document.querySelectorAll("[data-save]")) {
    button.addEventListener("click", function () {
      const key = button.dataset.save;
      if (button.dataset.kind === "CSV") { save(key + ".csv", "text/csv", "\ufeff" + data(key + "-csv")); return; }
      const box = document.querySelector('[data-figure="' + key + '"]');
      const text = box ? svgOfPlot(box) : svgOfPictures(document.querySelector('[data-pictures="' + key + '"]'));
      text.then(function (svg) { save(key + ".svg", "image/svg+xml", svg); });
    });
  }

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
  for (const slider of document.querySelectorAll("[data-compare]")) {
    const pair = slider.parentElement;
    slider.hidden = false;
    const follow = function () { pair.style.setProperty("--at", slider.value + "%"); };
    slider.addEventListener("input", follow);
    const drag = function (event) {
      if (event.target === slider || !event.buttons) { return; }
      const box = pair.querySelector(".stack").getBoundingClientRect();
      slider.value = 100 * (event.clientX - box.left) / box.width;
      follow();
    };
    pair.addEventListener("pointerdown", drag);
    pair.addEventListener("pointermove", drag);
    for (const image of pair.querySelectorAll("img")) { image.draggable = false; }
  }

  for (const button of document.querySelectorAll("[data-slide]")) {
    button.hidden = false;
    button.addEventListener("click", function () {
      const is = button.closest(".case").classList.toggle("sliding");
      button.setAttribute("aria-pressed", String(is));
    });
  }

  const PRINT_WIDTH_PX = 640;
  const PRINT_HEIGHT_PX = 250;
  window.addEventListener("beforeprint", function () {
    // what is folded stays folded: a print holds what is shown
    for (const box of boxes.filter(isShown)) {
      if (!("done" in box.dataset)) { continue; }
      const columns = box.closest(".three") ? 3 : box.closest(".two, .lead") ? 2 : 1;
      Plotly.relayout(box, { width: PRINT_WIDTH_PX / columns, height: PRINT_HEIGHT_PX, autosize: false });
    }
  });
  window.addEventListener("afterprint", function () {
    for (const box of boxes.filter(isShown)) {
      if ("done" in box.dataset) { Plotly.relayout(box, { width: null, height: data(box.dataset.figure + "-data").layout.height, autosize: true }); }
    }
  });
})();

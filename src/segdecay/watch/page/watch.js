// Asks this machine for the state of the run and shows it. Writes text only, never markup.
(function () {
  "use strict";
  const SPACE = "http://www.w3.org/2000/svg";
  const OFTEN_MS = 2000;
  const SELDOM_MS = 15000; // a run that nobody works on
  const WORDS = { running: "running", finishing: "final training and report", finished: "finished", stopped: "stopped" };
  const by = function (id) { return document.getElementById(id); };

  function say(id, text) {
    const element = by(id);
    if (element.textContent !== text) { element.textContent = text; }
  }
  function score(value) { return value === null || value === undefined ? "–" : value.toFixed(3); }
  function short(value) { return value === null || value === undefined ? "–" : String(Number(value.toPrecision(3))); }
  function duration(seconds) {
    if (seconds === null || seconds === undefined) { return "–"; }
    const whole = Math.round(seconds);
    if (whole < 60) { return whole + " s"; }
    if (whole < 3600) { return Math.floor(whole / 60) + " min " + (whole % 60) + " s"; }
    return Math.floor(whole / 3600) + " h " + Math.floor((whole % 3600) / 60) + " min";
  }
  function fill(id, rows) {
    // rows: {kind, cells}; the first cell is the head of its row
    const body = by(id);
    const made = rows.map(function (row) {
      const line = document.createElement("tr");
      line.className = row.kind || "";
      row.cells.forEach(function (text, index) {
        const cell = document.createElement(index ? "td" : "th");
        if (!index) { cell.scope = "row"; }
        if (row.words === index) { cell.className = "words"; }
        cell.textContent = text;
        line.append(cell);
      });
      return line;
    });
    body.replaceChildren.apply(body, made);
  }
  function part(kind, attributes, text) {
    const element = document.createElementNS(SPACE, kind);
    for (const key of Object.keys(attributes)) { element.setAttribute(key, attributes[key]); }
    if (text !== undefined) { element.textContent = text; }
    return element;
  }
  function ticks(low, high) {
    const rough = (high - low) / 4;
    const power = Math.pow(10, Math.floor(Math.log10(rough)));
    const step = [1, 2, 5, 10].map(function (one) { return one * power; }).find(function (one) { return one >= rough; });
    const found = [];
    for (let at = Math.ceil(low / step) * step; at <= high + step / 1e6; at += step) { found.push(Number(at.toPrecision(6))); }
    return found;
  }
  const LEAST = .02; // of an axis: smaller differences are not worth the picture
  const WIDE = 560;
  const HIGH = 280;
  const LEFT = 58;
  function frame(id, values) {
    // the empty chart, and the function that places a value; null without values
    const chart = by(id);
    chart.setAttribute("viewBox", "0 0 " + WIDE + " " + HIGH);
    chart.replaceChildren();
    if (!values.length) {
      chart.append(part("text", { x: WIDE / 2, y: HIGH / 2, "text-anchor": "middle" }, "nothing yet"));
      return null;
    }
    let low = Math.min.apply(null, values);
    let high = Math.max.apply(null, values);
    if (high - low < LEAST) {
      const middle = (low + high) / 2;
      low = middle - LEAST / 2;
      high = middle + LEAST / 2;
    }
    const room = (high - low) * .06;
    low -= room;
    high += room;
    const y = function (value) { return Math.round(10 * (HIGH - 28 - (value - low) / (high - low) * (HIGH - 42))) / 10; };
    for (const mark of ticks(low, high)) {
      chart.append(part("path", { class: "grid", d: "M" + LEFT + " " + y(mark) + "H" + WIDE }));
      chart.append(part("text", { x: LEFT - 6, y: y(mark) + 4, "text-anchor": "end" }, String(mark)));
    }
    return { chart: chart, y: y };
  }
  function known(value) { return value !== null && value !== undefined; }

  function kinds(state) {
    // a colour for every setting: the first (without regularization), the leading one, others
    const found = {};
    state.settings.forEach(function (one, index) {
      found[one.name] = one.standing === "leads" && index ? "leads" : index ? "other" : "none";
    });
    return found;
  }
  function drawScores(state, kind) {
    const values = [];
    for (const one of state.settings) { for (const fold of one.folds) { if (known(fold[1])) { values.push(fold[1]); } } }
    const made = frame("scores", values);
    if (!made) { return; }
    const step = (WIDE - LEFT) / state.settings.length;
    const shown = Math.max(1, Math.ceil(state.settings.length / 9));
    state.settings.forEach(function (one, index) {
      const x = LEFT + (index + .5) * step;
      const name = one.name.replace(/^.*=/, "");
      if (index % shown === 0) { made.chart.append(part("text", { x: x, y: HIGH - 8, "text-anchor": "middle" }, name.slice(0, 14))); }
      for (const fold of one.folds) {
        if (known(fold[1])) { made.chart.append(part("circle", { class: kind[one.name], cx: x, cy: made.y(fold[1]), r: 4 })); }
      }
      if (known(one.mean)) {
        const y = made.y(one.mean);
        made.chart.append(part("path", { class: "mean " + kind[one.name], d: "M" + (x - step / 4) + " " + y + "H" + (x + step / 4) }));
      }
    });
  }
  function drawCurves(id, state, kind, which) {
    const rows = state.rows.filter(function (row) { return row.fold > 0 && row.curve.some(function (one) { return known(one[which]); }); });
    const values = [];
    for (const row of rows) { for (const one of row.curve) { if (known(one[which])) { values.push(one[which]); } } }
    const made = frame(id, values);
    if (!made) { return; }
    const last = Math.max(2, state.epochs, Math.max.apply(null, rows.map(function (row) { return row.curve[row.curve.length - 1][0]; })));
    const x = function (epoch) { return Math.round(10 * (LEFT + 4 + (epoch - 1) / (last - 1) * (WIDE - LEFT - 12))) / 10; };
    for (const mark of ticks(1, last)) {
      if (mark === Math.round(mark)) { made.chart.append(part("text", { x: x(mark), y: HIGH - 8, "text-anchor": "middle" }, String(mark))); }
    }
    const order = { other: 0, none: 1, leads: 2 };
    rows.sort(function (a, b) { return order[kind[a.setting] || "other"] - order[kind[b.setting] || "other"]; });
    for (const row of rows) {
      const points = row.curve.filter(function (one) { return known(one[which]); });
      const path = points.map(function (one, index) { return (index ? "L" : "M") + x(one[0]) + " " + made.y(one[which]); }).join("");
      const line = part("path", { class: (kind[row.setting] || "other") + (row.status === "running" ? " running" : ""), d: path });
      line.append(part("title", {}, row.setting + ", fold " + row.fold));
      made.chart.append(line);
    }
  }

  function showKeys(state) {
    const running = state.rows.filter(function (row) { return row.status === "running"; });
    say("finished", String(state.finished));
    const least = state.least && state.least < state.most ? state.least + " to " : "";
    say("of", state.most ? "of " + least + state.most + (least ? ", as the race needs" : "") : "");
    say("running", String(running.length));
    say("epochs", running.filter(function (row) { return row.epoch; }).map(function (row) {
      return row.setting + (row.fold ? " fold " + row.fold : "") + ": epoch " + row.epoch + " of " + state.epochs;
    }).join("; "));
    say("left", state.left_s === null ? "–" : "≤ " + duration(state.left_s));
    say("left-more", state.left_s === null ? "" : "for the trials, from the median of the finished ones; then the final training");
    const best = leading(state);
    say("best", best ? score(best.mean) : "–");
    say("best-more", best ? best.name + ": mean " + state.criterion + " of " + best.folds.length + (best.folds.length === 1 ? " fold" : " folds") : "");
  }
  function leading(state) {
    // the leader of the race; without one the best of the settings that have the most folds
    const leads = state.settings.find(function (one) { return one.standing === "leads"; });
    if (leads && known(leads.mean)) { return leads; }
    const most = Math.max.apply(null, [0].concat(state.settings.map(function (one) { return one.folds.length; })));
    const scored = state.settings.filter(function (one) { return known(one.mean) && one.folds.length === most; });
    return scored.reduce(function (a, b) { return !a || b.mean > a.mean ? b : a; }, null);
  }
  function show(state) {
    document.title = state.finished + (state.most ? "/" + state.most : "") + " · " + state.name;
    say("over", "segdecay watch" + (state.command ? " · " + state.command : ""));
    say("name", state.name);
    say("status", WORDS[state.status]);
    by("status").className = "badge " + state.status;
    say("typed", state.typed);
    showKeys(state);
    by("result").hidden = !state.result;
    if (state.result) { say("result-title", state.result.title); say("result-text", state.result.sentence); }
    by("report").hidden = !(state.result && state.has_report);
    const told = state.status === "stopped" ? "No process works on this run. The same command resumes it. " : "";
    say("race", told + (state.race || ""));
    say("scores-caption", state.criterion + " on validation images: a circle a fold, a line the mean of its folds. Settings are compared on shared folds only.");
    const kind = kinds(state);
    drawScores(state, kind);
    fill("settings", state.settings.map(function (one) {
      const out = /^(eliminated|diverged|failed)/.test(one.standing);
      return {
        kind: one.standing === "leads" ? "leads" : out ? "out" : "",
        words: 4,
        cells: [one.name, short(one.lambda), String(one.folds.length), score(one.mean), one.standing],
      };
    }));
    drawCurves("loss", state, kind, 1);
    drawCurves("score", state, kind, 2);
    fill("rows", state.rows.map(function (row) {
      return {
        words: 3,
        cells: [row.setting, row.fold ? String(row.fold) : "all", String(row.seed), row.status + (row.reason ? ": " + row.reason : ""),
          score(row.score), score(row.train), String(row.epoch), duration(row.seconds)],
      };
    }));
    by("faults").hidden = !state.faults.length;
    by("fault-list").replaceChildren.apply(by("fault-list"), state.faults.map(function (text) {
      const item = document.createElement("li");
      item.textContent = text;
      return item;
    }));
  }
  function lost(text) {
    by("lost").hidden = !text;
    say("lost", text);
  }
  function look() {
    fetch("/state.json", { cache: "no-store" }).then(function (answer) { return answer.json(); }).then(function (state) {
      lost(state.error || "");
      if (!state.error) { show(state); }
      say("looked", "Read at " + new Date().toLocaleTimeString() + ". This page only reads.");
      document.documentElement.dataset.looks = String(Number(document.documentElement.dataset.looks || 0) + 1);
      setTimeout(look, state.status === "finished" || state.status === "stopped" ? SELDOM_MS : OFTEN_MS);
    }).catch(function () {
      lost("segdecay watch has ended: what is shown is as it was last read.");
      setTimeout(look, OFTEN_MS);
    });
  }
  look();
})();

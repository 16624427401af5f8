(function () {
  "use strict";
  var specs = JSON.parse(document.getElementById("specs").textContent);
  var coarse = window.matchMedia("(pointer: coarse)").matches;
  var config = { responsive: true, displaylogo: false, scrollZoom: false,
    modeBarButtons: [["toImage", "resetScale2d"]] };
  function drawn(node) { return node.classList.contains("js-plotly-plot"); }
  function visible(node) { return node.closest("details:not([open])") === null; }
  function draw(node) {
    var spec = specs[node.id];
    // dragging must scroll the page on a touch screen
    spec.layout.dragmode = coarse ? false : "zoom";
    var bar = coarse || small(node) ? false : "hover";
    return Plotly.newPlot(node, spec.data, spec.layout, Object.assign({ displayModeBar: bar }, config));
  }
  function small(node) { return node.closest(".grid") !== null; }
  function drawVisible(root) {
    var waiting = Array.prototype.filter.call(root.querySelectorAll(".chart"), function (node) {
      return !drawn(node) && visible(node);
    });
    function next() {
      var node = waiting.shift();
      if (!node) { document.documentElement.dataset.plots = "ready"; return; }
      draw(node).then(function () { setTimeout(next, 0); });
    }
    document.documentElement.dataset.plots = "drawing";
    next();
  }
  document.querySelectorAll("details").forEach(function (box) {
    box.addEventListener("toggle", function () { if (box.open) { drawVisible(box); } });
  });
  document.querySelectorAll('a[href="#words"]').forEach(function (link) {
    link.addEventListener("click", function () { document.querySelector("#words details").open = true; });
  });
  function resize(width) {
    document.querySelectorAll(".js-plotly-plot").forEach(function (node) {
      if (!visible(node)) { return; }
      var full = specs[node.id].layout.height;
      var size = width
        ? { autosize: false, width: small(node) ? width / 2 - 8 : width, height: small(node) ? 0.85 * full : 0.8 * full }
        : { autosize: true, width: null, height: full };
      Plotly.relayout(node, size);
    });
  }
  // A4 less the page margins is 182 mm, 688 CSS pixels
  window.addEventListener("beforeprint", function () {
    document.querySelector("#words details").open = true;  // paper has no tooltips
    resize(680);
  });
  window.addEventListener("afterprint", function () { resize(0); });
  drawVisible(document);
})();

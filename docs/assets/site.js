// Wide tables scroll inside their frame; with this a keyboard can scroll them too.
addEventListener("load", () => setTimeout(() => {
  document.querySelectorAll(".md-typeset__scrollwrap").forEach(frame => { frame.tabIndex = 0 })
}, 0))

// The theme that was chosen last, before anything is painted. Not a module: those run after the first paint.
try {
  document.documentElement.dataset.theme = localStorage.getItem("kvroute.theme") || "system";
} catch {
  // Storage is switched off: the system's theme it is.
}

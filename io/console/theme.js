// Light, dark, or as the system has it.
import { icon } from "./dom.js";

const THEMES = ["system", "light", "dark"];
const KEY = "kvroute.theme";

function show(button, theme) {
  document.documentElement.dataset.theme = theme;
  const next = THEMES[(THEMES.indexOf(theme) + 1) % THEMES.length];
  button.replaceChildren(icon(theme, ""));
  button.title = `Theme: ${theme}. Click for ${next}.`;
  button.setAttribute("aria-label", button.title);
}

/** Has a button go round the themes. */
export function startTheme(button) {
  const now = () => Math.max(0, THEMES.indexOf(document.documentElement.dataset.theme));
  show(button, THEMES[now()]);
  button.addEventListener("click", () => {
    const theme = THEMES[(now() + 1) % THEMES.length];
    try {
      localStorage.setItem(KEY, theme);
    } catch {
      // Storage is switched off: it holds until the page is left.
    }
    show(button, theme);
  });
}

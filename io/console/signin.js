// Asking for a token once the node wants one.
import { getJson } from "./api.js";
import { linkState, onLink, retryNow } from "./link.js";
import { onToken, setToken, token } from "./session.js";

const dialog = document.getElementById("sign-in");
const input = document.getElementById("token");
const wrong = document.getElementById("sign-in-wrong");
let declined = false;

function complain(words) {
  wrong.textContent = words;
  wrong.hidden = !words;
  input.setAttribute("aria-invalid", words ? "true" : "false");
}

/** Opens the dialog. */
export function openSignIn() {
  declined = false;
  if (dialog.open) return;
  complain(token() ? "The token in use is not accepted any more." : "");
  input.value = "";
  dialog.showModal();
}

async function submit(event) {
  event.preventDefault();
  const before = token();
  const given = input.value.trim();
  if (!/^[\x21-\x7e]+$/.test(given)) {
    complain("A token has letters, digits and signs of ASCII only.");
    return;
  }
  setToken(given);
  try {
    await getJson("/v1/problems");
    dialog.close();
    retryNow();
  } catch (error) {
    setToken(before);
    complain(error.status === 401 ? "The node does not know this token." : `Not signed in: ${error.message}.`);
    input.select();
  }
}

/** Has the dialog come up at the first refusal, and the button sign out. */
export function startSignIn(signOut) {
  document.getElementById("sign-in-form").addEventListener("submit", submit);
  document.getElementById("sign-in-later").addEventListener("click", () => dialog.close());
  dialog.addEventListener("close", () => { declined = linkState().link === "refused"; });
  onLink((state) => {
    if (state.link === "refused" && !declined) openSignIn();
  });
  const show = () => { signOut.hidden = !token(); };
  onToken(show);
  show();
  signOut.addEventListener("click", () => {
    setToken(null);
    location.reload();
  });
}

//! A mouse and a keyboard: events as the browser gets them from its user.
use super::page::Page;
use super::quoted;
use serde_json::{Value, json};

/// A button of the mouse.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Button {
    /// For clicks.
    Left,
    /// For menus.
    Right,
}

/// Keys that have a name: what the page is told they are, and the number that Windows gives them.
const NAMED: &[(&str, u32)] = &[
    ("Backspace", 8),
    ("Tab", 9),
    ("Enter", 13),
    ("Escape", 27),
    ("PageUp", 33),
    ("PageDown", 34),
    ("End", 35),
    ("Home", 36),
    ("ArrowLeft", 37),
    ("ArrowUp", 38),
    ("ArrowRight", 39),
    ("ArrowDown", 40),
    ("Delete", 46),
];

/// Keys held down meanwhile, as the protocol counts them.
const MODIFIERS: &[(&str, u32)] = &[("Alt+", 1), ("Control+", 2), ("Meta+", 4), ("Shift+", 8)];

/// The middle of what a selector names first, once it is in view, and what else is there if something covers it.
const PLACE: &str = r"(selector => {
    const found = document.querySelector(selector);
    if (!found) return null;
    found.scrollIntoView({block: 'center', inline: 'center', behavior: 'instant'});
    const box = found.getBoundingClientRect();
    const [x, y] = [box.x + box.width / 2, box.y + box.height / 2];
    const top = document.elementFromPoint(x, y);
    const label = found.labels && [...found.labels].some(label => label.contains(top));
    return {x, y, cover: top && (found.contains(top) || label) ? null : String(top && top.outerHTML).slice(0, 200)};
})";

/// What one key is for the protocol.
fn key(name: &str) -> Value {
    if let Some((_, number)) = NAMED.iter().find(|(named, _)| *named == name) {
        let text = if name == "Enter" { "\r" } else { "" };
        return json!({"key": name, "code": name, "windowsVirtualKeyCode": number, "text": text});
    }
    let letter = name.chars().next().filter(|_| name.chars().count() == 1);
    let letter = letter.unwrap_or_else(|| panic!("no such key: {name}"));
    let code = match letter {
        'a'..='z' | 'A'..='Z' => format!("Key{}", letter.to_ascii_uppercase()),
        '0'..='9' => format!("Digit{letter}"),
        ' ' => "Space".to_owned(),
        _ => String::new(),
    };
    let number = if code.is_empty() {
        0
    } else {
        u32::from(letter.to_ascii_uppercase())
    };
    json!({"key": name, "code": code, "windowsVirtualKeyCode": number, "text": name})
}

/// The keys held down meanwhile, and the key.
fn chord(name: &str) -> (u32, &str) {
    let held = MODIFIERS.iter().find_map(|(prefix, bit)| {
        let rest = name.strip_prefix(prefix).filter(|rest| !rest.is_empty())?;
        let (more, key) = chord(rest);
        Some((bit | more, key))
    });
    held.unwrap_or((0, name))
}

impl Page<'_> {
    /// Clicks the middle of the first element that a selector finds.
    ///
    /// # Panics
    /// There is none, or something else is in front of it.
    pub fn click(&self, selector: &str) {
        let (x, y) = self.middle(selector);
        self.click_at(x, y, Button::Left);
    }

    /// Clicks this place of the window.
    pub fn click_at(&self, x: f64, y: f64, button: Button) {
        self.mouse("mouseMoved", x, y, "none");
        let button = match button {
            Button::Left => "left",
            Button::Right => "right",
        };
        self.mouse("mousePressed", x, y, button);
        self.mouse("mouseReleased", x, y, button);
    }

    /// Moves the mouse to this place of the window.
    pub fn hover(&self, x: f64, y: f64) {
        self.mouse("mouseMoved", x, y, "none");
    }

    /// The middle of the first element that a selector finds, which is brought into view.
    ///
    /// # Panics
    /// There is none, or something else is in front of it.
    #[must_use]
    pub fn middle(&self, selector: &str) -> (f64, f64) {
        let place = self.value(&format!("{PLACE}({})", quoted(selector)));
        assert!(!place.is_null(), "there is no {selector}");
        let cover = &place["cover"];
        assert!(cover.is_null(), "{selector} is covered by {cover}");
        let number = |field: &str| place[field].as_f64().expect("a number");
        (number("x"), number("y"))
    }

    fn mouse(&self, kind: &str, x: f64, y: f64, button: &str) {
        let clicks = u32::from(kind != "mouseMoved");
        let params = json!({"type": kind, "x": x, "y": y, "button": button, "clickCount": clicks});
        self.tell("Input.dispatchMouseEvent", &params);
    }

    /// Turns the wheel over a place of the window: down for a positive number of pixels.
    pub fn wheel(&self, x: f64, y: f64, down: f64) {
        let params = json!({"type": "mouseWheel", "x": x, "y": y, "deltaX": 0, "deltaY": down});
        self.tell("Input.dispatchMouseEvent", &params);
    }

    /// Presses a key, and lets it go: a letter or a name such as `Enter`, `Shift+Tab`, `Control+a`.
    ///
    /// # Panics
    /// There is no such key.
    pub fn press(&self, name: &str) {
        let (held, name) = chord(name);
        let mut event = key(name);
        event["modifiers"] = held.into();
        // Alt and Control make commands of letters.
        if held & 3 != 0 {
            event["text"] = "".into();
            if name == "a" {
                event["commands"] = json!(["selectAll"]);
            }
        }
        let typed = event["text"] != "";
        event["type"] = if typed { "keyDown" } else { "rawKeyDown" }.into();
        self.tell("Input.dispatchKeyEvent", &event);
        event["type"] = "keyUp".into();
        event["text"] = "".into();
        self.tell("Input.dispatchKeyEvent", &event);
    }

    /// Types a text, letter by letter.
    pub fn type_text(&self, text: &str) {
        for letter in text.chars() {
            match letter {
                '\n' => self.press("Enter"),
                _ => self.press(&letter.to_string()),
            }
        }
    }

    /// Puts a text where the cursor is, as by pasting.
    pub fn paste(&self, text: &str) {
        self.tell("Input.insertText", &json!({"text": text}));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_have_names() {
        assert_eq!(chord("Shift+Tab"), (8, "Tab"));
        assert_eq!(chord("Control+Shift+a"), (10, "a"));
        assert_eq!(chord("+"), (0, "+"));
        let event = key("q");
        assert_eq!(event["code"], "KeyQ");
        assert_eq!(event["windowsVirtualKeyCode"], 81);
        assert_eq!(key("Enter")["text"], "\r");
    }
}

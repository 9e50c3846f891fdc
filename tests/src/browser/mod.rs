//! A real browser: chromium without a window, told what to do by the DevTools protocol over two pipes.
//!
//! Input comes as from a mouse and a keyboard, not by calls of the page's own functions. All that a page complains of is
//! gathered: console messages, exceptions, what its policy forbids, requests that fail. Screenshots are kept in `console-screenshots`
//! of the target folder. Everything waits with a deadline, and what is waited for in vain is told with what the page shows.
mod input;
mod page;
mod png;
mod process;
mod seen;
mod wire;

pub use input::Button;
pub use page::{Page, screenshots};
pub use png::Image;
pub use process::{Browser, find_chromium};
pub use seen::{Complaint, Kind, Request};

use serde_json::Value;
use std::time::Duration;

/// Time for whatever is waited for, on a machine that is busy with builds.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A text as an expression of JavaScript.
#[must_use]
pub fn quoted(text: &str) -> String {
    Value::from(text).to_string()
}

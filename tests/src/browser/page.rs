//! One tab: where it is, what it shows, how it is looked at.
use super::PATIENCE;
use super::png::Image;
use super::process::Browser;
use super::seen::{Complaint, Kind, Request};
use crate::tidy::root;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};
use std::fs;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

/// Time between two looks at what is waited for.
const GLANCE: Duration = Duration::from_millis(20);

/// Most characters of a page's text that a failure tells.
const TOLD_MAX: usize = 4_000;

/// The folder where screenshots are kept.
#[must_use]
pub fn screenshots() -> PathBuf {
    let target = std::env::var_os("CARGO_TARGET_DIR").map(PathBuf::from);
    // Relative to the repository, as for cargo when it is run there.
    let target = root().join(target.unwrap_or_else(|| "target".into()));
    target.join("console-screenshots")
}

/// A tab of a browser.
#[derive(Debug)]
pub struct Page<'b> {
    browser: &'b Browser,
    session: String,
}

impl<'b> Page<'b> {
    pub(super) fn new(browser: &'b Browser, session: String) -> Self {
        let page = Self { browser, session };
        page.set_size(1280, 800);
        page
    }

    fn call(&self, method: &str, params: &Value) -> Result<Value, String> {
        self.browser.call(Some(&self.session), method, params)
    }

    /// Gives the browser a command of the DevTools protocol.
    ///
    /// # Panics
    /// It is refused, or there is no reply.
    pub fn tell(&self, method: &str, params: &Value) -> Value {
        let reply = self.call(method, params);
        reply.unwrap_or_else(|error| panic!("{error}"))
    }

    /// Goes to an address and waits until the document with all it names is loaded.
    ///
    /// # Panics
    /// It cannot be had.
    pub fn open(&self, url: &str) {
        let went = self.tell("Page.navigate", &json!({"url": url}));
        let error = &went["errorText"];
        assert!(error.is_null(), "{url}: {error}");
        self.wait_until("document.readyState === 'complete'");
    }

    /// Loads the page again.
    pub fn reload(&self) {
        self.run("globalThis.beforeReload = true");
        self.tell("Page.reload", &json!({}));
        self.wait_until("!globalThis.beforeReload && document.readyState === 'complete'");
    }

    fn evaluate(&self, expression: &str) -> Result<Value, String> {
        let params = json!({"expression": expression, "awaitPromise": true, "returnByValue": true});
        let reply = self.call("Runtime.evaluate", &params)?;
        match reply.get("exceptionDetails") {
            None => Ok(reply["result"]["value"].clone()),
            Some(details) => {
                let what = &details["exception"]["description"];
                Err(format!("{expression}: {}", what.as_str().unwrap_or("")))
            }
        }
    }

    /// What an expression comes to in the page; a promise is waited for, and what JSON has no word for is null.
    ///
    /// # Panics
    /// It throws.
    #[must_use = "an expression that is to do something has `run`"]
    pub fn value(&self, expression: &str) -> Value {
        let value = self.evaluate(expression);
        value.unwrap_or_else(|error| panic!("{error}"))
    }

    /// Evaluates an expression for what it does.
    ///
    /// # Panics
    /// It throws.
    pub fn run(&self, expression: &str) {
        let _ = self.value(expression);
    }

    /// The text that an expression comes to.
    ///
    /// # Panics
    /// It is none.
    #[must_use]
    pub fn text(&self, expression: &str) -> String {
        let value = self.value(expression);
        let text = value.as_str();
        text.unwrap_or_else(|| panic!("{expression} is {value}"))
            .to_owned()
    }

    /// The number that an expression comes to.
    ///
    /// # Panics
    /// It is none.
    #[must_use]
    pub fn number(&self, expression: &str) -> f64 {
        let value = self.value(expression);
        let number = value.as_f64();
        number.unwrap_or_else(|| panic!("{expression} is {value}"))
    }

    /// Whether an expression is true now, and nothing that only resembles it.
    #[must_use]
    pub fn is(&self, expression: &str) -> bool {
        self.value(expression) == true
    }

    /// Waits until an expression, or what it promises, is true. What throws, for what it looks at is not there yet, is not.
    ///
    /// # Panics
    /// It is not in time, or there is no reply.
    pub fn wait_until(&self, expression: &str) {
        let _ = self.wait_for(&format!(
            "(async () => (await ({expression})) === true || null)()"
        ));
    }

    /// Waits until an expression comes to something else than null, and returns that.
    ///
    /// # Panics
    /// It does not in time.
    #[must_use]
    pub fn wait_for(&self, expression: &str) -> Value {
        let give_up = Instant::now() + PATIENCE;
        loop {
            let value = self.evaluate(expression);
            if let Some(value) = value.as_ref().ok().filter(|value| !value.is_null()) {
                return value.clone();
            }
            assert!(
                Instant::now() < give_up,
                "not within {PATIENCE:?}: {expression} is {value:?}"
            );
            thread::sleep(GLANCE);
        }
    }

    /// Sets the size of the window in pixels.
    pub fn set_size(&self, width: u32, height: u32) {
        let params =
            json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": false});
        self.tell("Emulation.setDeviceMetricsOverride", &params);
    }

    /// Has the user prefer this, such as `prefers-color-scheme` and `dark`; what is not named is as it is by itself.
    pub fn set_media(&self, features: &[(&str, &str)]) {
        let features = features.iter();
        let features = features.map(|(name, value)| json!({"name": name, "value": value}));
        let features: Vec<_> = features.collect();
        let params = json!({"media": "", "features": features});
        self.tell("Emulation.setEmulatedMedia", &params);
    }

    /// Takes the network away, or gives it back.
    pub fn set_offline(&self, offline: bool) {
        let params = json!({"offline": offline, "latency": 0, "downloadThroughput": -1, "uploadThroughput": -1});
        self.tell("Network.emulateNetworkConditions", &params);
    }

    /// Keeps what the window shows as `NAME.png`, and returns its pixels.
    ///
    /// # Panics
    /// It cannot be had or kept.
    pub fn screenshot(&self, name: &str) -> Image {
        let file = self.picture(name);
        let file = file.unwrap_or_else(|error| panic!("{name}: {error}"));
        Image::decode(&file).expect("chromium writes PNG of eight bits a channel")
    }

    fn picture(&self, name: &str) -> Result<Vec<u8>, String> {
        let reply = self.call("Page.captureScreenshot", &json!({"format": "png"}))?;
        let data = reply["data"].as_str().ok_or("no picture")?;
        let file = BASE64_STANDARD.decode(data).map_err(|e| e.to_string())?;
        let folder = screenshots();
        let kept = fs::create_dir_all(&folder);
        let kept = kept.and_then(|()| fs::write(folder.join(format!("{name}.png")), &file));
        kept.map_err(|e| e.to_string())?;
        Ok(file)
    }

    /// All that is not well with the page so far, those of `Runtime.evaluate` before this included.
    #[must_use]
    pub fn complaints(&self) -> Vec<Complaint> {
        // What was noted before this reply is here by then.
        let _ = self.evaluate("1");
        self.browser
            .seen(&self.session, |seen| seen.complaints.clone())
    }

    /// Ends the test if there is any complaint but failed requests with one of these texts. Those so far are forgotten.
    ///
    /// # Panics
    /// There is.
    pub fn assert_well_but(&self, requests: &[&str]) {
        let expected = |complaint: &&Complaint| {
            let named = requests.iter().any(|text| complaint.text.contains(text));
            complaint.kind == Kind::Request && named
        };
        let complaints = self.complaints();
        let rest: Vec<_> = complaints.iter().filter(|c| !expected(c)).collect();
        assert!(rest.is_empty(), "the page complains: {rest:#?}");
        self.forget_complaints();
    }

    /// Forgets the complaints so far.
    pub fn forget_complaints(&self) {
        self.browser
            .seen(&self.session, |seen| seen.complaints.clear());
    }

    /// Ends the test if there is any complaint.
    ///
    /// # Panics
    /// There is.
    pub fn assert_well(&self) {
        self.assert_well_but(&[]);
    }

    /// All that the page has asked for so far.
    #[must_use]
    pub fn requests(&self) -> Vec<Request> {
        let _ = self.evaluate("1");
        self.browser
            .seen(&self.session, |seen| seen.requests.clone())
    }

    /// All that it has said on the console, with the level before it.
    #[must_use]
    pub fn console(&self) -> Vec<String> {
        let _ = self.evaluate("1");
        self.browser
            .seen(&self.session, |seen| seen.console.clone())
    }

    /// What somebody who is to find out why a test failed wants to know.
    fn told(&self) -> String {
        let thread = thread::current();
        let name = thread.name().unwrap_or("test").replace("::", "-");
        let picture = match self.picture(&format!("failed-{name}")) {
            Ok(_) => format!("failed-{name}.png in {}", screenshots().display()),
            Err(error) => error,
        };
        let shown = self.evaluate("location.href + '\\n' + document.body.innerText");
        let shown = shown.map(|text| text.as_str().unwrap_or_default().to_owned());
        let shown: String = shown.unwrap_or_default().chars().take(TOLD_MAX).collect();
        let (complaints, console) = self.browser.seen(&self.session, |seen| {
            (seen.complaints.clone(), seen.console.clone())
        });
        format!(
            "picture: {picture}\ncomplaints: {complaints:#?}\nconsole: {console:#?}\nthe page shows {shown}"
        )
    }
}

impl Drop for Page<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("{}", self.told());
        }
    }
}

//! What a page complains of, and what it asks for, gathered from the browser's events.
use serde_json::Value;
use std::collections::HashMap;
use std::fmt;

/// What kind of complaint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A warning or an error of the console.
    Console,
    /// An exception that nobody caught.
    Exception,
    /// What the content security policy forbids.
    Policy,
    /// A request that was answered with an error, or not at all.
    Request,
    /// What the browser notes by itself: deprecated or broken uses of its functions.
    Browser,
    /// A dialog of the old kind, such as `alert`.
    Dialog,
}

/// Something that is not well with a page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Complaint {
    /// What kind.
    pub kind: Kind,
    /// In the browser's words, with the address where there is one.
    pub text: String,
}

impl fmt::Display for Complaint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.kind, self.text)
    }
}

/// A request of a page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// GET or another.
    pub method: String,
    /// Where to.
    pub url: String,
    /// What it sends, if that is text.
    pub body: Option<String>,
}

/// All that was seen of one page.
#[derive(Debug, Default)]
pub(super) struct Seen {
    pub(super) complaints: Vec<Complaint>,
    pub(super) requests: Vec<Request>,
    /// Messages of all levels.
    pub(super) console: Vec<String>,
    /// Addresses by the browser's name of the request.
    urls: HashMap<String, String>,
}

fn text(value: &Value) -> String {
    value
        .as_str()
        .map_or_else(|| value.to_string(), str::to_owned)
}

/// An argument of a console message.
fn argument(value: &Value) -> String {
    let shown = ["value", "description", "type"].map(|field| &value[field]);
    let shown = shown.into_iter().find(|value| !value.is_null());
    text(shown.unwrap_or(&Value::Null))
}

impl Seen {
    pub(super) fn note(&mut self, method: &str, params: &Value) {
        match method {
            "Runtime.consoleAPICalled" => self.message(params),
            "Runtime.exceptionThrown" => {
                let details = &params["exceptionDetails"];
                let thrown = argument(&details["exception"]);
                let text = format!("{} {thrown} ({})", text(&details["text"]), details["url"]);
                self.complain(Kind::Exception, text);
            }
            "Log.entryAdded" => self.entry(&params["entry"]),
            "Audits.issueAdded" => self.issue(&params["issue"]),
            "Network.requestWillBeSent" => self.request(params),
            "Network.responseReceived" => {
                let status = params["response"]["status"].as_u64().unwrap_or_default();
                if status >= 400 {
                    let url = text(&params["response"]["url"]);
                    self.complain(Kind::Request, format!("{status} {url}"));
                }
            }
            // What the page itself gives up is no complaint.
            "Network.loadingFailed" if params["canceled"] != true => {
                let id = text(&params["requestId"]);
                let url = self.urls.get(&id).cloned().unwrap_or_default();
                let text = format!("{} {url}", text(&params["errorText"]));
                self.complain(Kind::Request, text);
            }
            "Page.javascriptDialogOpening" => {
                self.complain(Kind::Dialog, text(&params["message"]));
            }
            _ => {}
        }
    }

    fn complain(&mut self, kind: Kind, text: String) {
        self.complaints.push(Complaint { kind, text });
    }

    fn message(&mut self, params: &Value) {
        let args = params["args"].as_array().into_iter().flatten();
        let words: Vec<_> = args.map(argument).collect();
        let level = text(&params["type"]);
        let said = format!("{level}: {}", words.join(" "));
        if ["warning", "error", "assert"].contains(&level.as_str()) {
            self.complain(Kind::Console, said.clone());
        }
        self.console.push(said);
    }

    /// An entry of the browser's log. Requests that fail are known better from the network's own events.
    fn entry(&mut self, entry: &Value) {
        let loud = entry["level"] == "warning" || entry["level"] == "error";
        if !loud || entry["source"] == "network" {
            return;
        }
        let said = text(&entry["text"]);
        let kind = match entry["source"].as_str() {
            Some("security") => Kind::Policy,
            _ => Kind::Browser,
        };
        let url = entry["url"].as_str().unwrap_or_default();
        self.complain(kind, format!("{said} {url}"));
    }

    fn issue(&mut self, issue: &Value) {
        let details = &issue["details"]["contentSecurityPolicyIssueDetails"];
        if !details.is_null() {
            let directive = text(&details["violatedDirective"]);
            let why = text(&details["contentSecurityPolicyViolationType"]);
            let what = text(&details["blockedURL"]);
            self.complain(Kind::Policy, format!("{directive}: {why} {what}"));
        } else if issue["code"] == "DeprecationIssue" {
            self.complain(Kind::Browser, issue["details"].to_string());
        }
    }

    fn request(&mut self, params: &Value) {
        let (id, request) = (text(&params["requestId"]), &params["request"]);
        let url = text(&request["url"]);
        self.urls.insert(id, url.clone());
        self.requests.push(Request {
            method: text(&request["method"]),
            url,
            body: request["postData"].as_str().map(str::to_owned),
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_is_no_complaint_is_left_out() {
        let mut seen = Seen::default();
        let said = json!({"type": "log", "args": [{"type": "string", "value": "a"}, {"type": "number", "value": 1}]});
        seen.note("Runtime.consoleAPICalled", &said);
        let entry = json!({"entry": {"level": "info", "source": "other", "text": "x"}});
        seen.note("Log.entryAdded", &entry);
        let answer = json!({"requestId": "1", "response": {"status": 304, "url": "http://a/"}});
        seen.note("Network.responseReceived", &answer);
        let stopped = json!({"requestId": "1", "canceled": true, "errorText": "net::ERR_ABORTED"});
        seen.note("Network.loadingFailed", &stopped);
        assert_eq!(seen.complaints, []);
        assert_eq!(seen.console, ["log: a 1"]);
    }
}

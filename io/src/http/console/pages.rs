//! Runbooks and documents as pages, made of the same files that the repository has.
use hyper::body::Bytes;
use pulldown_cmark::{CowStr, Event, HeadingLevel, Options, Parser, Tag, TagEnd, html};
use std::borrow::Cow;
use std::collections::BTreeSet;
use std::sync::{LazyLock, OnceLock};

/// One document.
#[derive(Debug)]
pub(super) struct Page {
    /// Where it is served: `/runbooks` or `/docs`.
    folder: &'static str,
    /// Without `.md`.
    name: &'static str,
    text: &'static str,
    /// As it was made when it was asked for first.
    made: OnceLock<Bytes>,
}

macro_rules! pages {
    ($($folder:literal from $from:literal: $($name:literal)*;)*) => {
        static PAGES: LazyLock<Vec<Page>> = LazyLock::new(|| vec![$($(Page {
            folder: $folder,
            name: $name,
            text: include_str!(concat!("../../../../deploy/", $from, "/", $name, ".md")),
            made: OnceLock::new(),
        },)*)*]);
    };
}

pages! {
    "/runbooks" from "runbooks":
        "KvrouteConfigurationInvalid" "KvrouteDown" "KvrouteEngineFormatChanged" "KvrouteEnginesRestartOften"
        "KvrouteEventsDropped" "KvrouteEventsUnknown" "KvrouteFileDescriptorsNearLimit" "KvrouteGapsNotRepaired"
        "KvrouteIndexNearBudget" "KvrouteIngestLag" "KvrouteLocalTokenizerOff" "KvrouteLookupLatency" "KvrouteNoWorkers"
        "KvrouteNotReady" "KvrouteOverCredit" "KvroutePodsRefused" "KvrouteProbesFail" "KvrouteReloadFailed"
        "KvrouteReplicaDown" "KvrouteReplicaNotReady" "KvrouteReplicasDisagree" "KvrouteRequestLatency"
        "KvrouteRequestsFail" "KvrouteRequestsRefused" "KvrouteRestartsOften" "KvrouteSourceNotHeard"
        "KvrouteTokenizerFailing" "KvrouteWorkersContradicted" "KvrouteWorkersDistrusted" "KvrouteWorkersNotSynchronised"
        "KvrouteWorkersPartial" "KvrouteWorkersReplaying" "KvrouteWorkersStale" "README";
    "/docs" from "docs":
        "capacity" "compatibility" "configuration" "discovery" "host" "operation" "routing" "security" "troubleshooting";
}

/// The document at a path.
pub(super) fn find(path: &str) -> Option<&'static Page> {
    let (folder, name) = path.rsplit_once('/')?;
    PAGES
        .iter()
        .find(|page| page.folder == folder && page.name == name)
}

impl Page {
    /// The whole page, made once.
    pub(super) fn bytes(&self) -> Bytes {
        self.made.get_or_init(|| self.render().into()).clone()
    }

    /// The whole page. O(length of the document).
    fn render(&self) -> String {
        let title = self.title();
        let mut out = format!(
            "<!doctype html>\n<html lang=\"en\" data-theme=\"system\">\n<head>\n<meta charset=\"utf-8\">\n\
             <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
             <title>{title} · kvroute</title>\n<link rel=\"icon\" href=\"/console/icon.svg\">\n\
             <link rel=\"stylesheet\" href=\"/console/page.css\">\n\
             <script src=\"/console/early.js\"></script>\n</head>\n<body>\n\
             <nav><a href=\"/\">kvroute</a></nav>\n<main>\n"
        );
        html::push_html(&mut out, self.events().into_iter());
        out.push_str("</main>\n</body>\n</html>\n");
        out
    }

    fn title(&self) -> String {
        let heading = self.text.lines().find_map(|line| line.strip_prefix("# "));
        let mut out = String::new();
        let title = Event::Text(heading.unwrap_or(self.name).into());
        html::push_html(&mut out, std::iter::once(title));
        out
    }

    fn events(&self) -> Vec<Event<'static>> {
        let options = Options::ENABLE_TABLES | Options::ENABLE_STRIKETHROUGH;
        let mut events: Vec<_> = Parser::new_ext(self.text, options).collect();
        name_headings(&mut events);
        let mut shut = Vec::new();
        let linked = events.into_iter().filter_map(|event| match event {
            Event::Start(Tag::Link {
                link_type,
                dest_url,
                title,
                id,
            }) => {
                let target = self.target(&dest_url);
                shut.push(target.is_none());
                let dest_url = target?;
                Some(Event::Start(Tag::Link {
                    link_type,
                    dest_url,
                    title,
                    id,
                }))
            }
            // Of a link that leads nowhere here its words stay.
            Event::End(TagEnd::Link) if shut.pop() == Some(true) => None,
            // Markup of a document is shown as it is written.
            Event::Html(text) | Event::InlineHtml(text) => Some(Event::Text(text)),
            event => Some(event),
        });
        linked.collect()
    }

    /// Where a link of this document leads among the pages, if it does.
    fn target(&self, link: &str) -> Option<CowStr<'static>> {
        if link.starts_with('#') || link.starts_with("https://") {
            return Some(link.to_owned().into());
        }
        let (path, anchor) = match link.split_once('#') {
            Some((path, anchor)) => (path, Cow::from(format!("#{anchor}"))),
            None => (link, Cow::from("")),
        };
        let path = match path.strip_prefix("../") {
            Some(path) => format!("/{path}"),
            None => format!("{}/{path}", self.folder),
        };
        let path = path.strip_suffix(".md")?;
        find(path).map(|_| format!("{path}{anchor}").into())
    }
}

/// Gives each heading the name that links to it use: its words in lower case, joined by hyphens.
fn name_headings(events: &mut [Event<'static>]) {
    let mut taken = BTreeSet::new();
    for at in 0..events.len() {
        if !matches!(events[at], Event::Start(Tag::Heading { .. })) {
            continue;
        }
        let words = events[at..].iter();
        let words = words.take_while(|event| !matches!(event, Event::End(TagEnd::Heading(_))));
        let words: String = words
            .filter_map(|event| match event {
                Event::Text(text) | Event::Code(text) => Some(&**text),
                _ => None,
            })
            .collect();
        let name = slug(&words);
        if let Event::Start(Tag::Heading { id, level, .. }) = &mut events[at]
            && *level != HeadingLevel::H1
            && taken.insert(name.clone())
        {
            *id = Some(name.into());
        }
    }
}

fn slug(words: &str) -> String {
    let kept = words.trim().chars().filter_map(|c| match c {
        ' ' => Some('-'),
        c if c.is_alphanumeric() || c == '-' || c == '_' => c.to_lowercase().next(),
        _ => None,
    });
    kept.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    #[test]
    fn every_runbook_and_document_is_served() {
        for (folder, from) in [("/runbooks", "runbooks"), ("/docs", "docs")] {
            let from = Path::new(env!("CARGO_MANIFEST_DIR"))
                .join("../deploy")
                .join(from);
            let files = std::fs::read_dir(from).unwrap();
            let names = files.map(|file| file.unwrap().file_name().into_string().unwrap());
            let names: BTreeSet<_> = names
                .filter_map(|name| Some(name.strip_suffix(".md")?.to_owned()))
                .collect();
            assert!(names.len() >= 9, "{names:?}");
            let served = PAGES.iter().filter(|page| page.folder == folder);
            let served: BTreeSet<_> = served.map(|page| page.name.to_owned()).collect();
            assert_eq!(served, names);
        }
    }

    #[test]
    fn every_link_among_them_leads_to_a_page_and_a_heading() {
        let mut followed = 0;
        for page in PAGES.iter() {
            let html = page.render();
            for link in html.split("<a href=\"").skip(1) {
                let link = link.split('"').next().unwrap();
                let (path, anchor) = link.split_once('#').unwrap_or((link, ""));
                if path == "/" || path.starts_with("https://") {
                    continue;
                }
                let target = if path.is_empty() {
                    page
                } else {
                    find(path).unwrap()
                };
                let named = format!("id=\"{anchor}\"");
                assert!(
                    anchor.is_empty() || target.render().contains(&named),
                    "{} leads to {link}",
                    page.name
                );
                followed += 1;
            }
        }
        assert!(followed > 40, "{followed}");
    }

    #[test]
    fn a_document_becomes_a_page() {
        let page = Page {
            folder: "/docs",
            name: "x",
            text: "# A & B\n\n## Two `words`\n\n<b onclick=\"x()\">no</b> [up](../runbooks/KvrouteDown.md) \
                   [here](#two-words) [away](../../README.md) [site](https://example.org/)\n\n|a|\n|-|\n|1|\n",
            made: OnceLock::new(),
        };
        let html = page.render();
        assert!(
            html.contains("<title>A &amp; B · kvroute</title>"),
            "{html}"
        );
        assert!(
            html.contains("<h2 id=\"two-words\">Two <code>words</code></h2>"),
            "{html}"
        );
        assert!(
            html.contains("<a href=\"/runbooks/KvrouteDown\">up</a>"),
            "{html}"
        );
        assert!(html.contains("<a href=\"#two-words\">here</a>"), "{html}");
        assert!(html.contains(" away "), "{html}");
        assert!(
            html.contains("<a href=\"https://example.org/\">site</a>"),
            "{html}"
        );
        assert!(
            html.contains("&lt;b onclick=") && !html.contains("<b "),
            "{html}"
        );
        assert!(html.contains("<td>1</td>"), "{html}");
    }
}

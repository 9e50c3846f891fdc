//! The console in a page of the browser: going to its views, and reading what they show.
use crate::world::World;
use kvroute_tests::browser::{Browser, Image, Page, quoted};
use serde_json::Value;
use std::ops::Deref;

pub(crate) const VIEWS: [&str; 5] = ["health", "fleet", "flow", "prefixes", "try"];

/// What a screenshot of a view has at least: text is drawn in shades.
const COLOURS_MIN: usize = 20;

/// Functions that tests read the page with.
const READERS: &str = r"globalThis.read = {
    rows: () => [...document.querySelectorAll('#workers tr[data-worker]')].filter(row => row.checkVisibility()),
    names: () => read.rows().map(row => row.dataset.worker),
    row: name => read.rows().find(row => row.dataset.worker === name),
    column: key => document.querySelector(`#workers [data-sort='${key}']`).closest('th').cellIndex,
    cell: (name, key) => read.row(name).cells[read.column(key)].innerText.trim(),
    number: (name, key) => Number(read.cell(name, key).replaceAll(',', '')),
    view: name => document.querySelector(`main > section[data-view='${name}']`),
    words: name => read.view(name).innerText,
    focus: () => document.activeElement,
    chart: name => document.querySelector(`figure[data-chart='${name}']`),
    told: name => { const chart = read.chart(name); return [chart.innerText, ...[chart, ...chart.querySelectorAll('[aria-label]')].map(one => one.ariaLabel ?? '')].join('\n') },
}";

/// The console, open in a page.
#[derive(Debug)]
pub(crate) struct Console<'b> {
    page: Page<'b>,
    /// `http://host:port`.
    pub(crate) origin: String,
}

impl<'b> Deref for Console<'b> {
    type Target = Page<'b>;

    fn deref(&self) -> &Page<'b> {
        &self.page
    }
}

impl<'b> Console<'b> {
    /// Opens the console of a node, and waits until its first view is drawn.
    pub(crate) fn open(browser: &'b Browser, world: &World) -> Self {
        let console = Self::at(browser, &format!("http://{}", world.address()));
        console.wait_ready("health");
        console
    }

    /// Opens what is at `/` of this origin, whatever that is.
    pub(crate) fn at(browser: &'b Browser, origin: &str) -> Self {
        let page = browser.page();
        let script = serde_json::json!({"source": READERS});
        page.tell("Page.addScriptToEvaluateOnNewDocument", &script);
        page.open(&format!("{origin}/"));
        Self {
            page,
            origin: origin.to_owned(),
        }
    }

    /// Waits until a view is shown with its first data.
    pub(crate) fn wait_ready(&self, view: &str) {
        let view = quoted(view);
        self.wait_until(&format!(
            "document.documentElement.dataset.ready === {view} && !read.view({view}).hidden"
        ));
    }

    /// Goes to a view by the link to it.
    pub(crate) fn go(&self, view: &str) {
        self.click(&format!("nav a[data-view='{view}']"));
        self.wait_ready(view);
        let link =
            format!("document.querySelector('nav [aria-current]').dataset.view === '{view}'");
        assert!(self.is(&link), "the link to {view} is the current one");
    }

    /// The text of a worker's cell: its pod and rank, and the column's key.
    pub(crate) fn cell(&self, worker: &str, column: &str) -> String {
        let (worker, column) = (quoted(worker), quoted(column));
        self.text(&format!("read.cell({worker}, {column})"))
    }

    /// Waits until a worker's cell says this.
    pub(crate) fn wait_cell(&self, worker: &str, column: &str, said: &str) {
        let (worker, column, said) = (quoted(worker), quoted(column), quoted(said));
        self.wait_until(&format!("read.cell({worker}, {column}) === {said}"));
    }

    /// The workers whose rows there are, from top to bottom.
    pub(crate) fn names(&self) -> Vec<String> {
        strings(&self.value("read.names()"))
    }

    /// Keeps a screenshot of what is shown, which is more than an empty page.
    pub(crate) fn picture(&self, name: &str) -> Image {
        let image = self.screenshot(name);
        let colours = image.colours();
        assert!(colours >= COLOURS_MIN, "{name}: {colours} colours only");
        image
    }

    /// Nothing on this page came from elsewhere, and nothing was asked of others.
    pub(crate) fn assert_at_home(&self) {
        for request in self.requests() {
            let own = request.url.starts_with(&format!("{}/", self.origin));
            assert!(own || request.url.starts_with("data:"), "{request:?}");
        }
    }
}

/// The texts of a list.
pub(crate) fn strings(list: &Value) -> Vec<String> {
    let items = list.as_array().into_iter().flatten();
    let items = items.map(|item| item.as_str().expect("a text").to_owned());
    items.collect()
}

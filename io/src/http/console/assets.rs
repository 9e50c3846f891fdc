//! The console's files, in the program.

/// One file.
#[derive(Debug)]
pub(super) struct Asset {
    name: &'static str,
    pub(super) content_type: &'static str,
    pub(super) bytes: &'static [u8],
}

macro_rules! assets {
    ($($name:literal)*) => {
        static ASSETS: &[Asset] = &[$(Asset {
            name: $name,
            content_type: content_type($name),
            bytes: include_bytes!(concat!("../../../console/", $name)),
        },)*];
    };
}

assets! {
    "api.js" "app.js" "base.css" "chart-lines.js" "chart.js" "curl.js" "dom.js" "early.js" "fleet-columns.js"
    "fleet-detail.js" "fleet-filter.js" "fleet-table.js" "fleet.css" "fleet.js" "flow-charts.js" "flow.css" "flow.js"
    "format.js" "header.js" "health.css" "health.js" "icicle.js" "icon.svg" "index.html" "link.js" "page.css"
    "poll.js" "prefixes.css" "prefixes.js" "problems.js" "scale.js" "session.js" "shell.css" "signin.js" "spark.js"
    "sse.js" "states.js" "stream.js" "theme.js" "try-table.js" "try-words.js" "try.css" "try.js"
}

/// The media type of a file by its name.
const fn content_type(name: &str) -> &'static str {
    match name.as_bytes() {
        [.., b'.', b'j', b's'] => "text/javascript; charset=utf-8",
        [.., b'.', b'c', b's', b's'] => "text/css; charset=utf-8",
        [.., b'.', b's', b'v', b'g'] => "image/svg+xml",
        _ => "text/html; charset=utf-8",
    }
}

/// The file of this name.
pub(super) fn find(name: &str) -> Option<&'static Asset> {
    ASSETS.iter().find(|asset| asset.name == name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;
    use std::path::Path;

    #[test]
    fn every_file_is_served_as_what_it_is() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("console");
        let files = std::fs::read_dir(folder).unwrap();
        let names = files.map(|file| file.unwrap().file_name().into_string().unwrap());
        let names: BTreeSet<_> = names.collect();
        let served: BTreeSet<_> = ASSETS.iter().map(|asset| asset.name.to_owned()).collect();
        assert_eq!(served, names);
        for asset in ASSETS {
            let of_its_kind = match asset.name.rsplit_once('.').unwrap().1 {
                "js" => "text/javascript; charset=utf-8",
                "css" => "text/css; charset=utf-8",
                "svg" => "image/svg+xml",
                "html" => "text/html; charset=utf-8",
                other => panic!("{other}"),
            };
            assert_eq!(asset.content_type, of_its_kind, "{}", asset.name);
        }
    }

    #[test]
    fn no_file_names_another_place() {
        for asset in ASSETS {
            let text = std::str::from_utf8(asset.bytes).unwrap();
            // The name of SVG's language is no place.
            let text = text.replace("http://www.w3.org/2000/svg", "");
            for place in ["http://", "https://", "\"//", "'//", "(//"] {
                assert!(!text.contains(place), "{}: {place}", asset.name);
            }
        }
    }
}

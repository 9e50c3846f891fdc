//! Whether a browser sends a request for a page of another site.
//!
//! A browser sends what it has to any place that a page names: through it, a page of anybody would reach a node that
//! listens on the user's machine, or that knows the user by a certificate. The browser says whose page it is:
//! `Sec-Fetch-Site` (Fetch Metadata), or where it is too old for that, `Origin`. Programs send neither.
use hyper::HeaderMap;
use hyper::header::{HOST, ORIGIN};

/// Whether it is. A page that the node itself served, and a user who typed the address, are not another site.
pub(super) fn is_cross_site(headers: &HeaderMap) -> bool {
    let mut sites = headers.get_all("sec-fetch-site").into_iter().peekable();
    if sites.peek().is_some() {
        return !sites.all(|site| site == "same-origin" || site == "none");
    }
    let host = headers.get(HOST).and_then(|host| host.to_str().ok());
    let own = |origin: &str| {
        let place = origin.split_once("://").map(|(_, place)| place);
        host.zip(place)
            .is_some_and(|(host, place)| place.eq_ignore_ascii_case(host))
    };
    let mut origins = headers.get_all(ORIGIN).into_iter();
    origins.any(|origin| !origin.to_str().is_ok_and(own))
}

#[cfg(test)]
mod tests {
    use super::*;
    use hyper::header::{HeaderName, HeaderValue};

    fn judged(given: &[(&'static str, &'static str)]) -> bool {
        let mut headers = HeaderMap::new();
        for (name, value) in given {
            headers.append(
                HeaderName::from_static(name),
                HeaderValue::from_static(value),
            );
        }
        is_cross_site(&headers)
    }

    #[test]
    fn a_page_of_another_site_is_told_from_programs_and_own_pages() {
        let host = ("host", "localhost:8080");
        for own in [
            &[host][..],
            &[],
            &[host, ("sec-fetch-site", "same-origin")],
            &[host, ("sec-fetch-site", "none")],
            &[host, ("origin", "http://localhost:8080")],
            &[host, ("origin", "https://LOCALHOST:8080")],
            // A gateway in between gave the request another host.
            &[
                host,
                ("sec-fetch-site", "same-origin"),
                ("origin", "https://kvroute.example"),
            ],
        ] {
            assert!(!judged(own), "{own:?}");
        }
        for other in [
            &[host, ("sec-fetch-site", "cross-site")][..],
            &[host, ("sec-fetch-site", "same-site")],
            &[host, ("sec-fetch-site", "Same-Origin")],
            &[
                host,
                ("sec-fetch-site", "same-origin"),
                ("sec-fetch-site", "cross-site"),
            ],
            &[host, ("origin", "http://localhost:8081")],
            &[host, ("origin", "http://evil.example")],
            &[host, ("origin", "null")],
            &[host, ("origin", "localhost:8080")],
            &[
                host,
                ("origin", "http://localhost:8080"),
                ("origin", "http://evil.example"),
            ],
            &[("origin", "http://localhost:8080")],
        ] {
            assert!(judged(other), "{other:?}");
        }
    }
}

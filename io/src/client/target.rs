//! Where a node is, as people write it.
use crate::address::Address;
use std::net::SocketAddr;
use std::path::PathBuf;

/// A node's address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    pub(super) way: Way,
    host: String,
    prefix: String,
}

/// How it is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// Host and port.
    Tcp(String, u16),
    /// Host and port, with TLS.
    Tls(String, u16),
    /// A Unix socket.
    Unix(PathBuf),
}

impl Target {
    /// Reads `http://host[:port][/prefix]`, `https://…`, `unix:/path` or `host:port`. An error is a sentence with the
    /// text in it.
    pub fn parse(text: &str) -> Result<Self, String> {
        if text.starts_with("unix:") {
            let Address::Unix(path) = Address::parse(text)? else {
                return Err(format!("{text:?} is no Unix socket"));
            };
            return Ok(Self {
                way: Way::Unix(path),
                host: "localhost".to_owned(),
                prefix: String::new(),
            });
        }
        let (tls, rest) = match text.split_once("://") {
            Some(("http", rest)) => (false, rest),
            Some(("https", rest)) => (true, rest),
            Some(_) => {
                return Err(format!(
                    "{text:?}: expected http://, https:// or unix:/path"
                ));
            }
            None => (false, text),
        };
        let (host, prefix) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let plain = |part: &str| part.bytes().all(|byte| byte.is_ascii_graphic());
        if host.is_empty() || !plain(host) || !plain(prefix) || host.contains(['@', '?', '#']) {
            return Err(format!("{text:?}: expected http://host:port"));
        }
        let default = if tls { 443 } else { 80 };
        let (name, port) = match host.rsplit_once(':') {
            // The colons of an IPv6 address are inside its brackets.
            Some((_, port)) if port.ends_with(']') => (host, default),
            Some((name, port)) => {
                let port = port.parse();
                let port = port.map_err(|_| format!("{text:?}: {host} has no port that is one"))?;
                (name, port)
            }
            None => (host, default),
        };
        let name = name.trim_start_matches('[').trim_end_matches(']');
        let name = name.to_owned();
        Ok(Self {
            way: if tls {
                Way::Tls(name, port)
            } else {
                Way::Tcp(name, port)
            },
            host: host.to_owned(),
            prefix: prefix.trim_end_matches('/').to_owned(),
        })
    }

    pub(super) fn host(&self) -> &str {
        &self.host
    }

    pub(super) fn prefix(&self) -> &str {
        &self.prefix
    }
}

impl From<SocketAddr> for Target {
    fn from(address: SocketAddr) -> Self {
        Self {
            way: Way::Tcp(address.ip().to_string(), address.port()),
            host: address.to_string(),
            prefix: String::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> (Way, String, String) {
        let target = Target::parse(text).unwrap();
        (target.way, target.host, target.prefix)
    }

    #[test]
    fn addresses_are_read_as_people_write_them() {
        let tcp = |host: &str, port| Way::Tcp(host.to_owned(), port);
        let is = |way, host: &str, prefix: &str| (way, host.to_owned(), prefix.to_owned());
        assert_eq!(parsed("http://a:1/"), is(tcp("a", 1), "a:1", ""));
        assert_eq!(parsed("http://a"), is(tcp("a", 80), "a", ""));
        assert_eq!(parsed("a:8080"), is(tcp("a", 8080), "a:8080", ""));
        assert_eq!(
            parsed("http://[::1]:9/x/y/"),
            is(tcp("::1", 9), "[::1]:9", "/x/y")
        );
        assert_eq!(parsed("http://[::1]"), is(tcp("::1", 80), "[::1]", ""));
        let tls = Way::Tls("b".to_owned(), 443);
        assert_eq!(parsed("https://b"), is(tls, "b", ""));
        let unix = Way::Unix("/run/k".into());
        assert_eq!(parsed("unix:/run/k"), is(unix, "localhost", ""));
        for text in [
            "",
            "ftp://a",
            "http://",
            "http://a:b",
            "http://a b",
            "http://u@h",
            "unix:",
            "http://a\r\nx:1",
        ] {
            let error = Target::parse(text).unwrap_err();
            assert!(error.contains(&format!("{text:?}")), "{error}");
        }
    }
}

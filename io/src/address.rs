//! Where the node listens: `host:port` or `unix:/path`.
use std::fmt;
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::PathBuf;

/// One place to listen at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// TCP; port 0 lets the system choose.
    Tcp(SocketAddr),
    /// A Unix socket.
    Unix(PathBuf),
}

/// Bytes of a Unix socket's path: the kernel's `sun_path`, without the zero at its end.
const UNIX_PATH_MAX: usize = 107;

impl Address {
    /// Reads `host:port`, a name becoming the first of its addresses, or `unix:/path`. An error is a
    /// sentence with the text in it.
    pub fn parse(text: &str) -> Result<Self, String> {
        if let Some(path) = text.strip_prefix("unix:") {
            return match path.len() {
                0 => Err(format!("{text:?} has no path")),
                1..=UNIX_PATH_MAX => Ok(Self::Unix(path.into())),
                _ => Err(format!(
                    "{text:?}: the path of a Unix socket has {UNIX_PATH_MAX} bytes at most"
                )),
            };
        }
        let mut addresses = text
            .to_socket_addrs()
            .map_err(|error| format!("{text:?}: {error}; expected host:port or unix:/path"))?;
        let first = addresses.next();
        first
            .map(Self::Tcp)
            .ok_or_else(|| format!("{text:?} has no address"))
    }
}

impl From<SocketAddr> for Address {
    fn from(address: SocketAddr) -> Self {
        Self::Tcp(address)
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_read_is_written_alike() {
        for text in [
            "127.0.0.1:80",
            "[::1]:0",
            "unix:/run/kvroute.sock",
            "unix:x",
        ] {
            let address = Address::parse(text).unwrap();
            assert_eq!(address.to_string(), text);
            assert_eq!(
                text.starts_with("unix"),
                matches!(address, Address::Unix(_))
            );
        }
    }

    #[test]
    fn an_error_repeats_the_text() {
        let long = format!("unix:/{}", "x".repeat(UNIX_PATH_MAX));
        for text in ["", "80", "127.0.0.1", "127.0.0.1:99999", "unix:", &long] {
            let error = Address::parse(text).unwrap_err();
            assert!(error.contains(&format!("{text:?}")), "{error}");
        }
    }
}

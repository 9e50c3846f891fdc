//! What is measured: rows of one request each, and who answers it.
use std::fmt;

/// How the prompt is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Encoding {
    /// JSON without a space.
    Compact,
    /// JSON as Python's `json.dumps` writes it.
    Spaced,
    /// Little-endian token ids.
    Binary,
    /// The blocks' hashes as JSON.
    Hashes,
    /// No prompt: `GET /health`.
    Health,
}

impl Encoding {
    pub(crate) const fn text(self) -> &'static str {
        match self {
            Self::Compact => "JSON",
            Self::Spaced => "JSON with spaces",
            Self::Binary => "binary",
            Self::Hashes => "hashes",
            Self::Health => "health",
        }
    }
}

/// The way there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Transport {
    Tcp,
    Unix,
}

impl Transport {
    pub(crate) const fn text(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Unix => "unix",
        }
    }
}

/// A program.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Server {
    Kvroute,
    Dynamo,
    Bare,
}

/// One way to answer a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Series {
    /// kvroute's own `/v1/match`, or `/health`.
    Match,
    /// kvroute's `/query` or `/query_by_hash`, with the very body that Dynamo gets.
    Query,
    /// Dynamo's `/query` or `/query_by_hash`.
    Dynamo,
    /// A constant from a server that reads the same body.
    Bare,
}

impl Series {
    pub(crate) const fn server(self) -> Server {
        match self {
            Self::Match | Self::Query => Server::Kvroute,
            Self::Dynamo => Server::Dynamo,
            Self::Bare => Server::Bare,
        }
    }

    pub(crate) const fn text(self) -> &'static str {
        match self {
            Self::Match => "kvroute match",
            Self::Query => "kvroute query",
            Self::Dynamo => "dynamo",
            Self::Bare => "bare hyper",
        }
    }
}

/// One request, over one transport, by so many clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Row {
    /// Cached blocks; 0 without a prompt.
    pub(crate) blocks: usize,
    pub(crate) encoding: Encoding,
    pub(crate) transport: Transport,
    pub(crate) connections: usize,
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.blocks > 0 {
            write!(f, "{} blocks, ", self.blocks)?;
        }
        let (encoding, transport) = (self.encoding.text(), self.transport.text());
        write!(f, "{encoding}, {transport}, {}", self.connections)
    }
}

/// A row with who answers it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Cell {
    pub(crate) row: Row,
    pub(crate) series: Series,
}

/// A part that is left out, and why.
#[derive(Clone, Debug)]
pub(crate) struct Skipped {
    pub(crate) what: &'static str,
    pub(crate) why: String,
}

/// What there is to be measured with.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Available {
    pub(crate) dynamo: bool,
    pub(crate) unix: bool,
    pub(crate) hashes: bool,
}

/// Depths of the prompts.
pub(crate) const DEPTHS: [usize; 3] = [16, 256, 1_024];

const CONNECTIONS: [usize; 2] = [1, 8];

/// All rows, each with who answers it.
pub(crate) fn rows(there: Available) -> Vec<(Row, Vec<Series>)> {
    let mut rows = Vec::new();
    for transport in [Transport::Tcp, Transport::Unix] {
        if transport == Transport::Unix && !there.unix {
            continue;
        }
        for connections in CONNECTIONS {
            let mut add = |blocks, encoding| {
                let row = Row {
                    blocks,
                    encoding,
                    transport,
                    connections,
                };
                rows.push((row, series(row, there)));
            };
            add(0, Encoding::Health);
            for depth in DEPTHS {
                add(depth, Encoding::Compact);
                add(depth, Encoding::Spaced);
                add(depth, Encoding::Binary);
                add(depth, Encoding::Hashes);
            }
        }
    }
    rows
}

fn series(row: Row, there: Available) -> Vec<Series> {
    use Series::{Bare, Dynamo, Match, Query};
    let all: &[Series] = match row.encoding {
        Encoding::Compact | Encoding::Spaced => &[Match, Query, Dynamo, Bare],
        Encoding::Binary => &[Match, Bare],
        Encoding::Hashes => &[Query, Dynamo, Bare],
        Encoding::Health => &[Match, Dynamo, Bare],
    };
    let possible = |series: &&Series| match series {
        Match | Bare => true,
        Query => row.encoding != Encoding::Hashes || there.hashes,
        // It has no other transport.
        Dynamo => there.dynamo && row.transport == Transport::Tcp,
    };
    all.iter().filter(possible).copied().collect()
}

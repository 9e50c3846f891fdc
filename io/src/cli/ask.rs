//! Which node a tool asks, and how: arguments that tools share.
use kvroute::client::{Client, Roots, Target};
use kvroute::limits::TOOL_ANSWER_TIME_MAX;
use std::path::PathBuf;

#[derive(Debug, clap::Args)]
pub(crate) struct Node {
    /// The node: http://HOST:PORT, https://HOST or unix:/path
    #[arg(value_name = "URL")]
    url: String,
    /// A file whose first line is a bearer token
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// Believe these certificates (PEM) in place of the system's
    #[arg(long, value_name = "FILE")]
    ca_file: Option<PathBuf>,
}

impl Node {
    /// A client of it. An error is a sentence that names the argument.
    pub(crate) fn client(&self) -> Result<Client, String> {
        let target = Target::parse(&self.url)?;
        let mut client = Client::new(target).with_time(TOOL_ANSWER_TIME_MAX);
        if let Some(path) = &self.token_file {
            let given = client.with_token_file(path);
            client = given.map_err(|error| format!("--token-file: {}: {error}", path.display()))?;
        }
        if let Some(path) = &self.ca_file {
            let roots = Roots::from_file(path).map_err(|error| format!("--ca-file: {error}"))?;
            client = client.with_roots(roots);
        }
        Ok(client)
    }
}

//! The settings of what finds pods.
use super::resolve::{Pauses, file, within};
use super::{ConfigError, Settings, quoted, selector, wrong};
use crate::limits::{
    DNS_INTERVAL_DEFAULT, DNS_INTERVAL_MAX, DNS_INTERVAL_MIN, DNS_NAMES_MAX, NAMESPACES_MAX,
};
use std::path::PathBuf;
use std::time::Duration;

/// What finds pods, beside the fleet file.
#[derive(Clone, Debug, PartialEq)]
pub struct DiscoveryConfig {
    /// Where pods are looked for in Kubernetes, if they are.
    pub kubernetes: Option<KubernetesConfig>,
    /// Names whose addresses are pods.
    pub dns: Vec<DnsName>,
    /// Between two looks at those addresses.
    pub dns_interval: Duration,
}

/// Which pods of Kubernetes there are to be found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KubernetesConfig {
    /// Where they are.
    pub namespaces: Namespaces,
    /// Whose labels describe them.
    pub preset: Preset,
    /// A label selector that they match, too.
    pub selector: Option<String>,
    /// Whether requests go to those whose containers are not ready, too.
    pub not_ready: bool,
    /// The file that tells how to reach Kubernetes; `None` for the pod's service account, else the usual files.
    pub kubeconfig: Option<PathBuf>,
}

/// The namespaces that are watched.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Namespaces {
    /// That of the node, or of the configuration to reach Kubernetes.
    #[default]
    Own,
    /// These, up to [`NAMESPACES_MAX`].
    Named(Vec<String>),
    /// All.
    All,
}

/// Whose labels describe pods.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Preset {
    /// `model.aibrix.ai/…`.
    #[default]
    Aibrix,
    /// `llm-d.ai/…`.
    LlmD,
}

/// A name whose addresses are pods of a model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DnsName {
    /// The model that they serve.
    pub model: String,
    /// The name.
    pub host: String,
    /// Where they take requests.
    pub port: u16,
}

const DNS: Pauses = Pauses {
    default: DNS_INTERVAL_DEFAULT,
    least: DNS_INTERVAL_MIN,
    most: DNS_INTERVAL_MAX,
};

impl Default for DiscoveryConfig {
    fn default() -> Self {
        Self {
            kubernetes: None,
            dns: Vec::new(),
            dns_interval: DNS_INTERVAL_DEFAULT,
        }
    }
}

impl Preset {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::Aibrix, Self::LlmD];

    /// As the setting says it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Aibrix => "aibrix",
            Self::LlmD => "llm-d",
        }
    }
}

impl Namespaces {
    /// As the setting says it; `None` if it is not given.
    #[must_use]
    pub fn setting(&self) -> Option<Vec<String>> {
        match self {
            Self::Own => None,
            Self::Named(names) => Some(names.clone()),
            Self::All => Some(vec!["*".to_owned()]),
        }
    }

    fn of(given: Option<&Vec<String>>) -> Result<Self, ConfigError> {
        const KEY: &str = "kubernetes_namespaces";
        let Some(names) = given else {
            return Ok(Self::Own);
        };
        if let [all] = &names[..]
            && all == "*"
        {
            return Ok(Self::All);
        }
        within(KEY, Some(names.len()), 1, (1, NAMESPACES_MAX))?;
        // RFC 1123 label, as Kubernetes demands it of namespaces.
        let possible = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        let bad = names.iter().find(|name| {
            let edge = name.starts_with('-') || name.ends_with('-');
            name.is_empty() || name.len() > 63 || edge || !name.chars().all(possible)
        });
        match bad {
            None => Ok(Self::Named(names.clone())),
            Some(name) => Err(wrong(
                KEY,
                format!(
                    "{} is not a namespace's name, up to 63 small letters, digits and -; * alone means all",
                    quoted(KEY, name)
                ),
            )),
        }
    }
}

impl std::fmt::Display for DnsName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}={}:{}", self.model, self.host, self.port)
    }
}

impl DiscoveryConfig {
    /// From what the sources give.
    pub(super) fn of(settings: &Settings) -> Result<Self, ConfigError> {
        let dns = settings.dns.iter().flatten();
        let dns: Vec<_> = dns.map(|text| dns_name(text)).collect::<Result<_, _>>()?;
        within("dns", Some(dns.len()), 0, (0, DNS_NAMES_MAX))?;
        Ok(Self {
            kubernetes: kubernetes(settings)?,
            dns,
            dns_interval: DNS.time("dns_interval", settings.dns_interval)?,
        })
    }
}

fn kubernetes(settings: &Settings) -> Result<Option<KubernetesConfig>, ConfigError> {
    let preset = preset(settings.kubernetes_preset.as_deref())?;
    let namespaces = Namespaces::of(settings.kubernetes_namespaces.as_ref())?;
    let selector = selector(settings.kubernetes_selector.as_deref())?;
    let kubeconfig = file("kubeconfig", settings.kubeconfig.clone())?;
    Ok(settings
        .kubernetes
        .unwrap_or(false)
        .then(|| KubernetesConfig {
            namespaces,
            preset,
            selector,
            not_ready: settings.kubernetes_not_ready.unwrap_or(false),
            kubeconfig,
        }))
}

fn preset(given: Option<&str>) -> Result<Preset, ConfigError> {
    const KEY: &str = "kubernetes_preset";
    let Some(name) = given else {
        return Ok(Preset::default());
    };
    let mut known = Preset::ALL.into_iter();
    known.find(|preset| preset.as_str() == name).ok_or_else(|| {
        let known = Preset::ALL.map(Preset::as_str).join(", ");
        wrong(KEY, format!("{}; there are {known}", quoted(KEY, name)))
    })
}

/// A label selector; one that selects everything is none.
fn selector(given: Option<&str>) -> Result<Option<String>, ConfigError> {
    const KEY: &str = "kubernetes_selector";
    let Some(text) = given.map(str::trim).filter(|text| !text.is_empty()) else {
        return Ok(None);
    };
    let refused = |why| wrong(KEY, format!("{}: {why}", quoted(KEY, text)));
    selector::check(text).map_err(refused)?;
    Ok(Some(text.to_owned()))
}

/// `MODEL=HOST:PORT`.
fn dns_name(text: &str) -> Result<DnsName, ConfigError> {
    let wrong = || {
        let text = quoted("dns", text);
        wrong(
            "dns",
            format!("{text}; MODEL=HOST:PORT is expected, with a port from 1 to 65535"),
        )
    };
    // Models' names may have any character, hosts no `=`.
    let (model, address) = text.rsplit_once('=').ok_or_else(wrong)?;
    let (host, port) = address.rsplit_once(':').ok_or_else(wrong)?;
    let clean = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    let port = port.parse().ok().filter(|&port: &u16| port != 0);
    match port {
        Some(port)
            if !model.is_empty()
                && !model.contains(',')
                && !host.is_empty()
                && host.chars().all(clean) =>
        {
            Ok(DnsName {
                model: model.to_owned(),
                host: host.to_owned(),
                port,
            })
        }
        _ => Err(wrong()),
    }
}

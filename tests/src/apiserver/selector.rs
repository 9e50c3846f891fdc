//! Label and field selectors: which pods a request is about.
use serde_json::Value;

/// What a selector asks of one label.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Test {
    In(Vec<String>),
    NotIn(Vec<String>),
    Exists,
    Missing,
}

/// Which pods a request is about: by namespace, labels and fields.
#[derive(Clone, Debug, Default)]
pub(super) struct Selector {
    namespace: Option<String>,
    labels: Vec<(String, Test)>,
    /// Path, wanted value, and whether it must be equal.
    fields: Vec<(String, String, bool)>,
}

/// The fields of pods that a server can select by.
const FIELDS: &[(&str, &str)] = &[
    ("metadata.name", "/metadata/name"),
    ("metadata.namespace", "/metadata/namespace"),
    ("spec.nodeName", "/spec/nodeName"),
    ("spec.restartPolicy", "/spec/restartPolicy"),
    ("spec.serviceAccountName", "/spec/serviceAccountName"),
    ("status.phase", "/status/phase"),
    ("status.podIP", "/status/podIP"),
];

impl Selector {
    /// From the texts of a request; the error is what the server says to the client.
    pub(super) fn new(namespace: Option<&str>, labels: &str, fields: &str) -> Result<Self, String> {
        let labels = requirements(labels).map(requirement);
        let fields = fields.split(',').filter(|field| !field.is_empty());
        Ok(Self {
            namespace: namespace.map(str::to_owned),
            labels: labels.collect::<Result<_, _>>()?,
            fields: fields.map(field).collect::<Result<_, _>>()?,
        })
    }

    /// Whether it selects all pods of its namespaces.
    pub(super) fn is_everything(&self) -> bool {
        self.labels.is_empty() && self.fields.is_empty()
    }

    pub(super) fn selects(&self, pod: &Value) -> bool {
        let here = |namespace: &String| pod["metadata"]["namespace"] == namespace.as_str();
        self.namespace.as_ref().is_none_or(here)
            && self.labels.iter().all(|(key, test)| {
                let value = pod["metadata"]["labels"][key].as_str();
                match test {
                    Test::In(values) => value.is_some_and(|v| values.iter().any(|w| w == v)),
                    Test::NotIn(values) => !value.is_some_and(|v| values.iter().any(|w| w == v)),
                    Test::Exists => value.is_some(),
                    Test::Missing => value.is_none(),
                }
            })
            && self.fields.iter().all(|(path, wanted, equal)| {
                let value = pod.pointer(path).and_then(Value::as_str).unwrap_or("");
                (value == wanted) == *equal
            })
    }
}

/// Splits at commas that are not in parentheses.
fn requirements(text: &str) -> impl Iterator<Item = &str> {
    let mut depth = 0_u32;
    let parts = text.split(move |c| {
        match c {
            '(' => depth += 1,
            ')' => depth = depth.saturating_sub(1),
            _ => {}
        }
        c == ',' && depth == 0
    });
    parts.map(str::trim).filter(|part| !part.is_empty())
}

fn requirement(text: &str) -> Result<(String, Test), String> {
    let wrong = || format!("unable to parse requirement: {text:?}");
    let one = |value: &str| vec![value.trim().to_owned()];
    let (key, test) = if let Some(key) = text.strip_prefix('!') {
        (key, Test::Missing)
    } else if let Some((key, value)) = text.split_once("!=") {
        (key, Test::NotIn(one(value)))
    } else if let Some((key, value)) = text.split_once("==").or_else(|| text.split_once('=')) {
        (key, Test::In(one(value)))
    } else if let Some((head, values)) = text.split_once('(') {
        let values = values.strip_suffix(')').ok_or_else(wrong)?;
        let values = values.split(',').map(|v| v.trim().to_owned()).collect();
        match head.split_whitespace().collect::<Vec<_>>()[..] {
            [key, "in"] => (key, Test::In(values)),
            [key, "notin"] => (key, Test::NotIn(values)),
            _ => return Err(wrong()),
        }
    } else {
        (text, Test::Exists)
    };
    let key = key.trim();
    let values = match &test {
        Test::In(values) | Test::NotIn(values) => values.as_slice(),
        Test::Exists | Test::Missing => &[],
    };
    let fits = |text: &str| {
        text.bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"-_./".contains(&b))
    };
    if key.is_empty() || !fits(key) || !values.iter().all(|v| fits(v) && !v.contains('/')) {
        return Err(wrong());
    }
    Ok((key.to_owned(), test))
}

fn field(text: &str) -> Result<(String, String, bool), String> {
    let (name, value, equal) = if let Some((name, value)) = text.split_once("!=") {
        (name, value, false)
    } else if let Some((name, value)) = text.split_once("==").or_else(|| text.split_once('=')) {
        (name, value, true)
    } else {
        return Err(format!("invalid selector: {text:?}; can't understand it"));
    };
    let known = FIELDS.iter().find(|(known, _)| *known == name);
    let (_, path) = known.ok_or_else(|| format!("field label not supported: {name}"))?;
    Ok(((*path).to_owned(), value.to_owned(), equal))
}

#[cfg(test)]
mod tests {
    use super::Selector;
    use serde_json::json;

    #[test]
    fn labels_and_fields_by_hand() {
        let pod = json!({"metadata": {"name": "a", "namespace": "n", "labels": {
            "model.aibrix.ai/name": "m", "tier": "gpu"}}, "status": {"phase": "Running"}});
        let selects = |labels: &str, fields: &str| {
            let selector = Selector::new(Some("n"), labels, fields).expect("it is right");
            selector.selects(&pod)
        };
        for labels in [
            "",
            "tier",
            "!other",
            "tier=gpu",
            "tier==gpu",
            "tier!=cpu",
            "other!=x",
            "tier in (cpu, gpu)",
            "other notin (x)",
            "model.aibrix.ai/name in (m,k),tier=gpu",
        ] {
            assert!(selects(labels, ""), "{labels}");
        }
        for labels in [
            "other",
            "!tier",
            "tier=cpu",
            "tier!=gpu",
            "other=",
            "tier in (cpu)",
            "tier notin (gpu)",
            "tier=gpu,model.aibrix.ai/name=k",
        ] {
            assert!(!selects(labels, ""), "{labels}");
        }
        assert!(selects("", "metadata.name=a,status.phase!=Failed"));
        assert!(!selects("", "spec.nodeName=a"));
        assert!(!Selector::new(Some("k"), "", "").unwrap().selects(&pod));
        for (labels, fields) in [("a in b", ""), ("=x", ""), ("a b", ""), ("", "spec.x=1")] {
            assert!(Selector::new(None, labels, fields).is_err(), "{labels}");
        }
    }
}

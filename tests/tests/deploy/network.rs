//! NetworkPolicies, evaluated: whether a pod may connect to a port of another one.
use crate::objects::{list, namespace};
use serde_json::Value;

/// A pod, as policies know it.
#[derive(Clone, Debug)]
pub(crate) struct Pod {
    pub(crate) namespace: String,
    pub(crate) labels: Vec<(String, String)>,
}

impl Pod {
    pub(crate) fn new(namespace: &str, labels: &[(&str, &str)]) -> Self {
        let own = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
        Self {
            namespace: namespace.to_owned(),
            labels: labels.iter().map(own).collect(),
        }
    }

    fn is_selected(&self, selector: &Value) -> bool {
        selects(selector, &self.labels)
    }
}

/// Whether a label selector selects these labels.
pub(crate) fn selects(selector: &Value, labels: &[(String, String)]) -> bool {
    let value = |key: &str| labels.iter().find(|(k, _)| k == key).map(|(_, v)| v);
    let exact = selector["matchLabels"].as_object();
    let exact = exact.into_iter().flatten();
    let mut exact = exact.map(|(key, wanted)| value(key).map(String::as_str) == wanted.as_str());
    let expressions = list(&selector["matchExpressions"]);
    let mut expressions = expressions.iter().map(|expression| {
        let value = value(expression["key"].as_str().expect("a key"));
        let among = |value: &String| list(&expression["values"]).iter().any(|v| v == value);
        match expression["operator"].as_str().expect("an operator") {
            "Exists" => value.is_some(),
            "DoesNotExist" => value.is_none(),
            "In" => value.is_some_and(among),
            "NotIn" => !value.is_some_and(among),
            other => panic!("the operator {other}"),
        }
    });
    exact.all(|holds| holds) && expressions.all(|holds| holds)
}

/// Whether a peer of a rule in a policy of `home` is this pod. Addresses are no pods.
fn is_peer(peer: &Value, home: &str, pod: &Pod) -> bool {
    if !peer["ipBlock"].is_null() {
        return false;
    }
    let key = "kubernetes.io/metadata.name".to_owned();
    let named = [(key, pod.namespace.clone())];
    let place = match peer.get("namespaceSelector") {
        Some(selector) => selects(selector, &named),
        None => pod.namespace == home,
    };
    place
        && peer
            .get("podSelector")
            .is_none_or(|selector| pod.is_selected(selector))
}

fn has_port(rule: &Value, port: u16) -> bool {
    let ports = list(&rule["ports"]);
    ports.is_empty()
        || ports.iter().any(|entry| {
            let number = |key: &str| entry[key].as_u64().map(|n| n as u16);
            let first = number("port").expect("policies here name numbers");
            let last = number("endPort").unwrap_or(first);
            entry["protocol"] == "TCP" && (first..=last).contains(&port)
        })
}

/// One direction: where no policy of it selects the pod, all is allowed.
fn allowed(policies: &[&Value], direction: &str, here: &Pod, there: &Pod, port: u16) -> bool {
    let (field, peers) = match direction {
        "Ingress" => ("ingress", "from"),
        _ => ("egress", "to"),
    };
    let mut isolating = policies.iter().filter(|policy| {
        let spec = &policy["spec"];
        namespace(policy) == here.namespace
            && here.is_selected(&spec["podSelector"])
            && list(&spec["policyTypes"]).iter().any(|t| t == direction)
    });
    let allows = |policy: &&&Value| {
        list(&policy["spec"][field]).iter().any(|rule| {
            let anyone = rule.get(peers).is_none();
            let known = list(&rule[peers]);
            let known = known.iter().any(|p| is_peer(p, namespace(policy), there));
            (anyone || known) && has_port(rule, port)
        })
    };
    let first = isolating.next();
    first.is_none_or(|first| allows(&first) || isolating.any(|policy| allows(&policy)))
}

/// Whether `from` can connect to a TCP port of `to`.
pub(crate) fn reaches(policies: &[&Value], from: &Pod, to: &Pod, port: u16) -> bool {
    allowed(policies, "Egress", from, to, port) && allowed(policies, "Ingress", to, from, port)
}

#[test]
fn policies_are_evaluated_as_kubernetes_does() {
    let policy = |text: &str| yaml_serde::from_str::<Value>(text).expect("YAML");
    let closed = policy(
        "{metadata: {namespace: a}, spec: {podSelector: {matchLabels: {app: x}}, policyTypes: [Ingress]}}",
    );
    let opened = policy(
        "{metadata: {namespace: a}, spec: {podSelector: {}, policyTypes: [Ingress], ingress: [{
            from: [{podSelector: {matchExpressions: [{key: app, operator: In, values: [y]}]}}],
            ports: [{protocol: TCP, port: 10, endPort: 12}]}]}}",
    );
    let x = Pod::new("a", &[("app", "x")]);
    let y = Pod::new("a", &[("app", "y")]);
    let elsewhere = Pod::new("b", &[("app", "y")]);
    assert!(reaches(&[], &y, &x, 10));
    assert!(!reaches(&[&closed], &y, &x, 10));
    assert!(reaches(&[&closed], &x, &y, 10));
    let both = [&closed, &opened];
    assert!(reaches(&both, &y, &x, 10) && reaches(&both, &y, &x, 12));
    assert!(!reaches(&both, &y, &x, 13) && !reaches(&both, &x, &x, 10));
    // A pod selector without a namespace selector means the policy's own namespace.
    assert!(!reaches(&both, &elsewhere, &x, 10));
    assert!(reaches(&both, &x, &elsewhere, 99));
}

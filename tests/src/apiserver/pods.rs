//! The life of pods, step by step, as kubelet, scheduler and controllers write it into the API.
use super::state::Shared;
use super::store::Key;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

/// A pod before it is created: what a Deployment's template would say.
#[derive(Clone, Debug)]
pub struct PodTemplate {
    namespace: String,
    name: String,
    labels: BTreeMap<String, String>,
    annotations: BTreeMap<String, String>,
    /// Name, and port if it says one.
    containers: Vec<(String, Option<u16>)>,
}

impl PodTemplate {
    /// A pod with one container named `engine`.
    #[must_use]
    pub fn new(namespace: &str, name: &str) -> Self {
        Self {
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            labels: BTreeMap::new(),
            annotations: BTreeMap::new(),
            containers: vec![("engine".to_owned(), None)],
        }
    }

    /// With a label.
    #[must_use]
    pub fn label(mut self, key: &str, value: &str) -> Self {
        self.labels.insert(key.to_owned(), value.to_owned());
        self
    }

    /// With an annotation.
    #[must_use]
    pub fn annotation(mut self, key: &str, value: impl fmt::Display) -> Self {
        self.annotations.insert(key.to_owned(), value.to_string());
        self
    }

    /// With one container more, beside those it has.
    #[must_use]
    pub fn container(mut self, name: &str, port: Option<u16>) -> Self {
        self.containers.push((name.to_owned(), port));
        self
    }

    fn key(&self) -> Key {
        (self.namespace.clone(), self.name.clone())
    }

    /// The object as the API server stores it at first.
    fn object(&self, uid: &str, now: &str) -> Value {
        let containers = self.containers.iter().map(|(name, port)| {
            let mut container = json!({
                "name": name, "image": format!("registry.test/{name}:1"), "resources": {},
                "imagePullPolicy": "IfNotPresent",
            });
            if let Some(port) = port {
                container["ports"] = json!([{"containerPort": port, "protocol": "TCP"}]);
            }
            container
        });
        let containers: Vec<_> = containers.collect();
        let mut pod = json!({
            "kind": "Pod", "apiVersion": "v1",
            "metadata": {
                "namespace": self.namespace, "name": self.name, "uid": uid,
                "creationTimestamp": now, "labels": self.labels, "annotations": self.annotations,
            },
            "spec": {
                "containers": containers, "restartPolicy": "Always", "schedulerName": "default-scheduler",
                "serviceAccountName": "default", "terminationGracePeriodSeconds": 30,
            },
            "status": {"phase": "Pending", "qosClass": "BestEffort"},
        });
        // An empty map is not there at all.
        for (field, map) in [("labels", &self.labels), ("annotations", &self.annotations)] {
            if map.is_empty()
                && let Some(metadata) = pod["metadata"].as_object_mut()
            {
                metadata.remove(field);
            }
        }
        pod
    }
}

/// A pod of the server. Each step is one change, which watches are told of.
#[derive(Clone)]
pub struct PodScript {
    shared: Arc<Shared>,
    template: PodTemplate,
}

impl fmt::Debug for PodScript {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("PodScript").field(&self.template).finish()
    }
}

impl PodScript {
    pub(super) fn create(shared: Arc<Shared>, template: PodTemplate) -> Self {
        let script = Self { shared, template };
        script.recreate();
        script
    }

    /// Creates the pod anew under its name, with another uid: pending, as its template says.
    ///
    /// # Panics
    /// It exists.
    pub fn recreate(&self) -> &Self {
        let template = &self.template;
        self.shared.change(|store| {
            assert!(store.get(&template.key()).is_none(), "it exists: {self:?}");
            let pod = template.object(&store.uid(), &time(store.version()));
            store.put(template.key(), pod);
        });
        self
    }

    /// Changes the object as one likes; `now` is the time to write into it.
    ///
    /// # Panics
    /// The pod does not exist.
    pub fn modify(&self, change: impl FnOnce(&mut Value, &str)) -> &Self {
        self.shared.change(|store| {
            let key = self.template.key();
            let pod = store.get(&key);
            let mut pod = Value::clone(pod.unwrap_or_else(|| panic!("it is gone: {self:?}")));
            change(&mut pod, &time(store.version()));
            store.put(key, pod);
        });
        self
    }

    /// A node is found for it.
    pub fn schedule(&self, node: &str) -> &Self {
        self.modify(|pod, now| {
            pod["spec"]["nodeName"] = json!(node);
            set_condition(pod, "PodScheduled", true, now);
        })
    }

    /// Its containers run, and are not ready yet; the pod has its address.
    pub fn run(&self, ip: &str) -> &Self {
        self.modify(|pod, now| {
            let containers = pod["spec"]["containers"].as_array().cloned();
            let statuses = containers.unwrap_or_default().into_iter().map(|container| {
                json!({
                    "name": container["name"], "image": container["image"], "imageID": "sha256:1",
                    "containerID": container_id(&container["name"], now), "ready": false,
                    "started": true, "restartCount": 0, "lastState": {},
                    "state": {"running": {"startedAt": now}},
                })
            });
            let statuses: Vec<_> = statuses.collect();
            let status = &mut pod["status"];
            status["phase"] = json!("Running");
            status["startTime"] = json!(now);
            status["hostIP"] = json!("192.0.2.1");
            status["podIP"] = json!(ip);
            status["podIPs"] = json!([{"ip": ip}]);
            status["containerStatuses"] = json!(statuses);
            set_condition(pod, "Initialized", true, now);
            set_readiness(pod, now);
        })
    }

    /// All its containers are ready.
    pub fn ready(&self) -> &Self {
        self.set_ready(None, true)
    }

    /// None of its containers is ready; they run all the same.
    pub fn unready(&self) -> &Self {
        self.set_ready(None, false)
    }

    /// One container is ready or is not.
    pub fn container_ready(&self, container: &str, ready: bool) -> &Self {
        self.set_ready(Some(container), ready)
    }

    /// From pending to ready in the usual three steps.
    pub fn start(&self, ip: &str) -> &Self {
        self.schedule("node-1").run(ip).ready()
    }

    /// A container ends and runs again in the same pod, which kubelet tells in one change; whether it is ready
    /// stays.
    pub fn restart_container(&self, container: &str) -> &Self {
        self.modify(|pod, now| {
            for_statuses(pod, Some(container), |status| {
                let before = status["containerID"].clone();
                let started = status["state"]["running"]["startedAt"].clone();
                status["lastState"] = json!({"terminated": {
                    "containerID": before, "exitCode": 137, "reason": "OOMKilled",
                    "startedAt": started, "finishedAt": now,
                }});
                let restarts = status["restartCount"].as_u64().unwrap_or_default();
                status["restartCount"] = json!(restarts + 1);
                status["containerID"] = json!(container_id(&status["name"], now));
                status["state"] = json!({"running": {"startedAt": now}});
            });
        })
    }

    /// A container has ended and waits to be started again; `restart_container` does that.
    pub fn crash_container(&self, container: &str) -> &Self {
        self.modify(|pod, now| {
            for_statuses(pod, Some(container), |status| {
                status["ready"] = json!(false);
                status["started"] = json!(false);
                status["state"] = json!({"waiting": {"reason": "CrashLoopBackOff"}});
            });
            set_readiness(pod, now);
        })
    }

    /// It has another address, as after its sandbox was made anew.
    pub fn change_ip(&self, ip: &str) -> &Self {
        self.modify(|pod, _| {
            pod["status"]["podIP"] = json!(ip);
            pod["status"]["podIPs"] = json!([{"ip": ip}]);
        })
    }

    /// Sets a label, or takes it away.
    pub fn relabel(&self, key: &str, value: Option<&str>) -> &Self {
        self.modify(|pod, _| set_entry(&mut pod["metadata"], "labels", key, value))
    }

    /// Sets an annotation, or takes it away.
    pub fn annotate(&self, key: &str, value: Option<&str>) -> &Self {
        self.modify(|pod, _| set_entry(&mut pod["metadata"], "annotations", key, value))
    }

    /// Kubelet evicts it: it has failed, and stays as an object.
    pub fn evict(&self) -> &Self {
        self.modify(|pod, now| {
            for_statuses(pod, None, |status| {
                status["ready"] = json!(false);
                status["state"] = json!({"terminated": {
                    "exitCode": 137, "reason": "Error", "finishedAt": now,
                    "containerID": status["containerID"],
                }});
            });
            let status = &mut pod["status"];
            status["phase"] = json!("Failed");
            status["reason"] = json!("Evicted");
            status["message"] = json!("The node was low on resource: memory.");
            set_readiness(pod, now);
        })
    }

    /// Somebody has deleted it: it terminates, and runs until `gone`.
    pub fn delete(&self) -> &Self {
        self.modify(|pod, now| {
            pod["metadata"]["deletionTimestamp"] = json!(now);
            pod["metadata"]["deletionGracePeriodSeconds"] = json!(30);
        })
    }

    /// It exists no more: the end of `delete`, or at once.
    ///
    /// # Panics
    /// It did not exist.
    pub fn gone(&self) -> &Self {
        let gone = self
            .shared
            .change(|store| store.remove(&self.template.key()));
        assert!(gone, "it is gone already: {self:?}");
        self
    }

    /// The object as it is, if it is.
    #[must_use]
    pub fn object(&self) -> Option<Value> {
        let state = self.shared.lock();
        let pod = state.store.get(&self.template.key());
        pod.map(|pod| Value::clone(pod))
    }

    /// Its uid.
    ///
    /// # Panics
    /// It does not exist.
    #[must_use]
    pub fn uid(&self) -> String {
        let pod = self.object().expect("it exists");
        pod["metadata"]["uid"]
            .as_str()
            .unwrap_or_default()
            .to_owned()
    }

    fn set_ready(&self, container: Option<&str>, ready: bool) -> &Self {
        self.modify(|pod, now| {
            for_statuses(pod, container, |status| status["ready"] = json!(ready));
            set_readiness(pod, now);
        })
    }
}

fn for_statuses(pod: &mut Value, container: Option<&str>, mut change: impl FnMut(&mut Value)) {
    let statuses = pod["status"]["containerStatuses"].as_array_mut();
    for status in statuses.into_iter().flatten() {
        if container.is_none_or(|name| status["name"] == name) {
            change(status);
        }
    }
}

/// The pod's readiness follows from its containers'.
fn set_readiness(pod: &mut Value, now: &str) {
    let mut ready = true;
    for_statuses(pod, None, |status| ready &= status["ready"] == true);
    for condition in ["ContainersReady", "Ready"] {
        set_condition(pod, condition, ready, now);
    }
}

fn set_condition(pod: &mut Value, kind: &str, holds: bool, now: &str) {
    let conditions = &mut pod["status"]["conditions"];
    if !conditions.is_array() {
        *conditions = json!([]);
    }
    let status = if holds { "True" } else { "False" };
    let condition = json!({"type": kind, "status": status, "lastTransitionTime": now});
    if let Some(conditions) = conditions.as_array_mut() {
        conditions.retain(|c| c["type"] != kind || c["status"] == status);
        if !conditions.iter().any(|c| c["type"] == kind) {
            conditions.push(condition);
        }
    }
}

fn set_entry(metadata: &mut Value, map: &str, key: &str, value: Option<&str>) {
    match value {
        Some(value) => metadata[map][key] = json!(value),
        None => {
            if let Some(map) = metadata[map].as_object_mut() {
                map.remove(key);
            }
        }
    }
}

fn container_id(name: &Value, now: &str) -> String {
    format!("containerd://{}-{now}", name.as_str().unwrap_or_default())
}

/// A time of its own for each version: so many seconds after the beginning of 2026.
fn time(version: u64) -> String {
    let (days, seconds) = (version / 86_400, version % 86_400);
    // Months of 28 days: times need to be valid and to grow, nothing more.
    let (year, month, day) = (2026 + days / 336, days / 28 % 12 + 1, days % 28 + 1);
    let (hour, minute, second) = (seconds / 3_600, seconds / 60 % 60, seconds % 60);
    format!("{year}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

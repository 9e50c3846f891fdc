//! The part of a Kubernetes API server that is asked for one Deployment: it is read, and replaced if the version that was read is
//! still the latest.
use serde_json::{Value, json};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};
use std::{fs, thread};

/// What is served.
#[derive(Debug)]
struct Served {
    deployment: Value,
    version: u64,
    /// How often it was replaced.
    writes: u32,
    /// Somebody else changes it right after the next time that it is read.
    contended: bool,
}

impl Served {
    fn get(&mut self) -> Value {
        let mut object = self.deployment.clone();
        object["metadata"]["resourceVersion"] = json!(self.version.to_string());
        if std::mem::take(&mut self.contended) {
            self.version += 1;
            self.deployment["metadata"]["labels"]["touched"] = json!("true");
        }
        object
    }

    fn put(&mut self, mut object: Value) -> Result<Value, (u16, String)> {
        let version = object["metadata"]["resourceVersion"].as_str();
        if version != Some(&self.version.to_string()) {
            return Err((409, "Conflict".to_owned()));
        }
        if object["spec"]["selector"] != self.deployment["spec"]["selector"] {
            return Err((422, "Invalid".to_owned()));
        }
        // A client does not write the status.
        object["status"] = self.deployment["status"].clone();
        self.deployment = object;
        self.version += 1;
        self.writes += 1;
        Ok(self.get())
    }
}

/// The server. Its threads end with the process.
#[derive(Debug)]
pub(crate) struct Api {
    address: SocketAddr,
    served: Arc<Mutex<Served>>,
}

impl Api {
    pub(crate) fn start(deployment: Value) -> Self {
        let served = Arc::new(Mutex::new(Served {
            deployment,
            version: 4711,
            writes: 0,
            contended: false,
        }));
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port is free");
        let address = listener.local_addr().expect("it is bound");
        let shared = Arc::clone(&served);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let shared = Arc::clone(&shared);
                // A client that goes in between has failed by itself.
                thread::spawn(move || drop(connection(&stream, &shared)));
            }
        });
        Self { address, served }
    }

    fn served(&self) -> MutexGuard<'_, Served> {
        self.served.lock().expect("no thread panics with it")
    }

    /// The Deployment as it is, without what the server adds.
    pub(crate) fn deployment(&self) -> Value {
        let mut object = self.served().deployment.clone();
        let metadata = object["metadata"].as_object_mut().expect("an object");
        metadata.remove("resourceVersion");
        object
    }

    /// Somebody changes it.
    pub(crate) fn change(&self, change: impl FnOnce(&mut Value)) {
        let mut served = self.served();
        change(&mut served.deployment);
        served.version += 1;
    }

    pub(crate) fn contend(&self) {
        self.served().contended = true;
    }

    pub(crate) fn writes(&self) -> u32 {
        self.served().writes
    }

    pub(crate) fn kubeconfig(&self, folder: &Path) -> PathBuf {
        let path = folder.join("kubeconfig");
        let text = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "here",
            "clusters": [{"name": "here", "cluster": {"server": format!("http://{}", self.address)}}],
            "contexts": [{"name": "here", "context": {"cluster": "here", "user": "me", "namespace": "models"}}],
            "users": [{"name": "me", "user": {}}],
        });
        fs::write(&path, text.to_string()).expect("the folder is ours");
        path
    }
}

fn connection(stream: &TcpStream, served: &Mutex<Served>) -> io::Result<()> {
    let mut reader = BufReader::new(stream);
    loop {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            if reader.read_line(&mut head)? == 0 {
                return Ok(());
            }
        }
        let mut words = head.split(' ');
        let (method, target) = (words.next().unwrap_or(""), words.next().unwrap_or(""));
        let path = target.split('?').next().unwrap_or("").to_owned();
        let length = head.lines().find_map(|line| {
            let (name, value) = line.split_once(':')?;
            let own = name.eq_ignore_ascii_case("content-length");
            own.then(|| value.trim().parse().ok()).flatten()
        });
        let mut body = vec![0; length.unwrap_or(0)];
        reader.read_exact(&mut body)?;
        let mut served = served.lock().expect("no thread panics with it");
        let (status, answer) = match answer(&mut served, method, &path, &body) {
            Ok(answer) => (200, answer),
            Err((code, reason)) => {
                let status = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure",
                    "reason": reason, "code": code, "message": format!("{method} {path}: {reason}")});
                (code, status)
            }
        };
        drop(served);
        let text = answer.to_string();
        let head = format!(
            "HTTP/1.1 {status} x\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
            text.len()
        );
        let mut writer = stream;
        writer.write_all(format!("{head}{text}").as_bytes())?;
    }
}

fn answer(
    served: &mut Served,
    method: &str,
    path: &str,
    body: &[u8],
) -> Result<Value, (u16, String)> {
    let name = served.deployment["metadata"]["name"].as_str();
    let own = format!(
        "/apis/apps/v1/namespaces/models/deployments/{}",
        name.unwrap_or_default()
    );
    let group = json!({"groupVersion": "apps/v1", "version": "v1"});
    match (method, path) {
        ("GET", "/api") => Ok(json!({"kind": "APIVersions", "versions": ["v1"]})),
        ("GET", "/api/v1") => {
            Ok(json!({"kind": "APIResourceList", "groupVersion": "v1", "resources": []}))
        }
        ("GET", "/apis") => Ok(
            json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": [
            {"name": "apps", "versions": [group], "preferredVersion": group}]}),
        ),
        ("GET", "/apis/apps/v1") => Ok(json!({"kind": "APIResourceList", "apiVersion": "v1",
            "groupVersion": "apps/v1", "resources": [{"name": "deployments", "singularName": "deployment",
            "namespaced": true, "kind": "Deployment", "shortNames": ["deploy"],
            "verbs": ["get", "update"]}]})),
        ("GET", path) if path == own => Ok(served.get()),
        ("PUT", path) if path == own => {
            let object = serde_json::from_slice(body);
            served.put(object.map_err(|error| (400, error.to_string()))?)
        }
        _ => Err((404, "NotFound".to_owned())),
    }
}

//! The settings in a ConfigMap: the node itself says whether they are right.
use crate::objects::{list, of};
use kvroute::config::{Config, Given, SettingsFile};
use kvroute_tests::apiserver::{ApiServer, TOKEN};
use serde_json::Value;
use std::fs;
use std::io::{self, Write as _};
use std::path::PathBuf;
use std::process::Command;

/// The text of `kvroute.yaml`, out of the only ConfigMap that has one.
#[track_caller]
pub(crate) fn text(objects: &[Value]) -> &str {
    let maps = of(objects, "ConfigMap");
    let mut texts = maps
        .iter()
        .filter_map(|m| m["data"]["kvroute.yaml"].as_str());
    let text = texts.next().expect("a ConfigMap has the settings");
    assert!(texts.next().is_none(), "two have settings");
    text
}

/// What the settings come to.
#[track_caller]
pub(crate) fn resolve(text: &str) -> Config {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("kvroute.yaml");
    fs::write(&path, text).expect("the folder is ours");
    let file = SettingsFile::read(&path).expect("a file of settings");
    let given = Given {
        file,
        ..Given::default()
    };
    let config = given.resolve().expect("settings that hold together");
    let warnings = given.warnings(&config);
    assert!(warnings.is_empty(), "{warnings:?}");
    config
}

/// `kvroute`, where cargo leaves it beside the tests: there after all packages were built.
pub(crate) fn binary() -> Option<PathBuf> {
    let test = std::env::current_exe().expect("a test is a program");
    let found = test.ancestors().nth(2).map(|folder| folder.join("kvroute"));
    let found = found.filter(|file| file.is_file());
    if found.is_none() {
        let ci = std::env::var("CI").as_deref() == Ok("true");
        assert!(!ci, "kvroute is not built beside {}", test.display());
        let _ = writeln!(io::stderr(), "SKIPPED: kvroute is not built");
    }
    found
}

/// `kvroute check-config` takes the settings with the container's variables, once the files that they name are there.
pub(crate) fn check_with_the_program(text: &str, container: &Value) {
    let Some(binary) = binary() else {
        return;
    };
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = |name: &str| folder.path().join(name);
    let write = |name: &str, text: &str| fs::write(path(name), text).expect("the folder is ours");
    let place = |of: &str| format!("{}/", path(of).display());
    let mut here = text.to_owned();
    for of in ["tokens", "admin-tokens", "tls"] {
        fs::create_dir(path(of)).expect("the folder is ours");
        here = here.replace(&format!("/etc/kvroute/{of}/"), &place(of));
    }
    here = here.replace("/var/lib/kvroute", folder.path().to_str().expect("UTF-8"));
    let pair = rcgen::generate_simple_self_signed(["kvroute".to_owned()]).expect("a certificate");
    write("tls/tls.crt", &pair.cert.pem());
    write("tls/tls.key", &pair.signing_key.serialize_pem());
    for of in ["tokens", "admin-tokens"] {
        write(
            &format!("{of}/tokens"),
            "0123456789abcdef0123456789abcdef\n",
        );
    }
    write("kvroute.yaml", &here);
    let server = ApiServer::start();
    let mut command = Command::new(binary);
    command.env_clear().args(["check-config", "--config"]);
    command.arg(path("kvroute.yaml"));
    if here.contains("kubernetes: true") {
        command.arg("--kubeconfig").arg(server.kubeconfig(TOKEN));
    }
    for variable in list(&container["env"]) {
        let value = variable["value"].as_str().unwrap_or("4711");
        command.env(variable["name"].as_str().expect("a name"), value);
    }
    let output = command.output().expect("it runs");
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{told}\n{here}");
}
